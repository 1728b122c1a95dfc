"""Show what a file was made from: artifact by artifact, down to weights, data, code and machine.

lineage.py results/figures/fig1.pdf                 as a summary and a tree
lineage.py results/figures/fig1.pdf --depth 2       the tree cut below its second level
lineage.py results/figures/fig1.pdf --json          as nodes and edges
lineage.py results/figures/fig1.pdf --svg fig.svg   as a picture
"""

from __future__ import annotations

import argparse
import json
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from aletheia.argument_types import whole_number
from aletheia.errors import UserError, run_main

if TYPE_CHECKING:
    from aletheia.audit.lineage_graph import Graph

LONGEST_LINE = 10_000  # characters


def main() -> None:
    """Trace, show, and end with status 1 where something in the chain is not as it was recorded."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("paths", type=Path, nargs="+", help="artifacts, or files with a sidecar")
    parser.add_argument("--depth", type=whole_number(0), metavar="N", help="levels of the tree below each file")
    parser.add_argument("--json", action="store_true", help="print nodes, edges and the summary as JSON")
    parser.add_argument("--svg", type=Path, metavar="FILE", help="draw the chain into FILE")
    args = parser.parse_args()
    if args.depth is not None and (args.json or args.svg):
        raise UserError(
            "--depth: expected no --json and no --svg beside it, since it cuts the tree alone; leave it out"
        )
    from rich.console import Console

    from aletheia.audit import inventory, lineage_graph, lineage_summary, lineage_text

    # Whoever reads the tree may stop early, as head does.
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    graph = lineage_graph.trace(args.paths, inventory.results_folder())
    if args.svg:
        write_picture(graph, args.svg)
    if args.json:
        everything = {**lineage_graph.as_json(graph), "summary": lineage_summary.summarise(graph)}
        print(json.dumps(everything, indent=1, ensure_ascii=False))
    elif not args.svg:
        # A line of a pipe is as long as it must be; a terminal wraps.
        width = None if sys.stdout.isatty() else LONGEST_LINE
        lineage_text.print_ancestry(graph, Console(highlight=False, width=width), depth=args.depth)
    raise SystemExit(1 if any(node.status in ("changed", "missing") for node in graph.nodes.values()) else 0)


def write_picture(graph: Graph, path: Path) -> None:
    """Draw the chain into a file, but never over a file of the study."""
    from aletheia.audit import lineage_svg
    from aletheia.audit.sidecars import envelope_of
    from aletheia.provenance.artifacts import SIDECAR
    from aletheia.provenance.atomic_write import atomic_path

    # A folder's sidecar vouches for all that lies in it.
    vouched = any(Path(f"{above}{SIDECAR}").is_file() for above in (path, *path.parents))
    if vouched or envelope_of(path) or path.as_posix() in graph.nodes:
        raise UserError(f"--svg {path}: expected a file of your own, found one of the study's; choose another name")
    if path.is_dir() or not path.parent.is_dir():
        raise UserError(f"--svg {path}: expected a file in a folder that is there; choose another place")
    with atomic_path(path) as temporary:
        temporary.write_bytes(lineage_svg.render_svg(graph))


if __name__ == "__main__":
    run_main(main)
