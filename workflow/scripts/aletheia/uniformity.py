"""Rows of one campaign are comparable only when the same code and the same settings made them.

Snakemake reruns what its submitter knows to be out of date. What a job really ran can differ: a module edited in
mid-campaign, a configuration edited on a cluster where each job reads it anew. Each artifact records it, and here the
rows are held against each other before they share a table.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Iterable, Mapping
from typing import Any

from aletheia.errors import UserError
from aletheia.ledger import BASE, planned_runs
from aletheia.lineage import compact_json

# Sections that differ between rows by design: the run's own name.
OWN = {"run"}
Key = tuple[str, str, int]


def mixed_rows(
    campaign: Mapping[str, Any],
    runs: Mapping[Hashable, Mapping[str, Any]],
    evaluations: Mapping[Hashable, Mapping[str, Any]],
) -> dict[Key, str]:
    """Return what sets a row apart from most others of its campaign, by (model, arm, seed); uniform rows are left out.

    Parameters
    ----------
    campaign, runs, evaluations
        As :func:`aletheia.ledger.build_ledger` takes them.

    Returns
    -------
    dict
        For each deviating row the differing modules and settings keys: "code aletheia.training, settings
        training.batch_size". Code is held against the whole campaign, step by step; an arm's settings against the
        same arm; all other settings against the same model. Where two versions are equally frequent, the one that
        comes first in the campaign counts as the rule.
    """
    rows = {
        (planned["model"], planned["arm"], planned["seed"]): list(_makers(planned, runs, evaluations))
        for planned in planned_runs(campaign)
    }
    versions: dict[Hashable, Counter[str]] = {}
    facts: dict[str, Any] = {}
    for key, envelopes in rows.items():
        for name, value in _facts(key, envelopes):
            text = compact_json(value)
            facts[text] = value
            versions.setdefault(name, Counter())[text] += 1
    usual = {name: facts[counter.most_common(1)[0][0]] for name, counter in versions.items()}
    found = {}
    for key, envelopes in rows.items():
        differing = [w for name, value in _facts(key, envelopes) for w in _differing(name, usual[name], value)]
        differing += [f"code {m} (edited while the job ran)" for envelope in envelopes for m in _edited(envelope)]
        if differing:
            found[key] = ", ".join(dict.fromkeys(differing))
    return found


def check_uniform(campaign: Mapping[str, Any], mixed: Mapping[Key, str]) -> None:
    """Refuse deviating rows, unless the campaign says ``mixed: mark``.

    Raises
    ------
    UserError
        With the first deviating row, what sets it apart, and what to do.
    """
    if not mixed or campaign.get("mixed", "refuse") == "mark":
        return
    (model, arm, seed), what = next(iter(mixed.items()))
    more = f" (and {len(mixed) - 1} more rows)" if len(mixed) > 1 else ""
    raise UserError(
        f"campaign {campaign['name']}: expected rows made by the same code and settings, found "
        f"{model}/{arm}/seed{seed} made by other {what}{more}; delete its run.json and evaluations and run snakemake "
        "again, or set mixed: mark in the campaign to keep and mark it"
    )


def _makers(
    planned: Mapping[str, Any],
    runs: Mapping[Hashable, Mapping[str, Any]],
    evaluations: Mapping[Hashable, Mapping[str, Any]],
) -> Iterable[Mapping[str, Any]]:
    """Yield the envelopes that make a row: the run, its evaluations and its base model's."""
    model, arm, seed = planned["model"], planned["arm"], planned["seed"]
    keys = [(model, arm, seed)]
    yield from (runs[key] for key in keys if key in runs)
    for benchmark in planned["benchmarks"]:
        for key in ((model, BASE, None, benchmark), (model, arm, seed, benchmark)):
            if key in evaluations:
                yield evaluations[key]


def _facts(key: Key, envelopes: Iterable[Mapping[str, Any]]) -> Iterable[tuple[Hashable, Any]]:
    """Yield ``(what is compared, with whom), value`` for code and settings of each envelope."""
    model, arm, _ = key
    for envelope in envelopes:
        lineage = envelope["lineage"]
        step = lineage["step"]
        yield ("code", step), lineage["code"]
        for section, value in lineage["config"].items():
            if section not in OWN:
                yield ("settings", step, section, arm if section == "arm" else model), value


def _differing(name: Hashable, usual: Any, value: Any) -> Iterable[str]:
    """Yield the names of the modules, or of the settings, in which a value differs from the usual one."""
    kind, *_ = name
    stem = "code " if kind == "code" else f"settings {name[2]}."
    if isinstance(usual, Mapping) and isinstance(value, Mapping):
        for part in sorted({*usual, *value}):
            if usual.get(part) != value.get(part):
                yield f"{stem}{part}"
    elif usual != value:
        yield stem.rstrip(".")


def _edited(envelope: Mapping[str, Any]) -> list[str]:
    return envelope.get("observed", {}).get("code_edited_meanwhile") or []
