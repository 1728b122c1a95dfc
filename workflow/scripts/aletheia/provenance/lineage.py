"""What made an artifact: the code that a script reaches, its environment, its settings, its inputs.

Code counts by what it does (:mod:`aletheia.provenance.behaviour`), so that an edited comment makes nothing out of date.

A rule passes the same facts to Snakemake as params, one string for each module and each settings section. Snakemake
compares params as a set of strings, so its dry run names just the module or the section that differs.
"""

from __future__ import annotations

import functools
import hashlib
import importlib.metadata
import json
import platform
import subprocess
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from aletheia.provenance.behaviour import DIGEST_CHARACTERS
from aletheia.provenance.parsed_source import PACKAGE, parsed, remember

LIBRARY = Path(__file__).resolve().parents[2]  # the folder that holds the package
# An installed wheel has the project's other files inside the package (setup.py); in a checkout they stand around it.
_INSTALLED = LIBRARY / PACKAGE / "project"
ROOT = _INSTALLED if _INSTALLED.is_dir() else LIBRARY.parent.parent
SCRIPTS = ROOT / "workflow" / "scripts"
TASKS = ROOT / "workflow" / "tasks"
# Imports that only calls by hand use, to which no rule passes every setting: no rule's result depends on them.
NOT_DECISIVE = {
    "aletheia.cli": {
        *("aletheia.study.schema", "aletheia.study.schema_sentences", "aletheia.study.settings_by_hand"),
        "aletheia.study.strict_yaml",
    },
    "stage.py": {"aletheia.study.registries"},
}


def compact_json(value: Any) -> str:
    """Return the one-line canonical JSON of ``value`` (sorted keys, no spaces, no NaN)."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


@functools.cache
def file_digest(path: Path) -> str:
    """Return the digest of a small source file: of a Python module's behaviour, of any other file's bytes."""
    if path.suffix == ".py":
        return _parse_module(path)[0]
    return hashlib.sha256(path.read_bytes()).hexdigest()[:DIGEST_CHARACTERS]


@functools.cache
def _parse_module(path: Path) -> tuple[str, frozenset[str]]:
    """Return a module's digest, and the library modules that it names in any import statement, at any depth."""
    digest, names = parsed(path.read_bytes())
    return digest, frozenset(name for name in names if _is_ours(name))


def _is_ours(name: str) -> bool:
    """Tell whether a name is a library module; not a subpackage, whose ``__init__`` holds a docstring alone."""
    path = _module_path(name)
    return path is not None and (path.name != "__init__.py" or name == PACKAGE)


@functools.cache
def _module_path(name: str) -> Path | None:
    """Return the file of the library module ``name`` ("aletheia.method.probe"), or None if it is not one of ours."""
    relative = Path(*name.split("."))
    for candidate in (LIBRARY / relative.with_suffix(".py"), LIBRARY / relative / "__init__.py"):
        if candidate.is_file():
            return candidate
    return None


@functools.cache
def code_digests(script: str, extra: tuple[str, ...] = ()) -> dict[str, str]:
    """Return the digest of a script and of each library module that it reaches through imports.

    Parameters
    ----------
    script
        File name below ``workflow/scripts``, "probe.py".
    extra
        Further files that decide what the script does (paths relative to the project), such as task definitions.

    Returns
    -------
    dict
        ``{"probe.py": "9f…", "aletheia.method.probe": "03…", …}``, sorted by name.
    """
    digests = {script: file_digest(SCRIPTS / script)}
    pending = [(script, SCRIPTS / script)]
    while pending:
        importer, path = pending.pop()
        for name in _parse_module(path)[1] - NOT_DECISIVE.get(importer, set()):
            if name not in digests:
                module = _module_path(name)
                digests[name] = file_digest(module)
                pending.append((name, module))
    digests.update({name: file_digest(ROOT / name) for name in extra})
    remember()
    return dict(sorted(digests.items()))


