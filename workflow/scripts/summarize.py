"""Say where a finished study's ledger, tables and figures are, and what it found."""

from __future__ import annotations

import argparse
from pathlib import Path

from aletheia.errors import UserError, run_main
from aletheia.study.report_contents import FINDINGS


def main() -> None:
    """Print the summary."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("results", type=Path, nargs="?", default=Path("results"), help="the study's results")
    args = parser.parse_args()
    stats = args.results / "stats"
    if not (stats / "summary.json").is_file():
        raise UserError(f"{stats / 'summary.json'}: expected a finished study and found none; run snakemake first")
    for name, pattern in (("ledger", "aggregate/*.csv"), ("tables", "tables/*.md"), ("figures", "figures/*.pdf")):
        print(f"{name:8}", *sorted(map(str, args.results.glob(pattern))), sep="\n  ")
    print(f"analyses\n  {stats}\n")
    found = stats / FINDINGS
    print(found.read_text(encoding="utf-8").strip() if found.is_file() else "No arm was compared with std.")


if __name__ == "__main__":
    run_main(main)
