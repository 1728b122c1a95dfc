"""The reasons for which a job would run again, in few words: the module, the key or the file that differs."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import Any

from aletheia.audit.dry_run import Job
from aletheia.provenance.artifacts import SIDECAR
from aletheia.provenance.lineage import environment, parse_facts

# The beginnings of Snakemake's reasons.
REASONS = {
    "missing": "Missing output files: ",
    "incomplete": "Incomplete output files: ",
    "updated": "Updated input files: ",
    "follows": "Input files updated by another job: ",
    "inputs": "Set of input files has changed since last execution",
    "command": "Code has changed since last execution",
    "params": "Params have changed since last execution: ",
    "forced": "Forced execution",
}
_SPLIT = re.compile("(?:^|; )(" + "|".join(map(re.escape, REASONS.values())) + ")")
WORDS = {
    "incomplete": "left half done by a job that was killed",
    "inputs": "another set of inputs",
    "command": "the command of rule {job.rule}",
    "forced": "forced",
}
MAX_NAMES = 3
EARLIER_CODE = "code of an earlier version, before its modules had packages"
ABSENT = "absent"


def changes(
    job: Job, recorded: Mapping[str, Any] | None, makers: Mapping[str, Job], unchanged: Collection[str] = ()
) -> list[str]:
    """Return the reasons for which a job would run again.

    Parameters
    ----------
    job
        As Snakemake plans it.
    recorded
        The lineage of the artifact that is there; None where there is none.
    makers
        By output: the planned job that makes it.
    unchanged
        Inputs that hold just what the artifact was made from.
    """
    parts = _SPLIT.split(job.reason)
    kinds = {begins: kind for kind, begins in REASONS.items()}
    reasons = [
        words
        for begins, rest in zip(parts[1::2], parts[2::2], strict=True)
        for words in _in_words(
            job, kinds[begins], [f for f in rest.split(", ") if f], makers, unchanged, made=recorded is not None
        )
    ]
    # Snakemake looks no further where a job follows another one, so its own changes are always added.
    differing = differences(recorded, job.facts) if recorded else []
    # Another set of inputs has another digest among the params.
    if REASONS["params"] in parts and REASONS["inputs"] not in parts and not differing:
        differing = ["code or settings, as Snakemake recorded them"]
    return [*differing, *reasons] or [job.reason]


def _in_words(
    job: Job, kind: str, files: list[str], makers: Mapping[str, Job], unchanged: Collection[str], *, made: bool
) -> Iterator[str]:
    """Yield one of Snakemake's reasons in few words; nothing for params, whose differences say more."""
    if kind == "missing":
        # A file that is named stands for its sidecar too.
        named = [f for f in files if f.removesuffix(SIDECAR) == f or f.removesuffix(SIDECAR) not in files]
        yield f"missing: {shorten_list(named)}" if made else "not there"
    elif kind == "updated":
        same = [f for f in files if f.removesuffix(SIDECAR) in unchanged]
        others = [f for f in files if f not in same]
        yield from [f"another input: {shorten_list(others)}"] if others else []
        yield from [f"newer by its time alone: {shorten_list(same)}"] if same else []
    elif kind == "follows":
        rules = Counter(makers[name].rule for name in files if name in makers)
        yield "follows " + shorten_list(f"{rule} ({n} files)" if n > 1 else rule for rule, n in rules.items())
    elif kind in WORDS:
        yield WORDS[kind].format(job=job)


def shorten_list(names: Iterable[str]) -> str:
    """Return the first names, and how many more there are."""
    names = list(names)
    more = f" and {len(names) - MAX_NAMES} more" if len(names) > MAX_NAMES else ""
    return ", ".join(names[:MAX_NAMES]) + more


def differences(recorded: Mapping[str, Any], facts: Iterable[str]) -> list[str]:
    """Return the differences between an artifact's lineage and the one that its rule would pass now.

    Parameters
    ----------
    recorded
        The artifact's ``lineage``.
    facts
        The rule's lineage now, as :func:`aletheia.provenance.lineage.parse_facts` reads it.

    Returns
    -------
    list
        ``code aletheia.method.probe`` for a module, ``envs/gpu.yaml`` for an environment, ``training.steps: 4 → 5``
        for a key; of code from before the library had packages one line, whatever the modules.
    """
    now = parse_facts(facts)
    found = [EARLIER_CODE] if _flat_modules(recorded["code"]) else []
    found = found or [f"code {name}" for name in _differing(recorded["code"], now["code"])]
    environments = {name: digest for name, digest in recorded["environment"].items() if name.startswith("envs/")}
    found += list(_differing(environments, now["env"]))
    return found + list(_keys(recorded["config"], now["config"]))


def _flat_modules(code: Mapping[str, str]) -> bool:
    """Tell whether code was recorded before the library had packages: its names and digests are of another kind."""
    modules = [name for name in code if name.startswith("aletheia.")]
    return bool(modules) and all(name.count(".") == 1 for name in modules)


def other_packages(recorded: Mapping[str, Any]) -> list[str]:
    """Return the packages, and the interpreter, whose versions here are not those that an artifact was made with.

    Empty for an artifact that was made in its rule's own environment, which is one without Snakemake. The packages of
    such a job follow from its environment file, whose digest :func:`differences` compares, and not from those here.

    Parameters
    ----------
    recorded
        The artifact's ``lineage``.
    """
    here, then = environment(), recorded["environment"]
    if "snakemake" not in then["packages"]:
        return []
    python = [] if here["python"] == then["python"] else [f"python {then['python']} → {here['python']}"]
    return [*python, *_differing(then["packages"], here["packages"])]


def _differing(before: Mapping[str, Any], now: Mapping[str, Any]) -> Iterator[str]:
    """Yield the names whose values differ, and say which came or went."""
    for name in sorted({*before, *now}):
        if name not in before:
            yield f"{name} (new)"
        elif name not in now:
            yield f"{name} (no longer used)"
        elif before[name] != now[name]:
            yield name


def _keys(before: Any, now: Any) -> Iterator[str]:
    """Yield each differing key of two configurations with its values."""
    flat_before, flat_now = dict(_flat(before)), dict(_flat(now))
    for key in sorted({*flat_before, *flat_now}):
        values = [_show_value(flat[key]) if key in flat else ABSENT for flat in (flat_before, flat_now)]
        if values[0] != values[1] or flat_before.get(key) != flat_now.get(key):
            yield f"{key}: {values[0]} → {values[1]}"


def _flat(value: Any, key: str = "") -> Iterator[tuple[str, Any]]:
    """Yield each leaf with its dotted key; entries of a list of campaigns go by their names."""
    if isinstance(value, list) and value and all(isinstance(entry, dict) and "name" in entry for entry in value):
        value = {entry["name"]: {k: v for k, v in entry.items() if k != "name"} for entry in value}
    if isinstance(value, dict) and value:
        for name, child in value.items():
            yield from _flat(child, f"{key}.{name}" if key else name)
    else:
        yield key, value


def _show_value(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 60 else text[:57] + "…"
