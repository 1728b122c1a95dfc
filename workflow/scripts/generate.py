"""Evaluate one run, or the base model, on benchmarks whose answers are generated: with vLLM, on GPUs, offline."""

from __future__ import annotations

from aletheia.cli import evaluation_arguments, step_parser
from aletheia.errors import run_main
from aletheia.evaluation import evaluated_run, vllm_backend
from aletheia.study.evaluation_jobs import VLLM


def main() -> None:
    """Run the step."""
    parser = step_parser("generate", __doc__, script=__file__, sections=("model", "encoding", "evaluation"))
    step, paths, folder, threads = evaluation_arguments(parser)
    served = {"load": vllm_backend.load_served, "generation": VLLM, "padding": "none"}
    evaluated_run.evaluate_run(step, evaluated_run.EvaluationInputs(**paths), folder, threads=threads, **served)


if __name__ == "__main__":
    run_main(main)
