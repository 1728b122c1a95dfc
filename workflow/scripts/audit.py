"""Say what would have to be made again, why, and how long that took the last time.

What Snakemake's dry run plans, and what no dry run sees: files that were changed, deleted or added by hand, and results
that other code or settings made while Snakemake has no record of it.

Ends with status 0 where there is nothing to do, 1 where there is something, 2 where it cannot be told; 0 too where
nothing can be done, since the results are another study's.
"""

from __future__ import annotations

import argparse
import json
import signal
import sys
from dataclasses import asdict
from pathlib import Path

from aletheia.audit.audit import Audit, AuditRow, audit
from aletheia.errors import run_main

HEADINGS = ("artifact", "rule", "cost", "what changed")
# So many changes of one artifact are shown; --json has all.
SHOWN = 4


def main() -> None:
    """Audit, print the table, and end with status 1 where there is something to do."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--configfile", type=Path, nargs="+", action="extend", default=[], help="as given to snakemake")
    parser.add_argument("--json", action="store_true", help="print all as JSON")
    args = parser.parse_args()
    # Whoever reads the table may stop early, as head does.
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    found = audit(args.configfile)
    if args.json:
        print(json.dumps({**asdict(found), "seconds": found.seconds}, indent=1, ensure_ascii=False))
    else:
        report(found)
    raise SystemExit(1 if found.rows and not found.other_study else 0)


def report(found: Audit) -> None:
    """Print an audit for people."""
    if found.rows:
        table = show if sys.stdout.isatty() else write
        table([cells(row) for row in found.rows])
        print(f"\n{total(found)}")
    else:
        print("nothing to do: every artifact is whole, and made by the present code and settings")
    for note in [*found.notes, *found.busy]:
        print(f"note: {note}")
    if found.other_study:
        print(f"note: this is planned, but a run would stop at its start: {found.other_study}")


def cells(row: AuditRow) -> tuple[str, str, str, str]:
    """Return a row's four cells."""
    more = [f"and {len(row.changes) - SHOWN} more"] if len(row.changes) > SHOWN else []
    why = "; ".join([*row.changes[:SHOWN], *more, *filter(None, [row.remedy])])
    return row.artifact, row.rule, duration(row.seconds, row.estimated), why


def duration(seconds: float | None, estimated: bool) -> str:
    """Return seconds in the unit that reads best; ~ marks an estimate."""
    if seconds is None:
        return ""
    unit, size = next((u, s) for u, s in (("h", 3600), ("min", 60), ("s", 1)) if seconds >= 2 * s or s == 1)
    return f"{'~' if estimated else ''}{seconds / size:.1f} {unit}"


def total(found: Audit) -> str:
    """Return the last line: how many rows, and the time of all."""
    estimated = any(row.estimated for row in found.rows)
    unknown = sum(row.seconds is None and row.kind == "rerun" for row in found.rows)
    left_out = f", and {unknown} that nothing has measured yet" if unknown else ""
    return f"{len(found.rows)} rows; {duration(found.seconds, estimated)} of work, one job after another{left_out}"


def show(rows: list[tuple[str, str, str, str]]) -> None:
    """Print a table for a terminal, whose long cells wrap."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(*HEADINGS)
    for row in rows:
        # As text, since what stands in brackets in paths and settings is no markup.
        table.add_row(*map(Text, row))
    table.columns[2].justify = "right"
    Console().print(table)


def write(rows: list[tuple[str, str, str, str]]) -> None:
    """Print aligned columns; the last one is as long as it is."""
    lines = [HEADINGS, *rows]
    widths = [max(len(line[column]) for line in lines) for column in range(3)]
    for artifact, rule, cost, why in lines:
        print(f"{artifact:<{widths[0]}}  {rule:<{widths[1]}}  {cost:>{widths[2]}}  {why}")


if __name__ == "__main__":
    run_main(main)
