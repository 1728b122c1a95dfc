"""An ancestry in a few numbers: artifacts by step, models, data sets, machines, commits, packages, times."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

from aletheia.audit.lineage_graph import Graph, Node


def summarise(graph: Graph) -> dict[str, Any]:
    """Return what an ancestry holds, by number and name.

    Returns
    -------
    dict
        ``artifacts`` (files that a step made) and ``other_files`` (given and staged ones), both counts; ``steps``
        (``{step: artifacts}``, the most frequent first); ``models`` and ``data`` (names); ``machines`` (host, device)
        and ``commits`` (commit, dirty), each distinct pair once; ``package_sets`` (count) and ``packages_that_differ``
        (``{package: versions}``); ``oldest`` and ``newest`` (path, ended; None where no time is known); ``status``
        (``{status: files}``).
    """
    nodes = list(graph.nodes.values())
    made = [node for node in nodes if node.step]
    sets = _distinct(node.environment["packages"] for node in made if "packages" in node.environment)
    # Of one clock and one format (UTC, to the second), so that their order is that of their letters.
    ended = sorted((node.observed["ended"], node.path) for node in made if node.observed.get("ended"))
    times = [{"path": path, "ended": time} for time, path in ended]
    return {
        "artifacts": len(made),
        "other_files": len(nodes) - len(made),
        "steps": dict(Counter(node.step for node in made).most_common()),
        "models": _names(nodes, "model"),
        "data": _names(nodes, "data"),
        "machines": _distinct({key: node.observed.get(key) for key in ("host", "device")} for node in made),
        "commits": _distinct({key: node.facts[key] for key in ("commit", "dirty")} for node in made),
        "package_sets": len(sets),
        "packages_that_differ": _differing(sets),
        "oldest": times[0] if times else None,
        "newest": times[-1] if times else None,
        "status": dict(Counter(node.status for node in nodes)),
    }


def _names(nodes: Iterable[Node], key: str) -> list[str]:
    return sorted({node.about[key] for node in nodes if isinstance(node.about.get(key), str)})


def _distinct(facts: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return each distinct dictionary once, in the order of first appearance."""
    return list({tuple(sorted(fact.items())): fact for fact in facts}.values())


def _differing(sets: Iterable[Mapping[str, str]]) -> dict[str, list[str]]:
    """Return the versions of each package of which not all sets that have it have the same."""
    versions: dict[str, set[str]] = {}
    for packages in sets:
        for name, version in packages.items():
            versions.setdefault(name, set()).add(version)
    return {name: sorted(found) for name, found in sorted(versions.items()) if len(found) > 1}
