"""The ancestry of files as text: a tree, then the weights, code, environments and machines that it comes down to."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from rich.console import Console
from rich.text import Text
from rich.tree import Tree

from aletheia.audit.lineage_graph import Graph, Node

HASH_CHARACTERS = 12  # enough to recognise a file; --json has all 64
LOCKS = ("model_lock", "data_lock")
STYLES = {"ok": "", "changed": "bold red", "missing": "bold red", "omitted": "yellow"}


def print_ancestry(graph: Graph, console: Console) -> None:
    """Print the tree of each root, and the summary; a subtree that came before is only referred to."""
    seen: set[str] = set()
    for root in graph.roots:
        trunk = Tree(_label(graph.nodes[root]), guide_style="dim")
        console.print(_branch(graph, root, trunk, seen))
    for title, lines in summary(graph).items():
        console.print(Text(f"\n{title}", style="bold"))
        for line in lines:
            console.print(Text(f"  {line}"))


def _branch(graph: Graph, path: str, tree: Tree, seen: set[str]) -> Tree:
    seen.add(path)
    for source in graph.sources(path):
        again = source in seen and bool(graph.sources(source))
        label = _label(graph.nodes[source])
        if again:
            label.append("  (its ancestry stands above)", style="dim")
        child = tree.add(label)
        if not again:
            _branch(graph, source, child, seen)
    return tree


def _label(node: Node) -> Text:
    """Return a node's line: path, step and kind, hash, time and place, and what is wrong with it."""
    text = Text(node.path, style=STYLES[node.status])
    seconds = node.observed.get("seconds")
    facts = [
        node.step if node.step else node.kind,
        f"sha256 {node.sha256[:HASH_CHARACTERS]}" if node.sha256 else None,
        f"{seconds:.1f} s on {node.observed['host']}" if seconds is not None else None,
    ]
    text.append("  " + " · ".join(fact for fact in facts if fact), style="dim")
    if node.status != "ok":
        text.append(f"  {node.status.upper()}: {node.problem}", style=STYLES[node.status])
    return text


def summary(graph: Graph) -> dict[str, list[str]]:
    """Return the summary of a graph, lines by heading: sources, code, environments, machines, status."""
    nodes = list(graph.nodes.values())
    made = [node for node in nodes if node.step]
    return {
        "Weights and data": [origin(node) for node in nodes if node.kind in LOCKS],
        "Code (module, digest, steps)": _columns(
            (module, digest, node.step) for node in made for module, digest in node.facts["code"].items()
        ),
        "Environments (packages, Python, file, digest, steps)": _columns(
            (*environment_names(node.environment), node.step) for node in made
        ),
        "Machines (host, device, steps)": _columns(
            (str(node.observed["host"]), str(node.observed["device"]), node.step) for node in made
        ),
        "Status": [_count(nodes, status) for status in STYLES if any(n.status == status for n in nodes)],
    }


def environment_names(environment: dict[str, Any]) -> tuple[str, ...]:
    """Return an environment in words: number of packages, Python, and the file that declares it with its digest."""
    files = [f"{name} {value}" for name, value in environment.items() if name.startswith("envs/")]
    python = f"{environment.get('implementation', 'Python')} {environment.get('python', '?')}"
    return f"{len(environment.get('packages', {}))} packages", python, *(files or ["no environment file"])


def origin(node: Node) -> str:
    """Return the origin of a staged model or data set: name, kind of source, place, revision, licence."""
    source = node.about["source"]
    facts = {"revision": node.about["revision"], "licence": node.about["licence"]}
    hidden = ("type", "format", "revision")
    location = {key: v for key, v in source.items() if isinstance(v, (str, int)) and key not in hidden}
    details = ", ".join(f"{key} {value}" for key, value in {**location, **facts}.items() if value is not None)
    name = node.about.get("model") or node.about.get("data")
    return f"{name}: {source['type']}" + (f", {details}" if details else "")


def _columns(rows: Iterable[tuple[str, ...]]) -> list[str]:
    """Return aligned lines, one for each distinct row but its last cell, whose values are gathered."""
    gathered: dict[tuple[str, ...], dict[str, None]] = {}
    for *head, step in rows:
        gathered.setdefault(tuple(head), {})[step] = None
    widths = [max(map(len, cells)) for cells in zip(*gathered, strict=True)]
    return [
        "  ".join([*(cell.ljust(width) for cell, width in zip(head, widths, strict=True)), ", ".join(steps)])
        for head, steps in sorted(gathered.items())
    ]


def _count(nodes: list[Node], status: str) -> str:
    paths = [node.path for node in nodes if node.status == status]
    return f"{len(paths)} {status}" + ("" if status == "ok" else f": {', '.join(paths)}")
