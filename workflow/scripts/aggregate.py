"""Gather runs and evaluations into the ledger and the paper's two result tables, probes into layers.csv, and answers
into answers.parquet.

The settings section `campaigns` says which runs there are, `published_scores` what the base models' scores are held
against; the files of the runs are looked for below the parent of
--out-dir unless --runs and --evaluations name them (these leave answers.parquet out).
"""

from pathlib import Path

from aletheia.cli import step_parser
from aletheia.errors import UserError, run_main
from aletheia.provenance import start
from aletheia.provenance.job import Job
from aletheia.study.campaign_artifacts import campaign_artifacts, digest_of_paths
from aletheia.study.paths import Paths
from aletheia.study.report_contents import ANSWER_TABLE


def main() -> None:
    parser = step_parser("aggregate", __doc__, script=__file__)
    parser.add_argument("--runs", type=Path, nargs="*", help="run.json of each run")
    parser.add_argument("--evaluations", type=Path, nargs="*", help="of the runs and of their base models")
    parser.add_argument("--out-dir", type=Path, default=Path("results/aggregate"))
    args = parser.parse_args()
    from aletheia.analysis import aggregate, answers, ledger

    campaigns, root = args.config.get("campaigns"), args.out_dir.parent
    if not campaigns:
        raise UserError("aggregate: expected the settings section campaigns (a list), found none; see --help")
    paths = Paths(results=root.as_posix())
    found = campaign_artifacts(campaigns, paths, runs=args.runs, evaluations=args.evaluations)
    if args.declared_inputs not in (None, digest_of_paths(found.paths)):
        # Snakemake would not make, or make again, what is read and not declared.
        raise RuntimeError("rule aggregate declares other inputs than the artifacts of its campaigns, which are read")
    names = aggregate.tables(campaigns) + ([ANSWER_TABLE] if found.answers else [])
    outputs = [args.out_dir / name for name in names]
    with Job(args.step, inputs=found.paths, outputs=outputs) as job:
        if job.done:
            return
        start.work_begins()
        published = args.config.get("published_scores")
        for name, frame in aggregate.gather_tables(campaigns, found, job.input, published=published).items():
            write = answers.write_answers if name == ANSWER_TABLE else ledger.write_csv
            job.write_file(
                args.out_dir / name,
                write=lambda temporary, frame=frame, write=write: write(frame, temporary),
                about={"rows": len(frame), "columns": list(frame.columns)},
            )


if __name__ == "__main__":
    run_main(main)
