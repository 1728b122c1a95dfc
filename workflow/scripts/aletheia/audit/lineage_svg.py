"""The ancestry of files as a picture: one column a step, from weights and data on the left to the file on the right.

Under each column stand the code, the environment and the machine that it comes from. A column with many files shows
groups of them. The bytes depend on the graph alone.

Laid out here and not by Graphviz or Mermaid: the first is a program that no package index has, the second a page of
scripts in a browser, and the picture is drawn wherever a study can be read, offline, and stands in an archive.
"""

from __future__ import annotations

import graphlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from xml.etree import ElementTree as ET

from aletheia.audit.lineage_graph import Graph, Node
from aletheia.audit.lineage_text import HASH_CHARACTERS, LOCKS, environment_names, origin

# In pixels, chosen by hand.
BOX_WIDTH, BOX_HEIGHT, GAP, COLUMN_GAP, MARGIN, HEAD, LINE = 200, 34, 10, 70, 24, 64, 12
LINE_CHARACTERS = 33  # of 6 pixels, that fit into a box
MAX_BOXES_PER_COLUMN = 12  # files a column; where there are more, they are grouped
SWEEPS = 4  # over all columns, each ordered by its neighbours; more change nothing visible
GIVEN_STEP = "given and staged files"
BORDERS = {"ok": "#4878a8", "omitted": "#c08a00", "missing": "#c62828", "changed": "#c62828"}
FILLS = {"ok": "#f4f8fc", "omitted": "#fff8e1", "missing": "#fdecea", "changed": "#fdecea"}
FONT = "font-family:DejaVu Sans Mono,Menlo,Consolas,monospace"

# From the finest to the coarsest: what files must share to stand in one box.
GROUPINGS: tuple[Callable[[Node], tuple], ...] = (
    lambda node: (node.path,),
    lambda node: (node.kind, node.about.get("arm"), node.about.get("benchmark")),
    lambda node: (node.kind, node.about.get("arm")),
    lambda node: (node.kind,),
)


@dataclass
class DiagramNode:
    """One file, or a group of files, of a column."""

    nodes: list[Node]
    column: int
    x: float = 0
    y: float = 0

    @property
    def status(self) -> str:
        """The worst status of its files."""
        return max((node.status for node in self.nodes), key=list(BORDERS).index)

    def lines(self) -> tuple[str, str]:
        """Return the folder and the name; for a group what its files are, and how many."""
        first = self.nodes[0]
        if len(self.nodes) == 1:
            folder, _, name = first.path.rpartition("/")
            return folder, name
        kind = "files" if first.kind == "file" else first.kind
        shared = ({node.about.get(key) for node in self.nodes} for key in ("arm", "benchmark"))
        words = [values.pop() for values in shared if len(values) == 1]
        wrong = sum(node.status != "ok" for node in self.nodes)
        name = " ".join([kind, *(word for word in words if word), f"×{len(self.nodes)}"])
        return (f"{wrong} {self.status}" if wrong else ""), name

    def title(self) -> str:
        """Return the tooltip of the box."""
        return "\n".join(
            f"{n.path}\n  sha256 {n.sha256}" + (f"\n  {n.status}: {n.problem}" if n.problem else "") for n in self.nodes
        )


def render_svg(graph: Graph) -> bytes:
    """Return the picture of a graph as SVG."""
    steps = _steps(graph)
    columns = [_boxes([n for n in graph.nodes.values() if _step(n) == s], i) for i, s in enumerate(steps)]
    box_of = {node.path: box for column in columns for box in column for node in box.nodes}
    arrows = _arrows(graph, box_of)
    _lay_out(columns, arrows)
    panels = [_panel([n for n in graph.nodes.values() if _step(n) == step]) for step in steps]
    tallest = max(box.y + BOX_HEIGHT for column in columns for box in column)
    width = 2 * MARGIN + len(steps) * BOX_WIDTH + (len(steps) - 1) * COLUMN_GAP
    height = tallest + 2 * MARGIN + LINE * max(map(len, panels))
    size = {"width": str(width), "height": f"{height:g}", "viewBox": f"0 0 {width} {height:g}"}
    svg = ET.Element("svg", {"xmlns": "http://www.w3.org/2000/svg", **size})
    ET.SubElement(svg, "rect", {"width": "100%", "height": "100%", "fill": "#ffffff"})
    _add_text(
        svg,
        MARGIN,
        MARGIN,
        f"What {', '.join(graph.roots[:3])} was made from",
        size="13px",
        fill="#202020",
        weight="bold",
    )
    for (source, target), count in arrows.items():
        _add_arrow(svg, box_of[source], box_of[target], count)
    for number, (step, column, panel) in enumerate(zip(steps, columns, panels, strict=True)):
        x = MARGIN + number * (BOX_WIDTH + COLUMN_GAP)
        _add_text(svg, x, HEAD - 14, step, size="12px", fill="#4878a8", weight="bold")
        for box in column:
            _add_box(svg, box)
        for line, words in enumerate(panel):
            _add_text(svg, x, tallest + 2 * MARGIN + LINE * line, words, size="9px", fill="#606060")
    ET.indent(svg, " ")
    return ET.tostring(svg, encoding="utf-8", xml_declaration=True) + b"\n"


def _step(node: Node) -> str:
    return node.step or GIVEN_STEP


def _steps(graph: Graph) -> list[str]:
    """Return the steps in an order in which each comes after those that it reads from."""
    before: dict[str, set[str]] = {GIVEN_STEP: set()}
    for edge in graph.edges:
        source, target = _step(graph.nodes[edge.source]), _step(graph.nodes[edge.target])
        if source != target:
            before.setdefault(target, set()).add(source)
            before.setdefault(source, set())
    before |= {step: set() for step in map(_step, graph.nodes.values()) if step not in before}
    order = graphlib.TopologicalSorter({step: sorted(before[step]) for step in sorted(before)}).static_order()
    present = set(map(_step, graph.nodes.values()))
    # Files that no step made are the leftmost column, whatever reads them.
    return sorted((step for step in order if step in present), key=lambda step: step != GIVEN_STEP)


