"""The ancestry of files as a graph: each artifact with what it was made from, down to weights, data, code and machine.

It is shown by :mod:`aletheia.audit.lineage_text` and :mod:`aletheia.audit.lineage_svg`.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from aletheia.audit import bundle_omissions
from aletheia.audit.sidecars import envelope_of, stands_empty, vouched_files
from aletheia.audit.verification import problem_of
from aletheia.errors import Unreadable, UserError
from aletheia.provenance import artifacts
from aletheia.provenance.artifacts import SIDECAR
from aletheia.provenance.file_walk import closed_above
from aletheia.provenance.staged_files import LOCK

# The keys of a lineage, besides its inputs, that a node shows.
LINEAGE_KEYS = ("code", "config", "commit", "dirty")
# The keys of `observed` that a node shows.
OBSERVED_KEYS = ("host", "device", "started", "ended", "seconds")


@dataclass(frozen=True)
class Edge:
    """``target`` was made from ``source``, whose sha256 it recorded then."""

    source: str
    target: str
    sha256: str


@dataclass(frozen=True)
class Node:
    """One file of the chain.

    Attributes
    ----------
    path
        As lineage names it.
    kind
        The artifact's schema; ``weights`` or ``staged data`` for what a lock lists, ``given`` for a file that no step
        made.
    step
        The step that made it; None for given files.
    status
        ``ok``, ``changed`` (it is not what was recorded of it, or cannot be read), ``missing``, or ``omitted`` (left
        out of an evidence bundle on purpose).
    problem
        What is wrong, in words; None for ``ok``.
    sha256, payload_sha256
        Of the file that is there, and of its payload where it is an artifact.
    about
        What the payload says of itself: model, arm, seed, benchmark; source, revision and licence of a lock.
    facts
        Code digests by module, settings, commit.
    environment
        Python, the environment file's digest, exact packages.
    observed
        Host, device, times.
    """

    path: str
    kind: str = "given"
    step: str | None = None
    status: str = "ok"
    problem: str | None = None
    sha256: str | None = None
    payload_sha256: str | None = None
    about: dict[str, Any] = field(default_factory=dict)
    facts: dict[str, Any] = field(default_factory=dict)
    environment: dict[str, Any] = field(default_factory=dict)
    observed: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Graph:
    """Nodes by path, nearest to the roots first, and the edges between them."""

    roots: list[str]
    nodes: dict[str, Node]
    edges: list[Edge]

    def sources(self, path: str) -> list[str]:
        """Return the files that a file was made from."""
        return self._sources.get(path, [])

    def ancestors(self, path: str) -> set[str]:
        """Return all files that a file comes from, over any number of steps."""
        found: set[str] = set()
        pending = [path]
        while pending:
            new = set(self.sources(pending.pop())) - found
            found |= new
            pending += new
        return found

    def __post_init__(self) -> None:
        sources: dict[str, list[str]] = {}
        for edge in self.edges:
            sources.setdefault(edge.target, []).append(edge.source)
        object.__setattr__(self, "_sources", sources)


def trace(paths: Iterable[Path | str], results: Path | str = "results") -> Graph:
    """Follow some files' lineage to its ends.

    Parameters
    ----------
    paths
        Artifacts, files with a sidecar, or sidecars (which stand for their file).
    results
        The results folder, where an evidence bundle says what it leaves out.

    Returns
    -------
    Graph
        A damaged or missing file is a node with that status; where its own lineage cannot be trusted the chain ends.

    Raises
    ------
    UserError
        When one of the named files is neither there nor has a lineage, or when this is not the study's folder.
    """
    roots = list(dict.fromkeys(_subject(Path(p).as_posix()) for p in paths))
    for root in roots:
        if envelope_of(Path(root)) is None:
            raise closed_above(Path(root)) or UserError(
                f"{root}: expected an artifact or a file with a sidecar, found neither"
            )
        _expect_at_home(root)
    omitted = bundle_omissions.find_omitted(results)
    nodes: dict[str, Node] = {}
    edges: list[Edge] = []
    pending = list(roots)
    while pending:
        path = pending.pop(0)
        if path in nodes:
            continue
        nodes[path], inputs = _read(path, omitted)
        edges += [Edge(source, path, recorded) for source, recorded in inputs.items()]
        pending += inputs
    for edge in edges:
        nodes[edge.source] = _check_recorded_hash(nodes[edge.source], edge, omitted)
    return Graph(roots, nodes, edges)


def as_json(graph: Graph) -> dict[str, Any]:
    """Return the graph as nodes and edges; an environment's packages stand once, by the number that nodes refer to."""
    environments: list[dict[str, Any]] = []
    nodes = []
    for node in graph.nodes.values():
        entry = asdict(node)
        entry |= entry.pop("facts")
        entry |= entry.pop("observed")
        if node.environment and node.environment not in environments:
            environments.append(node.environment)
        entry["environment"] = environments.index(node.environment) if node.environment else None
        nodes.append(entry)
    edges = [asdict(edge) for edge in graph.edges]
    return {"roots": graph.roots, "nodes": nodes, "edges": edges, "environments": environments}


