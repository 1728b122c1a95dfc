"""Stage one model or data set: fetch or make it once, and lock it (source, revision, sha256 of each file).

By hand:

    stage.py model smollm2-135m --out resources/models/smollm2-135m.lock.json
    stage.py data mine --out resources/data/mine.lock.json --set data.source.type=local
    data.source.path=mine.jsonl
"""

from __future__ import annotations

import difflib
import os
import sys
from pathlib import Path
from typing import Any

from aletheia.cli import step_parser
from aletheia.errors import UserError, run_main
from aletheia.provenance import start
from aletheia.provenance.job import Job
from aletheia.provenance.staged_files import LOCK, checked_folder
from aletheia.staging.local_paths import check_paths, local_inputs
from aletheia.staging.stage import stage_data, stage_model
from aletheia.study.registry_entries import check_source

REGISTRIES = {"model": Path("config/models.yaml"), "data": Path("config/data.yaml")}


def registry_entry(what: str, name: str) -> dict[str, Any]:
    """Return a registry's entry, for calls by hand (a rule passes it)."""
    from aletheia.study.registries import read_data, read_models

    path = REGISTRIES[what]
    read = {"model": read_models, "data": read_data}[what]
    entries = read(path) if path.is_file() else {}
    if name not in entries:
        near = difflib.get_close_matches(name, entries, n=1)
        raise UserError(
            f"{path}: expected an entry {name!r} and found none"
            + (f"; did you mean {near[0]!r}?" if near else f" (there are {', '.join(entries) or 'no entries'})")
        )
    return entries[name]


def intact(lock: Path) -> bool:
    """Tell whether the folder of a lock is still what the lock says."""
    try:
        checked_folder(lock)
    except UserError:
        return False
    return True


def main() -> None:
    """Stage what the arguments name."""
    parser = step_parser("stage", __doc__, script=__file__)
    parser.add_argument("what", choices=sorted(REGISTRIES), help="which registry")
    parser.add_argument("name", help="the registry's key")
    parser.add_argument(
        "--out", type=Path, required=True, help=f"the lock, NAME{LOCK}; the files go to NAME/ beside it"
    )
    args = parser.parse_args()
    if not sys.stderr.isatty():  # progress bars are noise in a log; read by tqdm when it is first imported
        os.environ.setdefault("TQDM_DISABLE", "1")
    if not args.out.name.endswith(LOCK):
        raise UserError(f"--out {args.out}: expected a path that ends in {LOCK}")
    if args.what not in args.config:
        args.config[args.what] = registry_entry(args.what, args.name)
    elif not args.lineage:
        from aletheia.study.registries import expect_entry

        expect_entry(args.what, args.name, args.config[args.what])
    check_source(args.what, args.name, args.config[args.what])
    check_paths(args.what, args.name, args.config[args.what])
    with Job(args.step, inputs=local_inputs(args.config[args.what]), outputs=[args.out]) as job:
        if job.done and intact(args.out):
            return
        start.work_begins()
        {"model": stage_model, "data": stage_data}[args.what](job, args.name, args.out)


if __name__ == "__main__":
    run_main(main)
