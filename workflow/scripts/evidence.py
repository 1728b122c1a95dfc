"""Put a finished study into one archive that can be checked elsewhere: artifacts, code, configuration, RO-Crate.

Weights stay out, named by hash, unless the configuration says `evidence: {adapters: true}`.
"""

from pathlib import Path

from aletheia.cli import step_parser
from aletheia.errors import run_main
from aletheia.provenance import start
from aletheia.provenance.job import Job


def main() -> None:
    parser = step_parser("evidence", __doc__, script=__file__)
    parser.add_argument("--out", type=Path, help="by default evidence/evidence.zip in the results folder")
    parser.add_argument(
        "--configfile", type=Path, nargs="*", action="extend", default=[], help="by hand: as given to snakemake"
    )
    args = parser.parse_args()
    from aletheia.audit import archive, crate, inventory
    from aletheia.audit import bundle as bundling

    if "study" not in args.config:
        args.config["study"] = inventory.read_configuration(args.configfile)
    bundle = bundling.collect(args.config["study"])
    out = args.out or Path(bundle.results) / "evidence" / "evidence.zip"
    inputs = map(Path, [*bundle.members, *bundle.given.values()])
    with Job(args.step, inputs=inputs, outputs=[out]) as job:
        if job.done:
            return
        start.work_begins()
        found = archive.envelopes(bundle)
        date = archive.latest(found.values())
        generated = archive.generated_files(bundle, job.lineage, date)
        generated[crate.METADATA_NAME] = archive.metadata_bytes(crate.describe(bundle, found, generated, date))
        generated[archive.SUMS_NAME] = archive.sums(bundle.members, generated)
        job.write_file(
            out,
            write=lambda path: archive.write_archive(path, bundle.members, generated, date),
            about={"files": len(bundle.members) + len(generated), "omitted": len(bundle.omitted)},
        )


if __name__ == "__main__":
    run_main(main)
