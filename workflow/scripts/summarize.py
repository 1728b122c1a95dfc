"""Say where a finished study's ledger, tables and figures are, and what speedup it measured."""

from __future__ import annotations

import argparse
from pathlib import Path

from aletheia.errors import UserError, guarded
from aletheia.provenance import artifacts
from aletheia.report.headline import headline


def main() -> None:
    """Print the summary."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("results", type=Path, nargs="?", default=Path("results"), help="the study's results")
    args = parser.parse_args()
    summary = args.results / "stats" / "summary.json"
    if not summary.is_file():
        raise UserError(f"{summary}: expected a finished study and found none; run snakemake first")
    for name, pattern in (("ledger", "aggregate/*.csv"), ("tables", "tables/*.md"), ("figures", "figures/*.pdf")):
        print(f"{name:8}", *sorted(map(str, args.results.glob(pattern))), sep="\n  ")
    print(f"analyses\n  {args.results / 'stats'}")
    print(headline(artifacts.payload(summary, "stats")))


if __name__ == "__main__":
    guarded(main)
