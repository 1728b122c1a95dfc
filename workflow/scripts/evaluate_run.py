"""Evaluate one run, or the base model: all its benchmarks in one process, the model loaded once."""

from __future__ import annotations

from aletheia import evaluated
from aletheia.cli import step_parser
from aletheia.errors import guarded
from aletheia.lineage import task_files


def main() -> None:
    """Run the step."""
    parser = step_parser("evaluate", __doc__, sections=("model", "encoding", "evaluation"), extra_code=task_files())
    evaluated.evaluate_run(evaluated.arguments(parser))


if __name__ == "__main__":
    guarded(main)
