"""Rows of one campaign are comparable only when the same code and the same settings made them.

Snakemake reruns what its submitter knows to be out of date. What a job really ran can differ: a module edited in
mid-campaign, a configuration edited on a cluster where each job reads it anew. Each artifact records it, and here those
that make a campaign's rows are held against each other before the rows share a table.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from aletheia.errors import UserError
from aletheia.provenance.lineage import ROOT, TASKS, compact_json
from aletheia.study.paths import BASE
from aletheia.study.planned_runs import arms_entry
from aletheia.study.recipes import SECTIONS

# Sections that differ between rows by design: the run's own name.
OWN = {"run"}
# A plan of batches is as long as the longest arm of its seed, in whatever campaign, and each arm reads its beginning.
OWN_KEYS = {"batches": {"steps"}}
TASK_FILES = f"{TASKS.relative_to(ROOT).as_posix()}/"
Key = tuple[str, str, int]


@dataclass(frozen=True)
class Maker:
    """One artifact that a row is made of.

    Attributes
    ----------
    path
        Where it stands.
    envelope
        Its content, with ``lineage`` and ``observed``.
    shared
        Whether all rows of a model rest on it, as on the base model's evaluation. Runs decide what is usual where
        there are some: a base model is evaluated once, early, and outvotes nobody.
    """

    path: str
    envelope: Mapping[str, Any]
    shared: bool = False


def deviations(rows: Mapping[Key, Sequence[Maker]], campaign: Mapping[str, Any] | None = None) -> dict[str, str]:
    """Return what sets an artifact apart from most others of its campaign, by path; uniform ones are left out.

    Parameters
    ----------
    rows
        By (model, arm, seed): the artifacts that a row of one campaign is made of.
    campaign
        As the study's index has it: which settings an arm states itself, and which arms are one model's own.

    Returns
    -------
    dict
        The differing modules and settings keys: "code aletheia.training.trainer, settings training.batch_size". Code
        is held against the whole campaign, step by step; what an arm states against the same arm; all other settings
        against the same model. Of two versions that are equally frequent, the one that comes first counts as the usual
        one.
    """
    campaign = campaign or {}
    makers = {maker.path: (key, maker) for key, row in rows.items() for maker in row}
    own: dict[Hashable, Counter[str]] = {}
    shared: dict[Hashable, Counter[str]] = {}
    values: dict[str, Any] = {}
    for key, maker in makers.values():
        for name, value in _facts(key, maker, campaign):
            text = compact_json(value)
            values[text] = value
            (shared if maker.shared else own).setdefault(name, Counter())[text] += 1
    usual = {name: values[counts.most_common(1)[0][0]] for name, counts in (shared | own).items()}
    found = {}
    for path, (key, maker) in makers.items():
        differing = [
            part for name, value in _facts(key, maker, campaign) for part in _differing(name, usual[name], value)
        ]
        edited = maker.envelope.get("observed", {}).get("code_edited_meanwhile") or []
        differing += [f"code {module} (edited while the job ran)" for module in edited]
        if differing:
            found[path] = ", ".join(dict.fromkeys(differing))
    return found


def mixed_rows(rows: Mapping[Key, Sequence[Maker]], found: Mapping[str, str]) -> dict[Key, str]:
    """Return what sets each row apart: all that :func:`deviations` found of its artifacts."""
    said = {key: [found[maker.path] for maker in row if maker.path in found] for key, row in rows.items()}
    return {key: ", ".join(dict.fromkeys(parts)) for key, parts in said.items() if parts}


def check_uniform(campaign: Mapping[str, Any], found: Mapping[str, str]) -> None:
    """Refuse a campaign with artifacts that were made otherwise, unless it says ``mixed: mark``.

    Raises
    ------
    UserError
        With the first such artifact, what sets it apart, and what to do.
    """
    if not found or campaign.get("mixed", "refuse") == "mark":
        return
    path, what = next(iter(found.items()))
    others = f" (and {len(found) - 1} more)" if len(found) > 1 else ""
    raise UserError(
        f"campaign {campaign['name']}: expected artifacts made by the same code and settings, found {path} made by "
        f"other {what}{others}; delete it and run snakemake again, or set mixed: mark in the campaign to keep and mark "
        "its rows"
    )


def _facts(key: Key, maker: Maker, campaign: Mapping[str, Any]) -> Iterable[tuple[Hashable, Any]]:
    """Yield ``(what is compared, with whom), value`` for an artifact's code and settings."""
    model, arm, _ = key
    lineage = maker.envelope["lineage"]
    step = lineage["step"]
    # What a benchmark asks counts among those that were asked it: a model may have benchmarks that another has not.
    tasks = {name: digest for name, digest in lineage["code"].items() if name.startswith(TASK_FILES)}
    yield ("code", step), {name: digest for name, digest in lineage["code"].items() if name not in tasks}
    for name, digest in tasks.items():
        yield ("code", step, name), {name: digest}
    stated = (arms_entry(campaign, model, "recipes") or {}).get(arm, {})
    of_one_model = arm in (arms_entry(campaign, model, "own_arms") or [])
    for section, value in lineage["config"].items():
        if section == "arm":
            yield ("settings", step, section, (model, arm) if of_one_model else arm), value
        elif section in SECTIONS:
            for name, one in value.items():
                yield ("settings", step, section, (model, arm) if name in stated.get(section, []) else model, name), one
        elif section == "evaluation":
            # Which benchmarks is an arm's to say, or all of them for the base model; how one is asked is the model's.
            asked = (model, BASE if maker.shared else arm)
            for name, one in value.items():
                yield ("settings", step, section, asked if name == "benchmarks" else model, name), one
        elif section not in OWN:
            own = OWN_KEYS.get(section, set())
            kept = {key: one for key, one in value.items() if key not in own} if own else value
            yield ("settings", step, section, model), kept


def _differing(name: Hashable, usual: Any, value: Any) -> Iterable[str]:
    """Yield the names of the modules, or of the settings, in which a value differs from the usual one."""
    kind, *_ = name
    stem = "code " if kind == "code" else f"settings {'.'.join([name[2], *name[4:]])}."
    if isinstance(usual, Mapping) and isinstance(value, Mapping):
        for part in sorted({*usual, *value}):
            if usual.get(part) != value.get(part):
                yield f"{stem}{part}"
    elif usual != value:
        yield stem.rstrip(".")