def _subject(path: str) -> str:
    """Return the file that a path stands for: a sidecar stands for what it vouches for."""
    return path.removesuffix(SIDECAR)


def _expect_at_home(root: str) -> None:
    """Refuse a file outside its study's folder, to which the paths of its lineage are relative."""
    try:
        lineage = artifacts.read(envelope_of(Path(root)))["lineage"]
    except UserError:
        return  # it is shown as damaged
    written, inputs = lineage.get("output", root), lineage["inputs"]
    elsewhere = os.path.abspath(written) != os.path.abspath(root)
    # A copy inside the study has its inputs here.
    if elsewhere and inputs and not any(map(os.path.exists, inputs)):
        raise UserError(
            f"{root}: was written as {written}, and nothing that it was made from is here; run this in the "
            "study's folder"
        )


def _read(path: str, omitted: Mapping[str, str]) -> tuple[Node, dict[str, str]]:
    """Return a file's node and ``{input: recorded sha256}``."""
    file_node = _node_of_file(path, omitted)
    holder = envelope_of(Path(path))
    if holder is None:
        return file_node, {}
    try:
        envelope = artifacts.read(holder)
    except UserError as error:
        return replace(file_node, kind="damaged", status="changed", problem=problem_of(error, holder)), {}
    lineage, payload = envelope["lineage"], envelope["payload"]
    # A sidecar's `about` holds facts; that of a measurement is a sentence.
    facts = payload["about"] if envelope["schema"] == "file" else {}
    node = replace(
        file_node,
        kind=envelope["schema"],
        step=lineage["step"],
        payload_sha256=envelope["payload_sha256"],
        about={key: payload[key] for key in _ABOUT if key in payload} | facts,
        facts={key: lineage[key] for key in LINEAGE_KEYS},
        environment=lineage["environment"],
        observed={key: envelope["observed"].get(key) for key in OBSERVED_KEYS},
    )
    inputs = {name: described["sha256"] for name, described in lineage["inputs"].items()}
    inputs = {name: recorded for name, recorded in inputs.items() if not _is_sidecar_of(name, inputs)}
    vouched = {part.as_posix(): sha256 for part, sha256 in vouched_files(holder, envelope).items()}
    if path.endswith(LOCK):
        # Where the chain ends.
        return node, inputs | vouched
    return _check_own_files(node, vouched, omitted), inputs


_ABOUT = ("model", "data", "arm", "seed", "benchmark", "source", "revision", "licence")


def _is_sidecar_of(name: str, names: Iterable[str]) -> bool:
    return name.endswith(SIDECAR) and _subject(name) in names


def _check_own_files(node: Node, vouched: Mapping[str, str], omitted: Mapping[str, str]) -> Node:
    """Check the files that an artifact vouches for (a sidecar's, a run's adapter) against their recorded hashes."""
    if node.status != "ok":
        return node
    for part, expected in vouched.items():
        checked = _check_recorded_hash(_node_of_file(part, omitted), Edge(part, node.path, expected), omitted)
        if checked.status in ("changed", "missing"):
            return replace(node, status="changed", problem=f"{part}: {checked.problem}")
    return node


def _node_of_file(path: str, omitted: Mapping[str, str]) -> Node:
    """Return a file's node, with its hash, or with the reason why it has none."""
    file = Path(path)
    try:
        # Of `os.path`: for pathlib a folder that this user may not enter is an error.
        if os.path.isfile(file):
            return Node(path, sha256=artifacts.sha256_file(file))
    except Unreadable as error:
        return Node(path, status="changed", problem=problem_of(error, file))
    return Node(path) if os.path.isdir(file) else _absent_node(Node(path), omitted)


def _absent_node(node: Node, omitted: Mapping[str, str]) -> Node:
    # Of a folder, a bundle leaves out the files one by one.
    if node.path in omitted or any(path.startswith(f"{node.path}/") for path in omitted):
        return replace(node, status="omitted", problem="left out of this bundle")
    if stands_empty(Path(node.path)):
        return node
    if closed := closed_above(Path(node.path)):
        return replace(node, status="changed", problem=str(closed))
    return replace(node, status="missing", problem="no such file")


def _check_recorded_hash(node: Node, edge: Edge, omitted: Mapping[str, str]) -> Node:
    """Return a node with its status after a comparison with one recorded hash."""
    if edge.source.startswith(edge.target.removesuffix(LOCK) + "/") and edge.target.endswith(LOCK):
        kind = "weights" if "/models/" in edge.target else "staged data"
        node = replace(node, kind=kind, step=None)
    if node.status != "ok":
        return node
    if node.sha256 is None:
        return _absent_node(node, omitted)
    if node.sha256 != edge.sha256:
        problem = f"changed after {edge.target} recorded it (expected sha256 {edge.sha256}, found {node.sha256})"
        return replace(node, status="changed", problem=problem)
    return node
