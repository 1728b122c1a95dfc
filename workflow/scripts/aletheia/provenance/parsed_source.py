"""What a module does and which of the library it imports: parsed once for each version of its source, then remembered.

Parsing the library was a third of what a start of Snakemake costs (a dry run of the tiny study: 1.2 of 3.4 s of
processor time, n = 2), and each job of a cluster starts it twice. What was found is kept where Python keeps compiled
modules, by the source's own sha256, so that no edit is missed. Where it cannot be kept, each process parses for itself.
"""

from __future__ import annotations

import ast
import contextlib
import functools
import hashlib
import json
import os
from pathlib import Path

from aletheia.provenance import behaviour
from aletheia.provenance.behaviour import behaviour_digest

PACKAGE = "aletheia"
KEPT = Path(__file__).resolve().parents[2] / "__pycache__" / "behaviour.json"
# The code that parses, read when it is imported: what it gives is the same on each Python that the project runs on.
VERSION = hashlib.sha256(b"".join(Path(file).read_bytes() for file in (__file__, behaviour.__file__))).hexdigest()
MOST = 1_500  # sources: a few versions of the library; with more, those not asked for by this process are dropped

_asked: dict[str, tuple[str, list[str]]] = {}  # by the source's sha256, what this process was told


@functools.cache
def parsed(source: bytes) -> tuple[str, frozenset[str]]:
    """Return a module's digest, and what it names of the library in any import statement, at any depth.

    Parameters
    ----------
    source
        The module's bytes.

    Returns
    -------
    tuple
        What :func:`aletheia.provenance.behaviour.behaviour_digest` gives, and names that may be modules, packages or
        things in them.

    Raises
    ------
    SyntaxError
        For what is no Python.
    """
    key = hashlib.sha256(source).hexdigest()
    found = _remembered().get(key)
    _asked[key] = digest, names = found or _parse(source)
    return digest, frozenset(names)


def remember() -> None:
    """Keep for later processes what this one has parsed, if it has."""
    before = _remembered()
    if _asked.keys() <= before.keys():
        return
    both = before | _asked
    before.clear()
    before |= both if len(both) <= MOST else _asked
    temporary = KEPT.with_name(f".{KEPT.name}.{os.getpid()}")
    # A project that this user may not write, a full disk: nothing is lost.
    with contextlib.suppress(OSError):
        KEPT.parent.mkdir(exist_ok=True)
        try:
            temporary.write_text(json.dumps({"by": VERSION, "sources": before}), encoding="utf-8")
            temporary.replace(KEPT)
        finally:
            temporary.unlink(missing_ok=True)


@functools.cache
def _remembered() -> dict[str, tuple[str, list[str]]]:
    """Return what was kept, by the source's sha256; nothing if other code than this has parsed it."""
    try:
        kept = json.loads(KEPT.read_bytes())
        return kept["sources"] if kept["by"] == VERSION else {}
    except (OSError, ValueError, KeyError, TypeError):
        return {}


def _parse(source: bytes) -> tuple[str, list[str]]:
    tree, names = ast.parse(source), set[str]()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names.add(node.module)
            names.update(f"{node.module}.{alias.name}" for alias in node.names)
    return behaviour_digest(tree), sorted(name for name in names if name.split(".", maxsplit=1)[0] == PACKAGE)
