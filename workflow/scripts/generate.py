"""Evaluate one run, or the base model, on benchmarks whose answers are generated: with vLLM, on GPUs, offline."""

from __future__ import annotations

from aletheia import evaluated, serving
from aletheia.backends import VLLM
from aletheia.cli import evaluation_arguments, step_parser
from aletheia.errors import guarded


def main() -> None:
    """Run the step."""
    parser = step_parser("generate", __doc__, sections=("model", "encoding", "evaluation"))
    evaluated.evaluate_run(evaluation_arguments(parser), serving.load_served, generation=VLLM, padding="none")


if __name__ == "__main__":
    guarded(main)
