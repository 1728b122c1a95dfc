"""A module's digest follows what it does: prose, layout and annotations leave it, everything else changes it."""

import ast
import random
import shutil
import subprocess
from pathlib import Path

import pytest

from aletheia.provenance.behaviour import behaviour_digest
from conftest import SCRIPTS

MODULES = sorted(path.relative_to(SCRIPTS).as_posix() for path in SCRIPTS.rglob("*.py"))
PROGRAM = """
import ast, sys
sys.path.insert(0, sys.argv[1])
from aletheia.provenance.behaviour import behaviour_digest
for name in sys.argv[2:]:
    print(behaviour_digest(ast.parse(open(f"{sys.argv[1]}/{name}", "rb").read())))
"""


def digest(source):
    return behaviour_digest(ast.parse(source))


class Reworded(ast.NodeTransformer):
    """Words a module otherwise: other docstrings, annotations of functions and locals, and error sentences."""

    def __init__(self):
        self.inside = False

    def _documented(self, node, *, function):
        if ast.get_docstring(node, clean=False) is not None:
            node.body[0] = ast.Expr(ast.Constant("Said otherwise."))
        else:
            node.body.insert(0, ast.Expr(ast.Constant("Said at last.")))
        before, self.inside = self.inside, function
        self.generic_visit(node)
        self.inside = before
        return node

    def visit_Module(self, node):
        return self._documented(node, function=False)

    def visit_ClassDef(self, node):
        return self._documented(node, function=False)

    def visit_FunctionDef(self, node):
        node.returns = ast.Name("object")
        return self._documented(node, function=True)

    def visit_arg(self, node):
        node.annotation = ast.Constant("anything")
        return node

    def visit_Lambda(self, node):
        node.body = self.visit(node.body)  # its arguments have no annotations
        return node

    def visit_AnnAssign(self, node):
        self.generic_visit(node)
        if self.inside:
            node.annotation = ast.Name("other")
        return node

    def visit_Raise(self, node):
        if isinstance(node.exc, ast.Call) and getattr(node.exc.func, "id", "") == "UserError":
            node.exc.args = [self._said(argument) for argument in node.exc.args]
        return node

    def _said(self, node):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            return ast.Constant("another sentence, ")
        if isinstance(node, ast.JoinedStr):
            return ast.JoinedStr([ast.Constant("as to "), *(v for v in node.values if not isinstance(v, ast.Constant))])
        if isinstance(node, ast.BinOp):
            return ast.BinOp(self._said(node.left), node.op, self._said(node.right))
        if isinstance(node, ast.IfExp):
            return ast.IfExp(node.test, self._said(node.body), self._said(node.orelse))
        return node


@pytest.mark.parametrize("name", MODULES)
def test_prose_layout_and_annotations_of_each_module_decide_nothing(name):
    source = (SCRIPTS / name).read_text(encoding="utf-8")
    found = digest(source)
    # No comment, other line breaks, quotes and parentheses.
    assert digest(ast.unparse(ast.parse(source))) == found
    assert digest(ast.unparse(ast.fix_missing_locations(Reworded().visit(ast.parse(source))))) == found
    assert digest(f"# a comment\n{source}\n\n\n# and another\n") == found


def counted(tree):
    """Return the nodes of a module that count: no docstrings, annotations, or texts of its error sentences."""
    left_out = set()
    for node in ast.walk(tree):
        if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef)) and ast.get_docstring(node) is not None:
            left_out.update(ast.walk(node.body[0]))
        if isinstance(node, ast.FunctionDef) and node.returns:
            left_out.update(ast.walk(node.returns))
        if isinstance(node, (ast.arg, ast.AnnAssign)) and node.annotation:
            left_out.update(ast.walk(node.annotation))
        if isinstance(node, ast.Raise):
            left_out.update(ast.walk(node))
    return [node for node in ast.walk(tree) if node not in left_out]


