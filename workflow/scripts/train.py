"""Train the adapters of one run: all layers (std), the selection (ale), or the selection for more steps (cm)."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from aletheia.argument_types import whole_number
from aletheia.cli import SEED, THREADS, step_parser
from aletheia.errors import run_main
from aletheia.provenance.job import Job

if TYPE_CHECKING:
    from aletheia.training.run_inputs import RunInputs
    from aletheia.training.trainer import TimeRatio


def arguments() -> argparse.Namespace:
    """Return the arguments of the command line."""
    parser = step_parser(
        "train", __doc__, script=__file__, sections=("run", "model", "encoding", "adapter", "arm", "training")
    )
    parser.add_argument("--model-lock", type=Path, required=True, help="lock file of the staged model")
    parser.add_argument("--data-lock", type=Path, required=True, help="lock file of the staged training data")
    parser.add_argument("--tokens", type=Path, nargs="?", help="table of the tokens step; encoded here without it")
    parser.add_argument("--precision", type=Path, nargs="?", help="artifact of the precision step (model.dtype auto)")
    parser.add_argument("--selection", type=Path, nargs="?", help="artifact of the select step; all layers without it")
    parser.add_argument("--probe", type=Path, nargs="?", help="artifact of the probe, whose time counts for this arm")
    parser.add_argument("--std-run", type=Path, nargs="?", help="run.json of arm std (steps: measured)")
    parser.add_argument("--ale-run", type=Path, nargs="?", help="run.json of arm ale (steps: measured)")
    parser.add_argument("--trials", type=Path, nargs="*", default=[], help="run.json of learning_rate.best_of's arms")
    parser.add_argument("--costs", type=Path, nargs="?", help="artifact of the attribution (steps.seconds_of)")
    parser.add_argument("--timed-selection", type=Path, nargs="?", help="selection of the arm that seconds_of names")
    parser.add_argument("--turns", type=Path, nargs="?", help="this recipe in turns with std, for a search's trial")
    parser.add_argument("--batches", type=Path, nargs="?", help="artifact of the batches step; drawn here without it")
    parser.add_argument("--seed", type=SEED, required=True, help="draws batches, starting values and dropout")
    parser.add_argument("--threads", type=THREADS, default=1, help="threads for torch")
    parser.add_argument("--out", type=Path, required=True, help="run.json to write")
    parser.add_argument("--adapter", type=Path, required=True, help="folder for the adapter")
    parser.add_argument("--events", type=Path, nargs="?", help="folder for TensorBoard events; none without it")
    parser.add_argument(
        "--tensorboard", type=int, choices=(0, 1), default=1, help="0 for no events (default: %(default)s)"
    )
    parser.add_argument(
        "--prefix-mib",
        type=whole_number(1),
        help="what the states of the frozen prefix may take, in MiB (training.prefix_cache_gib when absent)",
    )
    parser.add_argument(
        "--checkpoint-seconds",
        type=whole_number(-1),
        default=300,
        help="time between checkpoints, -1 for none (default: %(default)s)",
    )
    return parser.parse_args()


def main() -> None:
    """Run the step."""
    args = arguments()
    optional = [args.tokens, args.precision, args.selection, args.probe, args.batches, args.std_run, args.ale_run]
    optional += [args.costs, args.timed_selection, args.turns]
    inputs = [args.model_lock, args.data_lock, *filter(None, optional), *args.trials]
    # run.json is written last: where it stands, the adapter is whole.
    with Job(args.step, inputs=inputs, outputs=[args.out, args.adapter]) as job:
        if job.done:
            return
        from aletheia.method import loading
        from aletheia.training import checkpoints, prefix_choice, run
        from aletheia.training.run_inputs import RunInputs

        loading.leave_out_bitsandbytes(args.model_lock, job.config["model"]["quantization"])
        loading.use_threads(args.threads)
        checkpoint = checkpoints.checkpoint_of(args.out, job.fingerprint, seconds=args.checkpoint_seconds)
        # A rule passes it as a resource, whose change reruns nothing.
        stated = job.config["training"].get("prefix_cache_gib", prefix_choice.DEFAULT_GIB)
        gib = args.prefix_mib / 1024 if args.prefix_mib else stated
        given = RunInputs(
            model_lock=job.input(args.model_lock, "model_lock"),
            data_lock=job.input(args.data_lock, "data_lock"),
            seed=args.seed,
            tokens=args.tokens,
            precision=job.input(args.precision, "precision"),
            selection=job.input(args.selection, "selection"),
            probe=job.input(args.probe, "probe"),
            batches=job.input(args.batches, "batches"),
            std_run=job.input(args.std_run, "run"),
            ale_run=job.input(args.ale_run, "run"),
            trials=[job.input(path, "run") for path in args.trials],
            prefix=prefix_choice.PrefixPlace.beside(args.model_lock, gib),
        )
        ratio = _time_ratio(job, args, given) if args.costs or args.turns else None
        events = args.events if args.tensorboard else None
        finished = run.execute(given, job.config, checkpoint, time_ratio=ratio, events=events)
        card = finished.card(given, job.config, job.lineage)
        job.write_file(args.adapter, write=lambda folder: finished.save_adapter(folder, card), about=finished.about())
        payload = finished.payload(args.adapter)
        reason = f" ({payload['reason']})" if payload["reason"] else ""
        print(f"run: {payload['status']}{reason}, held-out loss {payload['eval_loss']}")
        job.write_json(args.out, kind="run", payload=payload, observed=finished.observed)
        checkpoint.remove()


def _time_ratio(job: Job, args: argparse.Namespace, given: RunInputs) -> TimeRatio:
    """Return the time of a step of the arm that ``steps.seconds_of`` names, over that of the run's own."""
    from aletheia.timing.equal_time import ratio_in_turns, time_ratio

    if args.turns:
        return ratio_in_turns(job.input(args.turns, "paired"))
    timed = job.input(args.timed_selection, "selection")
    costs = job.input(args.costs, "attribution")
    return time_ratio(costs, job.config, given.model_lock, selection=given.selection, timed_selection=timed)


if __name__ == "__main__":
    run_main(main)