def _boxes(nodes: list[Node], column: int) -> list[DiagramNode]:
    """Return a column's boxes, grouped as finely as its length allows."""
    for grouping in GROUPINGS:
        groups: dict[tuple, list[Node]] = {}
        for node in sorted(nodes, key=lambda node: node.path):
            groups.setdefault(grouping(node), []).append(node)
        if len(groups) <= MAX_BOXES_PER_COLUMN:
            break
    return [DiagramNode(group, column) for group in groups.values()]


def _arrows(graph: Graph, box_of: dict[str, DiagramNode]) -> dict[tuple[str, str], int]:
    """Return the number of edges between two boxes, each named by its first file."""
    arrows: dict[tuple[str, str], int] = {}
    for edge in graph.edges:
        source, target = box_of[edge.source], box_of[edge.target]
        if source is not target:
            ends = source.nodes[0].path, target.nodes[0].path
            arrows[ends] = arrows.get(ends, 0) + 1
    return dict(sorted(arrows.items()))


def _lay_out(columns: list[list[DiagramNode]], arrows: Iterable[tuple[str, str]]) -> None:
    """Order each column by the mean height of its neighbours, and centre the columns."""
    by_name = {box.nodes[0].path: box for column in columns for box in column}
    near: dict[str, list[DiagramNode]] = {name: [] for name in by_name}
    for source, target in arrows:
        near[source].append(by_name[target])
        near[target].append(by_name[source])
    tallest = max(map(len, columns)) * (BOX_HEIGHT + GAP)
    for sweep in range(SWEEPS + 1):
        for number, column in enumerate(columns):
            if sweep:
                column.sort(key=lambda box: (_mean([b.y for b in near[box.nodes[0].path]], box.y), box.nodes[0].path))
            top = HEAD + (tallest - len(column) * (BOX_HEIGHT + GAP)) / 2
            for row, box in enumerate(column):
                box.x, box.y = MARGIN + number * (BOX_WIDTH + COLUMN_GAP), top + row * (BOX_HEIGHT + GAP)


def _mean(values: list[float], default: float) -> float:
    return sum(values) / len(values) if values else default


def _panel(nodes: list[Node]) -> list[str]:
    """Return a step's code, environment and machine, as short lines."""
    made = [node for node in nodes if node.step]
    if not made:
        return []
    machines = sorted({line for n in made for line in (str(n.observed["host"]), str(n.observed["device"]))})
    environments = sorted({line for n in made for line in environment_names(n.environment)})
    code = sorted({f"{module} {digest[:HASH_CHARACTERS]}" for n in made for module, digest in n.facts["code"].items()})
    origins = [line for node in made if node.kind in LOCKS for line in origin(node).split(", ")]
    lines = ["machine", *machines, "", "environment", *environments, "", "code", *code]
    return lines + (["", "from", *map(_short, origins)] if origins else [])


def _add_box(svg: ET.Element, box: DiagramNode) -> None:
    group = ET.SubElement(svg, "g")
    ET.SubElement(group, "title").text = box.title()
    rect = {"x": f"{box.x:g}", "y": f"{box.y:g}", "width": str(BOX_WIDTH), "height": str(BOX_HEIGHT), "rx": "4"}
    rect |= {"fill": FILLS[box.status], "stroke": BORDERS[box.status]}
    if len(box.nodes) > 1:
        shadow = {**rect, "x": f"{box.x + 3:g}", "y": f"{box.y + 3:g}"}
        ET.SubElement(group, "rect", shadow)
    ET.SubElement(group, "rect", rect | ({"stroke-width": "2"} if box.status != "ok" else {}))
    above, name = box.lines()
    _add_text(
        group,
        box.x + 6,
        box.y + 13,
        _short(above),
        size="9px",
        fill="#606060" if box.status == "ok" else BORDERS[box.status],
    )
    _add_text(group, box.x + 6, box.y + 26, _short(name), size="10px", fill="#202020")


def _add_arrow(svg: ET.Element, source: DiagramNode, target: DiagramNode, count: int) -> None:
    x1, y1, x2, y2 = source.x + BOX_WIDTH, source.y + BOX_HEIGHT / 2, target.x, target.y + BOX_HEIGHT / 2
    if source.column == target.column:
        x2 = x1
    bend = COLUMN_GAP / 2
    curve = f"M{x1:g},{y1:g} C{x1 + bend:g},{y1:g} {x2 + (bend if x1 == x2 else -bend):g},{y2:g} {x2:g},{y2:g}"
    # A thick line stands for many files; the square root keeps a hundred of them apart from the boxes.
    style = {"fill": "none", "stroke": "#90a4ae", "stroke-width": f"{min(count**0.5, 4):.2g}", "stroke-opacity": "0.55"}
    ET.SubElement(svg, "path", {"d": curve, **style})


def _add_text(
    parent: ET.Element, x: float, y: float, words: str, *, size: str, fill: str, weight: str = "normal"
) -> None:
    style = f"{FONT};font-size:{size};font-weight:{weight}"
    ET.SubElement(parent, "text", {"x": f"{x:g}", "y": f"{y:g}", "fill": fill, "style": style}).text = words


def _short(words: str) -> str:
    """Return words that fit into a box: the middle gives way."""
    if len(words) <= LINE_CHARACTERS:
        return words
    half = (LINE_CHARACTERS - 1) // 2
    return f"{words[:half]}…{words[-half:]}"
