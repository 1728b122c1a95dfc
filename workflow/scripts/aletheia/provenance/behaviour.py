"""A digest of what a Python module does, which an edit of its prose does not change.

The digest covers the module's syntax tree, in which comments and layout do not appear, without docstrings, annotations
of functions and of their local variables (those of class bodies count, since dataclasses read them), and the literal
text of the message of a raised ``UserError``. Values that such a message interpolates count, and so does every other
text: a sentence that can become the ``reason`` of a failed run belongs into a constant.

The tree is written out here and not by ``ast.dump``, whose text differs from one Python version to the next.
"""

from __future__ import annotations

import ast
import hashlib
from collections.abc import Iterator

DIGEST_CHARACTERS = 16  # 64 bits: names a version of a small file, needs no resistance to forgery
ERROR_CLASS = "UserError"
DOCUMENTED = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)
# Fields that decide nothing: how a name is used (`ctx`) follows from its place in the tree.
IGNORED_FIELDS = ("ctx", "kind", "type_comment")
IGNORED_FIELDS_OF = {ast.arg: ("annotation",), ast.FunctionDef: ("returns",), ast.AsyncFunctionDef: ("returns",)}


def behaviour_digest(tree: ast.Module) -> str:
    """Return a digest that is equal for two modules that do the same, as far as their syntax tells.

    Parameters
    ----------
    tree
        A parsed module; it is not changed.

    Returns
    -------
    str
        The same on Python 3.11 to 3.13.
    """
    pieces: list[str] = []
    _write(tree, pieces, inside=False)
    return hashlib.sha256("".join(pieces).encode("utf-8", "surrogatepass")).hexdigest()[:DIGEST_CHARACTERS]


def _write(node: object, pieces: list[str], *, inside: bool) -> None:
    """Add a node's canonical text; ``inside`` tells whether annotations are those of a function's locals."""
    if isinstance(node, ast.AST):
        kind = type(node)
        pieces.append(kind.__name__)
        inside = kind in FUNCTIONS or (inside and kind is not ast.ClassDef)
        for name, value in _fields(node, kind, inside=inside):
            pieces.append(name)
            _write(value, pieces, inside=inside)
        pieces.append(")")
    elif isinstance(node, list):
        pieces.append("[")
        for entry in node:
            _write(entry, pieces, inside=inside)
        pieces.append("]")
    else:
        pieces.append(f"{type(node).__name__}:{node!a};")


def _fields(node: ast.AST, kind: type[ast.AST], *, inside: bool) -> Iterator[tuple[str, object]]:
    """Yield the fields that count, by name; empty ones are left out, since newer Pythons have more of them."""
    for name in node._fields:
        value = getattr(node, name, None)
        if value is None or value == [] or name in IGNORED_FIELDS or name in IGNORED_FIELDS_OF.get(kind, ()):
            # Except the value of the constant None.
            if kind is ast.Constant and name == "value":
                yield name, value
        elif name == "body" and kind in DOCUMENTED and ast.get_docstring(node, clean=False) is not None:
            yield name, value[1:]
        elif name == "annotation" and kind is ast.AnnAssign and inside:
            continue
        elif kind is ast.JoinedStr:
            yield name, _join_texts(value)
        elif kind is ast.Raise and name == "exc" and _is_error(value):
            yield name, [_message(argument) for argument in (*value.args, *value.keywords)]
        else:
            yield name, value


def _join_texts(values: list[ast.expr]) -> list[object]:
    """Return an f-string's parts with texts that stand beside each other as one, however a Python splits them."""
    parts: list[object] = []
    for value in values:
        text = value.value if isinstance(value, ast.Constant) else None
        if isinstance(text, str) and parts and isinstance(parts[-1], str):
            parts[-1] += text
        elif text != "":
            parts.append(value if text is None else text)
    return parts


def _is_error(raised: ast.expr | None) -> bool:
    called = raised.func if isinstance(raised, ast.Call) else None
    name = called.attr if isinstance(called, ast.Attribute) else getattr(called, "id", None)
    return name == ERROR_CLASS


def _message(node: ast.AST) -> object:
    """Return the parts of a message that count: all but its literal text."""
    if isinstance(node, ast.keyword):
        return [node.arg, _message(node.value)]
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return []
    if isinstance(node, ast.JoinedStr):
        return [value for value in node.values if not isinstance(value, ast.Constant)]
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
        return [*_flat(_message(node.left)), *_flat(_message(node.right))]
    if isinstance(node, ast.IfExp):
        return [node.test, _message(node.body), _message(node.orelse)]
    return node


def _flat(found: object) -> list[object]:
    return found if isinstance(found, list) else [found]
