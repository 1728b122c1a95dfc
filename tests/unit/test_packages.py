"""The library's packages: each says what it is, and holds nothing else."""

import ast
import tomllib

import pytest

from conftest import ROOT, SCRIPTS

PACKAGES = sorted(path.parent for path in (SCRIPTS / "aletheia").glob("*/__init__.py"))


@pytest.mark.parametrize("package", PACKAGES, ids=lambda path: path.name)
def test_a_package_holds_nothing_but_its_docstring(package):
    """What a step rests on is read from imports of modules: an ``__init__`` of a package would be passed over."""
    tree = ast.parse((package / "__init__.py").read_text(encoding="utf-8"))
    assert [type(node) for node in tree.body] == [ast.Expr]
    said = " ".join(ast.get_docstring(tree).split())
    assert f"Start with :mod:`aletheia.{package.name}." in said
    assert "ay import" in said or "mports" in said


def test_every_package_has_its_layer():
    contract = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"][0]
    layers = {name for line in contract["layers"] for name in line.split(" | ")}
    top = {path.stem for path in (SCRIPTS / "aletheia").glob("*.py")} - {"__init__"}
    assert layers == {path.name for path in PACKAGES} | top
    assert contract["exhaustive"]
