"""Training rows from the standard library, text that is on every machine: code as input, its docstring as output."""

from __future__ import annotations

import ast
import inspect
import sys
import sysconfig
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from aletheia.errors import UserError
from aletheia.seeded_order import seeded_order

# Not the library itself: tests, third-party packages, generated or vendored code.
SKIPPED_FOLDERS = {
    "site-packages",
    "dist-packages",
    "test",
    "tests",
    "idle_test",
    "__pycache__",
    "_vendor",
    "lib2to3",
}
# Chosen by hand: with these, in Alpaca's wording, half of the rows take at most 133 tokens of SmolLM2's and
# nine in ten at most 192.
OUTPUT_CHARACTERS = (40, 400)
INPUT_CHARACTERS = 240
INPUT_LINES = 6
DEFINITIONS = (ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)

INSTRUCTIONS = (
    "Write the docstring of the {kind} {name}.",
    "Document this Python {kind}.",
    "Explain in a docstring what the {kind} {name} does.",
    "The {kind} below has lost its docstring. Write it again.",
    "What does the {kind} {name} of the module {module} do? Answer with its docstring.",
    "Read the beginning of this {kind} and describe it as a docstring would.",
)


def docstring_rows(library: Path | None = None) -> list[dict[str, Any]]:
    """Return Alpaca-style rows from a library's source, the same for one Python build.

    Files are parsed, never imported. A row's input is the head of a function, method or class without its
    docstring; its output is the docstring. Docstrings that occur twice are kept once, and those that stand whole
    within another row not at all, so no row gives away another's output, however they are split.

    Parameters
    ----------
    library
        Folder of the sources; the running interpreter's standard library when None.

    Returns
    -------
    list of dict
        ``id`` ("json.decoder:JSONDecoder.decode"), ``instruction``, ``input``, ``output``, in order of
        ``id``.

    Raises
    ------
    UserError
        When the folder holds no Python source with docstrings.
    """
    library = Path(sysconfig.get_paths()["stdlib"]) if library is None else library
    seen: set[str] = set()
    rows = []
    for path in _sources(library):
        for row in _file_rows(path, library):
            text = _plain(row["output"])
            if text not in seen:
                seen.add(text)
                rows.append(row)
    if not rows:
        raise UserError(
            f"{library}: expected Python source files with docstrings here and found none; this interpreter "
            "comes without its library's sources, so name a training file of your own (source: "
            "{type: local, path: …})"
        )
    everything = "\n".join(_plain(row[key]) for row in rows for key in ("input", "output"))
    return [row for row in rows if everything.count(_plain(row["output"])) == 1]


def _plain(text: str) -> str:
    """Return a text without regard to spaces and case."""
    return " ".join(text.split()).casefold()


def python_build() -> str:
    """Return the identity of the interpreter's build, whose library is read."""
    return f"{sys.implementation.name} {sys.version}".replace("\n", " ")


def _sources(library: Path) -> list[Path]:
    paths = (p for p in library.rglob("*.py") if not SKIPPED_FOLDERS & set(p.relative_to(library).parts[:-1]))
    return sorted(paths, key=lambda p: p.relative_to(library).as_posix())


def _file_rows(path: Path, library: Path) -> Iterator[dict[str, Any]]:
    try:
        source = path.read_text(encoding="utf-8")
        tree = ast.parse(source)
    except (SyntaxError, UnicodeDecodeError):  # templates and deliberately broken files
        return
    relative = path.relative_to(library).with_suffix("")
    module = ".".join(relative.parts).removesuffix(".__init__")
    lines = source.splitlines()
    for name, kind, node in _definitions(tree, ""):
        docstring = inspect.cleandoc(ast.get_docstring(node, clean=False) or "").strip()
        if OUTPUT_CHARACTERS[0] <= len(docstring) <= OUTPUT_CHARACTERS[1]:
            identifier = f"{module}:{name}"
            wording = seeded_order(INSTRUCTIONS, seed=identifier)[0]
            yield {
                "id": identifier,
                "instruction": wording.format(kind=kind, name=name, module=module),
                "input": _head(node, lines),
                "output": docstring,
            }


def _definitions(parent: ast.AST, prefix: str) -> Iterator[tuple[str, str, Any]]:
    for node in ast.iter_child_nodes(parent):
        if isinstance(node, ast.ClassDef):
            yield prefix + node.name, "class", node
            yield from _definitions(node, f"{prefix}{node.name}.")
        elif isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            yield prefix + node.name, "method" if prefix else "function", node


def _head(node: Any, lines: list[str]) -> str:
    """Return the definition's first lines without any docstring: an inner one is another row's output."""
    docstrings = [n.body[0] for n in ast.walk(node) if isinstance(n, DEFINITIONS) and ast.get_docstring(n, clean=False)]
    dropped = {number for docstring in docstrings for number in range(docstring.lineno, docstring.end_lineno + 1)}
    numbers = (n for n in range(node.lineno, node.end_lineno + 1) if n not in dropped)
    text = textwrap.dedent("\n".join(lines[n - 1] for n in numbers if n < node.body[0].lineno or lines[n - 1].strip()))
    head = ""
    for line in text.splitlines()[:INPUT_LINES]:
        if len(head) + len(line) > INPUT_CHARACTERS:
            break
        head += line + "\n"
    return head.rstrip()
