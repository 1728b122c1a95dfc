"""Show what a file was made from: artifact by artifact, down to weights, data, code and machine.

lineage.py results/figures/fig1.pdf                 as a tree
lineage.py results/figures/fig1.pdf --json          as nodes and edges
lineage.py results/figures/fig1.pdf --svg fig.svg   as a picture
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from rich.console import Console

from aletheia import ancestry, diagram, tree
from aletheia.errors import guarded

LONGEST_LINE = 10_000  # characters


def main() -> None:
    """Trace, show, and end with status 1 where something in the chain is not as it was recorded."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("paths", type=Path, nargs="+", help="artifacts, or files with a sidecar")
    parser.add_argument("--json", action="store_true", help="print nodes and edges as JSON")
    parser.add_argument("--svg", type=Path, metavar="FILE", help="draw the chain into FILE")
    args = parser.parse_args()
    graph = ancestry.trace(args.paths)
    if args.svg:
        args.svg.write_bytes(diagram.draw(graph))
    if args.json:
        print(json.dumps(ancestry.as_json(graph), indent=1, ensure_ascii=False))
    elif not args.svg:
        # A line of a pipe is as long as it must be; a terminal wraps.
        width = None if sys.stdout.isatty() else LONGEST_LINE
        tree.print_ancestry(graph, Console(highlight=False, width=width))
    raise SystemExit(1 if any(node.status in ("changed", "missing") for node in graph.nodes.values()) else 0)


if __name__ == "__main__":
    guarded(main)