def edited_since(code: Mapping[str, str]) -> list[str]:
    """Return the names in ``code`` (as :func:`code_digests` gave it) whose files behave otherwise by now."""
    return [name for name, recorded in code.items() if _digest_now(name) != recorded]


def yet_to_run(code: Mapping[str, str]) -> dict[str, str]:
    """Return the present digests of those in ``code`` that this process has neither imported nor read so far.

    Scripts import the modules that compute inside their job, which may have waited for another job's locks before.
    """
    names = [name for name in code if name not in sys.modules and not (SCRIPTS / name).is_file()]
    return {name: digest for name in names if (digest := _digest_now(name))}


def _digest_now(name: str) -> str | None:
    # What was a module may be none by now, or another.
    path = _module_path.__wrapped__(name) or next((p for p in (SCRIPTS / name, ROOT / name) if p.is_file()), None)
    if path is None:
        return None
    try:
        return parsed(path.read_bytes())[0] if path.suffix == ".py" else file_digest.__wrapped__(path)
    except SyntaxError:
        return None  # an edit in progress


def task_files(benchmarks: Iterable[str]) -> list[str]:
    """Return benchmarks' task definitions (paths relative to the project): they decide what is asked, so they are code.

    A benchmark has ``NAME.yaml``, and ``NAME_chat.yaml`` where another task asks it through a chat template.
    """
    paths = [TASKS / f"{name}{form}.yaml" for name in benchmarks for form in ("", "_chat")]
    return sorted(path.relative_to(ROOT).as_posix() for path in paths if path.is_file())


def code_facts(script: str, extra: Iterable[str] = ()) -> list[str]:
    """Return :func:`code_digests` as the strings that a rule passes: ``["code:aletheia.method.probe=03…", …]``."""
    return [f"code:{name}={digest}" for name, digest in code_digests(script, tuple(extra)).items()]


def parse_facts(facts: Iterable[str]) -> dict[str, dict[str, Any]]:
    """Read the strings that a rule passes as ``--lineage``.

    Parameters
    ----------
    facts
        ``code:NAME=DIGEST``, ``config:SECTION=JSON``, ``env:FILE=DIGEST`` or ``inputs:declared=DIGEST``.

    Returns
    -------
    dict
        ``{"code": {…}, "config": {section: value}, "env": {…}, "inputs": {…}}``.
    """
    parsed: dict[str, dict[str, Any]] = {"code": {}, "config": {}, "env": {}, "inputs": {}}
    for fact in facts:
        head, _, value = fact.partition("=")
        group, _, name = head.partition(":")
        parsed[group][name] = json.loads(value) if group == "config" else value
    return parsed


@functools.cache
def environment() -> dict[str, Any]:
    """Return the interpreter and the exact version of every installed distribution."""
    packages: dict[str, str] = {}
    for distribution in importlib.metadata.distributions():
        # A broken installation may have no name. Of two with the same name, the first on the path is imported.
        metadata = distribution.metadata  # read and parsed anew each time that it is asked for
        if name := metadata.get("Name"):
            packages.setdefault(name.lower(), metadata["Version"])
    return {
        "python": platform.python_version(),
        "implementation": platform.python_implementation(),
        "packages": dict(sorted(packages.items())),
    }


@functools.cache
def commit() -> dict[str, Any]:
    """Return the project's commit and whether tracked files differ from it; None where git does not say."""

    def git(*arguments: str) -> str | None:
        try:
            done = subprocess.run(
                ["git", "-C", str(ROOT), *arguments], capture_output=True, text=True, timeout=20, check=True
            )
        except (OSError, subprocess.SubprocessError):
            return None
        return done.stdout.strip()

    top = git("rev-parse", "--show-toplevel")
    if not top or Path(top).resolve() != ROOT:
        return {"commit": None, "dirty": None}
    changed = git("status", "--porcelain", "-uno")
    return {"commit": git("rev-parse", "HEAD"), "dirty": None if changed is None else bool(changed)}
