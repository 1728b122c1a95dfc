"""Gather runs and evaluations into the ledger, and the two result tables that the paper names.

By hand: aggregate.py --runs results/train/*/*/*/run.json --evaluations results/evaluate/*/*/*.json
results/evaluate/*/*/*/*.json --lineage 'config:campaigns=[…]'
"""

from pathlib import Path

from aletheia import artifacts, ledger, pairs
from aletheia.cli import step_parser
from aletheia.errors import UserError, guarded


def main() -> None:
    parser = step_parser("aggregate", __doc__)
    parser.add_argument("--runs", type=Path, nargs="+", required=True, help="run.json of each run")
    parser.add_argument(
        "--evaluations", type=Path, nargs="*", default=[], help="evaluations, base models included"
    )
    parser.add_argument("--out-dir", type=Path, default=Path("results/aggregate"))
    args = parser.parse_args()
    campaigns = args.config.get("campaigns")
    if not campaigns:
        raise UserError("aggregate: expected the settings section campaigns (a list), found none; see --help")
    reports = {report for campaign in campaigns for report in campaign["reports"]}
    views = {"ledger.csv": lambda table: table}
    if "speed" in reports:
        views["RESULTS_MASTER.csv"] = pairs.results_master
    if reports & {"downstream", "compute_matched"}:
        views["RESULTS_CAMPAIGN2.csv"] = pairs.results_runs
    outputs = [args.out_dir / name for name in views]
    with artifacts.Job(args, inputs=[*args.runs, *args.evaluations], outputs=outputs) as job:
        if job.done:
            return
        runs, evaluations = {}, {}
        for path in args.runs:
            envelope = artifacts.read(path, "run")
            runs[tuple(envelope["payload"][k] for k in ("model", "arm", "seed"))] = envelope
        for path in args.evaluations:
            envelope = artifacts.read(path, "evaluation")
            evaluations[tuple(envelope["payload"][k] for k in ("model", "arm", "seed", "benchmark"))] = (
                envelope
            )
        table = ledger.build_ledger(campaigns, runs, evaluations)
        for path, view in zip(outputs, views.values(), strict=True):
            frame = view(table)
            job.artifact(
                path,
                write=lambda temporary, frame=frame: ledger.write_csv(frame, temporary),
                about={"rows": len(frame), "columns": list(frame.columns)},
            )


if __name__ == "__main__":
    guarded(main)
