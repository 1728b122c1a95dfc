"""Evaluate one run, or the base model: all its benchmarks in one process, the model loaded once."""

from __future__ import annotations

from aletheia.cli import evaluation_arguments, step_parser
from aletheia.errors import run_main
from aletheia.evaluation import evaluated_run
from aletheia.method import loading


def main() -> None:
    """Run the step."""
    parser = step_parser("evaluate", __doc__, script=__file__, sections=("model", "encoding", "evaluation"))
    step, paths, folder, threads = evaluation_arguments(parser)
    loading.leave_out_bitsandbytes(paths["model_lock"], step.config["model"]["quantization"])
    evaluated_run.evaluate_run(step, evaluated_run.EvaluationInputs(**paths), folder, threads=threads)


if __name__ == "__main__":
    run_main(main)
