"""Rows of one campaign are comparable only when the same code and the same settings made them.

Snakemake reruns what is out of date when the campaign is submitted. A job may still run other code or settings: a
module is edited while the campaign runs, or a configuration on a cluster, where each job reads it again. Each artifact
records both, and here the artifacts of a campaign's rows are compared before the rows share a table.
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
from aletheia.study.recipes import SECTIONS, timed_arm
from aletheia.study.run_length import LENGTHS

# Sections that differ between rows by design: the run's name.
NOT_COMPARED = {"run"}
# A plan of batches is as long as the longest arm of its seed in any campaign, and each arm reads its beginning.
KEYS_NOT_COMPARED = {"batches": {*LENGTHS}}
TASK_FILES = f"{TASKS.relative_to(ROOT).as_posix()}/"
RunKey = tuple[str, str, int]


@dataclass(frozen=True)
class RowSource:
    """One artifact from which a row is made.

    Attributes
    ----------
    path
        Of the artifact.
    envelope
        Its content, with ``lineage`` and ``observed``.
    shared
        Whether all rows of a model use it, such as the base model's evaluation. Shared artifacts do not count in
        finding the usual version, unless there are no others.
    """

    path: str
    envelope: Mapping[str, Any]
    shared: bool = False


def deviations(rows: Mapping[RunKey, Sequence[RowSource]], campaign: Mapping[str, Any] | None = None) -> dict[str, str]:
    """Return the differences of artifacts from most others of their campaign, by path, without uniform artifacts.

    Parameters
    ----------
    rows
        By (model, arm, seed): the artifacts of each row of one campaign.
    campaign
        As in the study's index, with the settings that each arm states, and the arms of one model alone.

    Returns
    -------
    dict
        The differing modules and settings keys: "code aletheia.training.trainer, settings training.batch_size". Code
        is compared within the whole campaign, step by step; settings that an arm states, with the same arm; all other
        settings, with the same model. Of two equally frequent versions the first counts as the usual one.
    """
    campaign = campaign or {}
    sources = {source.path: (key, source) for key, row in rows.items() for source in row}
    of_runs: dict[Hashable, Counter[str]] = {}
    shared: dict[Hashable, Counter[str]] = {}
    values: dict[str, Any] = {}
    for key, source in sources.values():
        for name, value in _facts(key, source, campaign):
            text = compact_json(value)
            values[text] = value
            (shared if source.shared else of_runs).setdefault(name, Counter())[text] += 1
    usual = {name: values[counts.most_common(1)[0][0]] for name, counts in (shared | of_runs).items()}
    differences = {}
    for path, (key, source) in sources.items():
        differing = [
            part for name, value in _facts(key, source, campaign) for part in _differing(name, usual[name], value)
        ]
        edited = source.envelope.get("observed", {}).get("code_edited_meanwhile") or []
        differing += [f"code {module} (edited while the job ran)" for module in edited]
        if differing:
            differences[path] = ", ".join(dict.fromkeys(differing))
    return differences


def mixed_rows(rows: Mapping[RunKey, Sequence[RowSource]], differences: Mapping[str, str]) -> dict[RunKey, str]:
    """Return the differences of each row: those of its artifacts, from :func:`deviations`."""
    of_rows = {key: [differences[s.path] for s in row if s.path in differences] for key, row in rows.items()}
    return {key: ", ".join(dict.fromkeys(parts)) for key, parts in of_rows.items() if parts}


def check_uniform(campaign: Mapping[str, Any], differences: Mapping[str, str]) -> None:
    """Refuse a campaign with artifacts of different code or settings, unless it says ``mixed: mark``.

    Raises
    ------
    UserError
        With the first such artifact, its differences, and what to do.
    """
    if not differences or campaign.get("mixed", "refuse") == "mark":
        return
    path, names = next(iter(differences.items()))
    others = f" (and {len(differences) - 1} more)" if len(differences) > 1 else ""
    raise UserError(
        f"campaign {campaign['name']}: expected artifacts made by the same code and settings, found {path} made by "
        f"other {names}{others}; delete it and run snakemake again, or set mixed: mark in the campaign to keep and "
        "mark its rows"
    )


def _facts(key: RunKey, source: RowSource, campaign: Mapping[str, Any]) -> Iterable[tuple[Hashable, Any]]:
    """Yield ``(name, value)`` of an artifact's code and settings; values of equal names should be equal."""
    model, arm, _ = key
    lineage = source.envelope["lineage"]
    step = lineage["step"]
    # Each task file is compared among artifacts that have it, since models may have different benchmarks.
    tasks = {name: digest for name, digest in lineage["code"].items() if name.startswith(TASK_FILES)}
    yield ("code", step), {name: digest for name, digest in lineage["code"].items() if name not in tasks}
    for name, digest in tasks.items():
        yield ("code", step, name), {name: digest}
    stated = (arms_entry(campaign, model, "recipes") or {}).get(arm, {})
    of_one_model = arm in (arms_entry(campaign, model, "own_arms") or [])
    for section, value in lineage["config"].items():
        if section == "arm":
            # Steps by equal time hold the other arm's adapters, which may be each model's own.
            alone = of_one_model or timed_arm(value)
            yield ("settings", step, section, (model, arm) if alone else arm), value
        elif section in SECTIONS:
            for name, setting in value.items():
                group = (model, arm) if name in stated.get(section, []) else model
                yield ("settings", step, section, group, name), setting
        elif section == "evaluation":
            # The list of benchmarks belongs to the arm or base model; the settings of each belong to the model.
            evaluated = (model, BASE if source.shared else arm)
            for name, setting in value.items():
                yield ("settings", step, section, evaluated if name == "benchmarks" else model, name), setting
        elif section not in NOT_COMPARED:
            left_out = KEYS_NOT_COMPARED.get(section, set())
            compared = {name: each for name, each in value.items() if name not in left_out} if left_out else value
            yield ("settings", step, section, model), compared


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
