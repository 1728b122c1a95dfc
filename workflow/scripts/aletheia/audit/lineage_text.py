"""The ancestry of files as text: a summary, a tree, then the weights, code, environments and machines in full."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from rich.console import Console
from rich.text import Text
from rich.tree import Tree

from aletheia.audit.lineage_graph import Graph, Node
from aletheia.audit.lineage_summary import summarise

HASH_CHARACTERS = 12  # enough to recognise a file; --json has all 64
NAMES = 12  # of a kind that the summary lists; --json has all
LOCKS = ("model_lock", "data_lock")
STYLES = {"ok": "", "changed": "bold red", "missing": "bold red", "omitted": "yellow"}


def print_ancestry(graph: Graph, console: Console, *, depth: int | None = None) -> None:
    """Print a summary, the tree of each root, and the details.

    Parameters
    ----------
    graph, console
        What is printed, and where.
    depth
        Levels of the tree below a root; all of them where None.
    """
    _print_lines(console, "Summary", summary(graph))
    trees = _Trees(graph, depth)
    for root in graph.roots:
        console.print()
        console.print(trees.root(root))
    if below := len(graph.nodes) - len(trees.levels):
        line = f"{below} more file{'s lie' if below > 1 else ' lies'} below level {depth}"
        console.print(Text(line, style="dim"))
    for title, lines in details(graph).items():
        console.print()
        _print_lines(console, title, lines)


def _print_lines(console: Console, title: str, lines: Iterable[str]) -> None:
    console.print(Text(title, style="bold"))
    for line in lines:
        console.print(Text(f"  {line}"))


class _Trees:
    """The trees of some roots; a subtree that was shown before is only referred to.

    Attributes
    ----------
    levels
        The level of each file that is shown, the root's being 0; of a file shown more than once, the least.
    whole
        The files of whose ancestry nothing was cut.
    """

    def __init__(self, graph: Graph, depth: int | None) -> None:
        self.graph, self.depth = graph, depth
        self.levels: dict[str, int] = {}
        self.whole: set[str] = set()

    def root(self, path: str) -> Tree:
        tree = Tree(_label(self.graph.nodes[path]), guide_style="dim")
        self._grow(tree, tree.label, path, 0)
        return tree

    def _grow(self, tree: Tree, label: Text, path: str, level: int) -> None:
        """Add what a file was made from; at the last level say how much that is."""
        self.levels[path] = level
        sources = self.graph.sources(path)
        if sources and level == self.depth:
            below = len(self.graph.ancestors(path))
            label.append(f"  ({below} file{'s' if below > 1 else ''} below)", style="dim")
            return
        for source in sources:
            own = _label(self.graph.nodes[source])
            child = tree.add(own)
            if self._stands_above(source, level + 1):
                own.append("  (its ancestry stands above)", style="dim")
            else:
                self._grow(child, own, source, level + 1)
        if self.whole.issuperset(sources):
            self.whole.add(path)

    def _stands_above(self, path: str, level: int) -> bool:
        """Tell whether a file's ancestry was shown, whole or to a depth that is no less than here."""
        before = self.levels.get(path)
        if before is None or not self.graph.sources(path):
            return False
        return self.depth is None or path in self.whole or before < level or before == level < self.depth


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


def summary(graph: Graph) -> list[str]:
    """Return the ancestry in a few numbers, as lines."""
    found = summarise(graph)
    differing = [f"{name} {' and '.join(versions)}" for name, versions in found["packages_that_differ"].items()]
    sets = f"{found['package_sets']} set{'' if found['package_sets'] == 1 else 's'}"
    times = [f"{place['ended']} ({place['path']})" for place in (found["oldest"], found["newest"]) if place]
    lines = {
        "artifacts": _listed([f"{number} {step}" for step, number in found["steps"].items()], found["artifacts"]),
        "other files": f"{found['other_files']}, given or staged",
        "models": _listed(found["models"]),
        "data sets": _listed(found["data"]),
        "machines": _listed([f"{machine['host']} ({machine['device']})" for machine in found["machines"]]),
        "commits": _listed([_commit(**commit) for commit in found["commits"]]),
        "packages": sets + (f", which differ in {_first(differing)}" if differing else ""),
        "made": " to ".join(dict.fromkeys(times)) or "at an unknown time",
    }
    status = [_count(list(graph.nodes.values()), status) for status in STYLES if status in found["status"]]
    return [f"{name:<11}  {line}" for name, line in {**lines, "status": "; ".join(status)}.items()]


def _listed(names: Sequence[str], count: int | None = None) -> str:
    """Return how many, and the first of their names: "2: rows, mmlu"."""
    number = len(names) if count is None else count
    return f"{number}: {_first(names)}" if names else f"{number}"


def _first(names: Sequence[str]) -> str:
    further = len(names) - NAMES
    return ", ".join(names[:NAMES]) + (f" and {further} more" if further > 0 else "")


def _commit(commit: str | None, dirty: bool | None) -> str:
    if commit is None:
        return "unknown (no git repository)"
    return commit[:HASH_CHARACTERS] + (" with uncommitted changes" if dirty else "")


def details(graph: Graph) -> dict[str, list[str]]:
    """Return the details of an ancestry, lines by heading: sources, code, environments, machines."""
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
