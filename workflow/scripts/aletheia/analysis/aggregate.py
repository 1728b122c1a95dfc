"""What aggregate reads: where a study keeps the artifacts of its campaigns, and the tables made of them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd

from aletheia.analysis import pairs
from aletheia.analysis.consistency import Key, Maker, check_uniform, deviations, mixed_rows
from aletheia.analysis.layer_scores import layer_table
from aletheia.analysis.ledger import BASE, build_ledger
from aletheia.provenance import artifacts
from aletheia.study.benchmarks import HUMANEVAL, table_name
from aletheia.study.planned_runs import planned_runs
from aletheia.study.report_contents import LAYER_TABLE

Campaigns = Sequence[Mapping[str, Any]]
GENERATIONS = table_name(HUMANEVAL) + artifacts.SIDECAR


@dataclass(frozen=True)
class Sources:
    """The artifacts that a study's tables are made of.

    Attributes
    ----------
    runs, evaluations
        Files of kind ``run`` and ``evaluation``.
    probes
        By (model, seed).
    selections
        By (model, arm, seed).
    plans
        Of batches, by (model, seed).
    precisions
        Measured choices, by model with ``dtype: auto``.
    generations
        Sidecars of generated programs by (model, arm, seed), or (model, "base", None): what judged them stands in
        the evaluation, what wrote them only here.
    """

    runs: list[Path]
    evaluations: list[Path]
    probes: dict[tuple[str, int], Path] = field(default_factory=dict)
    selections: dict[Key, Path] = field(default_factory=dict)
    plans: dict[tuple[str, int], Path] = field(default_factory=dict)
    precisions: dict[str, Path] = field(default_factory=dict)
    generations: dict[tuple[str, str, int | None], Path] = field(default_factory=dict)

    @property
    def paths(self) -> list[Path]:
        """All of them."""
        others = (self.probes, self.selections, self.plans, self.precisions, self.generations)
        return [*self.runs, *self.evaluations, *(path for group in others for path in group.values())]


def sources(
    campaigns: Campaigns, root: Path, *, runs: list[Path] | None = None, evaluations: list[Path] | None = None
) -> Sources:
    """Return where a study keeps what its campaigns need.

    Parameters
    ----------
    campaigns
        As :meth:`aletheia.study.Study.campaign_index` gives them.
    root
        The study's results folder.
    runs, evaluations
        In place of the study's own; with runs, which plans of batches they read is not known, and with evaluations what
        wrote the answers.
    """
    planned = [(run, campaign.get("selecting", [])) for campaign in campaigns for run in planned_runs(campaign)]
    probes, selections, plans, precisions, generations, trained, evaluated = {}, {}, {}, {}, {}, set(), set()
    for run, selecting in planned:
        model, arm, seed = key = (run["model"], run["arm"], run["seed"])
        trained.add(root / "train" / _place(*key) / "run.json")
        if runs is None:
            plans[model, seed] = root / "batches" / model / f"seed{seed}.json"
            if run.get("measured_precision"):
                precisions[model] = root / "precision" / f"{model}.json"
        for asked in (key, (model, BASE, None)):
            folder = root / "evaluate" / _place(*asked)
            evaluated |= {folder / f"{benchmark}.json" for benchmark in run["benchmarks"]}
            if HUMANEVAL in run["benchmarks"] and evaluations is None:
                generations[asked] = folder / GENERATIONS
        if arm in selecting:
            probes[model, seed] = root / "probe" / model / f"seed{seed}.json"
            selections[key] = (root / "select" / _place(*key)).with_suffix(".json")
    asked_of = sorted(evaluated) if evaluations is None else evaluations
    return Sources(runs or sorted(trained), asked_of, probes, selections, plans, precisions, generations)


def tables(campaigns: Campaigns) -> list[str]:
    """Return the names of the tables that :func:`gathered` makes of these campaigns."""
    reports = {report for campaign in campaigns for report in campaign["reports"]}
    wanted = [name for name, (_, needs) in VIEWS.items() if not needs or reports & needs]
    return wanted + ([LAYER_TABLE] if any(campaign.get("selecting") for campaign in campaigns) else [])


def gathered(campaigns: Campaigns, found: Sources) -> dict[str, pd.DataFrame]:
    """Return the tables by file name: the ledger, its views, and the layers.

    Raises
    ------
    UserError
        When a file is missing or changed, or a row was made otherwise than its campaign's others.
    """
    study = _Envelopes(found)
    mixed: dict[tuple[Any, ...], str] = {}
    for campaign in campaigns:
        rows = {key: study.makers(key, run["benchmarks"]) for key, run in _by_key(campaign)}
        otherwise = deviations(rows)
        check_uniform(campaign, otherwise)
        for path, what in otherwise.items():
            print(f"note: campaign {campaign['name']}: {path} was made by other {what}")
        mixed |= {(campaign["name"], *key): what for key, what in mixed_rows(rows, otherwise).items()}
    ledger = build_ledger(campaigns, study.runs, study.evaluations, mixed)
    frames = {name: VIEWS[name][0](ledger) for name in tables(campaigns) if name in VIEWS}
    if study.probes:
        frames[LAYER_TABLE] = layer_table({key: probe["payload"] for key, probe in study.probes.items()})
    return frames


# What each table shows of the ledger, and the reports that ask for it.
VIEWS: dict[str, tuple[Callable[[pd.DataFrame], pd.DataFrame], set[str]]] = {
    "ledger.csv": (lambda ledger: ledger, set()),
    "RESULTS_MASTER.csv": (pairs.results_master, {"speed"}),
    "RESULTS_CAMPAIGN2.csv": (pairs.results_runs, {"downstream", "compute_matched"}),
}


class _Envelopes:
    """The artifacts of :class:`Sources`, read and checked once."""

    def __init__(self, found: Sources) -> None:
        self._paths: dict[int, tuple[str, Any]] = {}
        self.runs = self._by_payload(found.runs, "run", "model", "arm", "seed")
        self.evaluations = self._by_payload(found.evaluations, "evaluation", "model", "arm", "seed", "benchmark")
        self.probes = {key: self._read(path, "probe") for key, path in found.probes.items()}
        self.selections = {key: self._read(path, "selection") for key, path in found.selections.items()}
        self.plans = {key: self._read(path, "batches") for key, path in found.plans.items()}
        self.precisions = {model: self._read(path, "precision") for model, path in found.precisions.items()}
        self.generations = {key: self._read(path, "file") for key, path in found.generations.items()}

    def makers(self, key: Key, benchmarks: Iterable[str]) -> list[Maker]:
        """Return the artifacts that make a row: probe to run, its evaluations and its base model's."""
        model, _, seed = key
        base = (model, BASE, None)
        # Arms without a selection rest on no probe.
        probe = self.probes.get((model, seed)) if key in self.selections else None
        own = [probe, self.selections.get(key), self.plans.get((model, seed)), self.runs.get(key)]
        own.append(self.generations.get(key))
        own += [self.evaluations.get((*key, benchmark)) for benchmark in benchmarks]
        shared = [self.precisions.get(model), self.generations.get(base)]
        shared += [self.evaluations.get((*base, name)) for name in benchmarks]
        return [
            Maker(*self._paths[id(envelope)], shared=group is shared)
            for group in (own, shared)
            for envelope in group
            if envelope is not None
        ]

    def _read(self, path: Path, kind: str) -> dict[str, Any]:
        envelope = artifacts.read(path, kind)
        self._paths[id(envelope)] = (path.as_posix(), envelope)
        return envelope

    def _by_payload(self, paths: Iterable[Path], kind: str, *key: str) -> dict[tuple[Any, ...], dict[str, Any]]:
        envelopes = (self._read(path, kind) for path in paths)
        return {tuple(envelope["payload"][name] for name in key): envelope for envelope in envelopes}


def _by_key(campaign: Mapping[str, Any]) -> Iterable[tuple[Key, Mapping[str, Any]]]:
    return (((run["model"], run["arm"], run["seed"]), run) for run in planned_runs(campaign))


def _place(model: str, arm: str, seed: int | None) -> str:
    return f"{model}/{arm}" if seed is None else f"{model}/{arm}/seed{seed}"
