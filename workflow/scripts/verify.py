"""Hold every artifact against its own hash, its place, what others recorded of it, and what the study asks for.

verify.py                              all of results/ and resources/, for the study of config/config.yaml
verify.py --configfile my-study.yaml   the same for a study that was run with this --configfile
verify.py results/figures/fig1.pdf     that file and all that it was made from, down to weights and data

Ends with status 0 where all is well, 1 where something was found, 2 where it cannot be told. A whole artifact that no
run of the study asks for is only noted.
"""

from __future__ import annotations

import argparse
import json
import signal
import sys
from dataclasses import asdict
from pathlib import Path

try:
    import jsonschema  # noqa: F401 - not before the first artifact is read otherwise

    from aletheia.audit import inventory, sidecars, verification
    from aletheia.errors import UserError, run_main
except ModuleNotFoundError as error:
    # Where a bundle is checked, nothing need be installed but this.
    print(f"error: expected the package {error.name} and found none; pip install jsonschema pyyaml", file=sys.stderr)
    raise SystemExit(2) from None

ROOTS = (Path("results"), Path("resources"))


def verified(args: argparse.Namespace) -> verification.Verified:
    """Verify what the arguments ask for."""
    if args.paths:
        results = inventory.results_folder(args.configfile)
        return verification.verify_files(sidecars.ancestry(args.paths), named=args.paths, results=results)
    if inventory.CONFIG.is_file() or args.configfile:
        study = inventory.load_inventory(args.configfile)
        roots = (Path(study.results), Path(study.resources))
        _expect_one(roots)
        return inventory.verify_study(study)
    _expect_one(ROOTS)
    note = verification.Finding(
        str(inventory.CONFIG), "not there, so files that are missing are not known", kind="configuration"
    )
    found = verification.verify_folders(ROOTS)
    return verification.Verified(found.findings, [note], found.checked, found.omitted)


def _expect_one(roots: tuple[Path, ...]) -> None:
    if not any(root.is_dir() for root in roots):
        names = " or ".join(map(str, roots))
        raise UserError(f"expected a folder {names} here and found none; run this where the study ran")


def main() -> None:
    """Verify, print each finding, and end with status 1 where there is one."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("paths", type=Path, nargs="*", help="files whose ancestry is checked; everything when absent")
    # One file each time: what follows is a path to verify.
    parser.add_argument("--configfile", type=Path, action="append", default=[], help="as given to snakemake")
    parser.add_argument("--json", action="store_true", help="print the findings as JSON, each of them")
    args = parser.parse_args()
    # Whoever reads the findings may stop early, as head does.
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    found = verified(args)
    if args.json:
        print(json.dumps(asdict(found), indent=1))
    else:
        print(*inventory.condense(found.findings), sep="\n", end="\n" if found.findings else "")
        print(*(f"note: {line}" for line in inventory.condense(found.notes)), sep="\n", end="\n" if found.notes else "")
        left_out = f", {found.omitted} files left out of this bundle" if found.omitted else ""
        print(f"{found.checked} artifacts checked, {len(found.findings)} findings{left_out}")
    raise SystemExit(1 if found.findings else 0)


if __name__ == "__main__":
    run_main(main)