def changed(node):
    """Change what one node does; tell whether it is of a kind that this knows to change."""
    if isinstance(node, ast.Constant):
        value = node.value
        node.value = not value if isinstance(value, bool) else f"{value}x" if isinstance(value, (str, bytes)) else 7.25
    elif isinstance(node, ast.Compare):
        node.ops = [ast.NotEq() if isinstance(node.ops[0], ast.Eq) else ast.Eq(), *node.ops[1:]]
    elif isinstance(node, ast.BinOp):
        node.op = ast.Mult() if isinstance(node.op, ast.Add) else ast.Add()
    elif isinstance(node, ast.alias):
        node.name = f"{node.name}_other"
    elif isinstance(node, ast.arguments) and node.defaults:
        node.defaults = [ast.Constant(99.5), *node.defaults[1:]]
    elif isinstance(node, ast.keyword) and node.arg:
        node.arg = f"{node.arg}_other"
    else:
        return False
    return True


@pytest.mark.parametrize("name", MODULES)
def test_a_changed_constant_default_operator_or_import_of_each_module_counts(name):
    tree, draw = ast.parse((SCRIPTS / name).read_text(encoding="utf-8")), random.Random(name)
    nodes, found, done = counted(tree), behaviour_digest(tree), 0
    draw.shuffle(nodes)
    for node in nodes:
        before = dict(vars(node))
        if changed(node):
            assert behaviour_digest(tree) != found, ast.unparse(node)
            done += 1
        vars(node).update(before)
        if done == 8:
            break
    assert behaviour_digest(tree) == found
    assert done or len(nodes) < 5


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ('raise UserError(f"{x}: expected a")', 'raise UserError(f"{x} wants b")', True),
        ('raise UserError(f"{x}: expected a")', 'raise UserError(f"{y}: expected a")', False),
        ('raise UserError("a" + (f"; {b}" if b else ""))', 'raise UserError("c, " + (f", {b}" if b else "."))', True),
        ('raise UserError("a" + (f"; {b}" if b else ""))', 'raise UserError("a" + (f"; {b}" if c else ""))', False),
        ('raise errors.UserError("a") from None', 'raise errors.UserError("b") from None', True),
        ('raise UserError("a") from None', 'raise UserError("a") from error', False),
        ('raise ValueError("a")', 'raise ValueError("b")', False),
        ("raise SystemExit(2)", "raise SystemExit(3)", False),
        ('return UserError("a")', 'return UserError("b")', False),
        ('record.fail("timeout", "too late")', 'record.fail("timeout", "late")', False),
        ("x = f'{a:.3f}'", "x = f'{a:.4f}'", False),
        ("x = 'a' 'b'", "x = 'ab'", True),
        ("x = 1", "x = True", False),
        ("x = 1", "x = 1.0", False),
        ("x = 0.1", "x = 1e-1", True),
        ("x = None", "x = ...", False),
        ("def f(x: int) -> str: y: int = x; return y", "def f(x): y: str = x; return y", True),
        ("class A:\n    x: int = 1", "class A:\n    x: str = 1", False),
        ("def f():\n    class A:\n        x: int", "def f():\n    class A:\n        x: str", False),
        ("class A:\n    def f(self):\n        x: int = 1", "class A:\n    def f(self):\n        x: str = 1", True),
        ("X: int = 1", "X: float = 1", False),
        ("def f(): 'a'", "def f(): 'b'", True),
        ("def f(): return 'a'", "def f(): return 'b'", False),
        ("lambda x, y=1: x", "lambda x, y=2: x", False),
        ("import a", "import a as b", False),
        ("from a import b, c", "from a import c, b", False),
        ("if a: b", "if a: b\nelse: c", False),
        ("x = 'é'", "x = '\\xe9'", True),
        ("x = '\\ud800'", "x = '\\ud801'", False),
    ],
)
def test_what_counts(one, other, same):
    inside = [f"def function():\n    {text}" if text.startswith(("raise", "return")) else text for text in (one, other)]
    assert (digest(inside[0]) == digest(inside[1])) is same


@pytest.mark.slow
@pytest.mark.parametrize("version", ["3.11", "3.12", "3.13"])
def test_digests_are_equal_on_every_python_that_the_project_runs_on(version):
    built = sorted(Path.home().glob(f".pyenv/versions/{version}.*/bin/python"))
    python = shutil.which(f"python{version}", path="/usr/bin") or next(map(str, built), None)
    if python is None:
        pytest.skip(f"Python {version} is not installed")
    command = [python, "-c", PROGRAM, str(SCRIPTS), *MODULES]
    theirs = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
    assert theirs == [digest((SCRIPTS / name).read_text(encoding="utf-8")) for name in MODULES]
