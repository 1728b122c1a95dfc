"""Gather runs and evaluations into the ledger, and the two result tables that the paper names.

The settings section `campaigns` says which runs there are; their files are looked for below the parent of
--out-dir unless --runs and --evaluations name them.
"""

from pathlib import Path
from typing import Any

from aletheia import artifacts, ledger, pairs, uniformity
from aletheia.cli import step_parser
from aletheia.errors import UserError, guarded


def default_paths(campaigns: list[dict[str, Any]], root: Path) -> tuple[list[Path], list[Path]]:
    """Return where the study keeps the runs of the campaigns, and their evaluations."""
    runs, evaluations = set(), set()
    for run in (run for campaign in campaigns for run in ledger.planned_runs(campaign)):
        place = f"{run['model']}/{run['arm']}/seed{run['seed']}"
        runs.add(root / "train" / place / "run.json")
        for benchmark in run["benchmarks"]:
            evaluations.add(root / "evaluate" / place / f"{benchmark}.json")
            evaluations.add(root / "evaluate" / run["model"] / ledger.BASE / f"{benchmark}.json")
    return sorted(runs), sorted(evaluations)


def read_by(paths: list[Path], kind: str, *key: str) -> dict[tuple[Any, ...], dict[str, Any]]:
    """Return the envelopes by the payload's values of ``key``."""
    envelopes = (artifacts.read(path, kind) for path in paths)
    return {tuple(envelope["payload"][name] for name in key): envelope for envelope in envelopes}


def main() -> None:
    parser = step_parser("aggregate", __doc__)
    parser.add_argument("--runs", type=Path, nargs="*", help="run.json of each run")
    parser.add_argument("--evaluations", type=Path, nargs="*", help="of the runs and of their base models")
    parser.add_argument("--out-dir", type=Path, default=Path("results/aggregate"))
    args = parser.parse_args()
    campaigns = args.config.get("campaigns")
    if not campaigns:
        raise UserError("aggregate: expected the settings section campaigns (a list), found none; see --help")
    runs, evaluations = default_paths(campaigns, args.out_dir.parent)
    runs, evaluations = args.runs or runs, evaluations if args.evaluations is None else args.evaluations
    reports = {report for campaign in campaigns for report in campaign["reports"]}
    views = {"ledger.csv": lambda table: table}
    if "speed" in reports:
        views["RESULTS_MASTER.csv"] = pairs.results_master
    if reports & {"downstream", "compute_matched"}:
        views["RESULTS_CAMPAIGN2.csv"] = pairs.results_runs
    outputs = [args.out_dir / name for name in views]
    with artifacts.Job(args, inputs=[*runs, *evaluations], outputs=outputs) as job:
        if job.done:
            return
        trained = read_by(runs, "run", "model", "arm", "seed")
        evaluated = read_by(evaluations, "evaluation", "model", "arm", "seed", "benchmark")
        mixed = {}
        for campaign in campaigns:
            rows = uniformity.mixed_rows(campaign, trained, evaluated)
            uniformity.check_uniform(campaign, rows)
            mixed |= {(campaign["name"], *key): what for key, what in rows.items()}
        for key, what in mixed.items():
            print(f"note: {'/'.join(map(str, key))} was made by other {what}")
        table = ledger.build_ledger(campaigns, trained, evaluated, mixed)
        for path, view in zip(outputs, views.values(), strict=True):
            frame = view(table)
            job.artifact(
                path,
                write=lambda temporary, frame=frame: ledger.write_csv(frame, temporary),
                about={"rows": len(frame), "columns": list(frame.columns)},
            )


if __name__ == "__main__":
    guarded(main)
