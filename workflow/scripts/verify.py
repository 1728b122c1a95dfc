"""Hold every artifact against its own hash, and against what the others recorded of it.

verify.py                              all of results/ and resources/
verify.py results/figures/fig1.pdf     that file and all that it was made from, down to weights and data
"""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict
from pathlib import Path

from aletheia import verification
from aletheia.errors import UserError, guarded

ROOTS = (Path("results"), Path("resources"))


def main() -> None:
    """Verify, print each finding, and end with status 1 where there is one."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("paths", type=Path, nargs="*", help="files whose ancestry is checked; everything when absent")
    parser.add_argument("--json", action="store_true", help="print the findings as JSON")
    args = parser.parse_args()
    if not args.paths and not any(root.is_dir() for root in ROOTS):
        raise UserError("expected a folder results or resources here and found none; run this where the study ran")
    if args.paths:
        findings, checked = verification.verify_files(verification.ancestry(args.paths))
    else:
        findings, checked = verification.verify_folders([root for root in ROOTS if root.is_dir()])
    if args.json:
        print(json.dumps({"checked": checked, "findings": [asdict(f) for f in findings]}, indent=1))
    else:
        print(*findings, f"{checked} artifacts checked, {len(findings)} findings", sep="\n")
    raise SystemExit(1 if findings else 0)


if __name__ == "__main__":
    guarded(main)
