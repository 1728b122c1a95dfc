"""The tables of a study, from its campaigns' artifacts: ledger, views of it, scores of layers, curves, answers."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from aletheia.analysis import pairs
from aletheia.analysis.answers import AnswerKey, answer_table
from aletheia.analysis.consistency import RowSource, RunKey, check_uniform, deviations, mixed_rows
from aletheia.analysis.curves import curve_table
from aletheia.analysis.layer_scores import layer_table
from aletheia.analysis.ledger import BASE, build_ledger
from aletheia.provenance import artifacts
from aletheia.study.campaign_artifacts import CampaignArtifacts, Campaigns, probing_arms, updating_arms
from aletheia.study.planned_runs import planned_runs
from aletheia.study.report_contents import ANSWER_TABLE, CURVE_TABLE, LAYER_TABLE
from aletheia.study.selectors import UPDATES


def tables(campaigns: Campaigns) -> list[str]:
    """Return the names of the CSV tables that :func:`gather_tables` makes of these campaigns."""
    reports = {report for campaign in campaigns for report in campaign["reports"]}
    wanted = [name for name, (_, needs) in VIEWS.items() if not needs or reports & needs]
    probing = (
        run["arm"] in set(probing_arms(each, run["model"])) - set(updating_arms(each, run["model"]))
        for each in campaigns
        for run in planned_runs(each)
    )
    wanted += [LAYER_TABLE] if any(probing) else []
    return wanted + ([CURVE_TABLE] if any(campaign.get("curves") for campaign in campaigns) else [])


def gather_tables(
    campaigns: Campaigns,
    paths: CampaignArtifacts,
    open_artifact: Callable[[Path, str], artifacts.Artifact],
    *,
    published: Mapping[str, Mapping[str, Any]] | None = None,
) -> dict[str, pd.DataFrame]:
    """Return the tables by file name: the ledger, its views, the layers, the held-out losses on the way, the answers.

    Parameters
    ----------
    campaigns
        As of :func:`aletheia.study.campaign_artifacts.campaign_artifacts`.
    paths
        Of their artifacts.
    open_artifact
        Returns the artifact of a path and a kind (:meth:`aletheia.provenance.job.Job.input`).
    published
        As of :func:`aletheia.analysis.ledger.build_ledger`.

    Raises
    ------
    UserError
        When a file is missing or changed, or a row was made by other code or settings than its campaign's others.
    """
    study = _Envelopes(paths, open_artifact)
    mixed: dict[tuple[Any, ...], str] = {}
    for campaign in campaigns:
        rows = {key: study.sources(key, run["benchmarks"]) for key, run in _by_key(campaign)}
        differences = deviations(rows, campaign)
        check_uniform(campaign, differences)
        for path, names in differences.items():
            print(f"note: campaign {campaign['name']}: {path} was made by other {names}")
        mixed |= {(campaign["name"], *key): names for key, names in mixed_rows(rows, differences).items()}
    ledger = build_ledger(campaigns, study.runs, study.evaluations, mixed, study.turns, published=published)
    frames = {name: VIEWS[name][0](ledger) for name in tables(campaigns) if name in VIEWS}
    payloads = {(model, seed, arm): probe["payload"] for (model, arm, seed), probe in study.probes.items()}
    # A probe by training has none of the table's scores.
    probes = {(model, seed): probe for (model, seed, _), probe in payloads.items() if probe["method"] != UPDATES}
    if probes:
        frames[LAYER_TABLE] = layer_table(probes)
    if CURVE_TABLE in tables(campaigns):
        frames[CURVE_TABLE] = curve_table(campaigns, study.runs)
    if paths.answers:
        frames[ANSWER_TABLE] = answer_table(study.answered(paths))
    return frames


# The view of the ledger in each table, and the reports that need it; an empty set: every study has it.
VIEWS: dict[str, tuple[Callable[[pd.DataFrame], pd.DataFrame], set[str]]] = {
    "ledger.csv": (lambda ledger: ledger, set()),
    "RESULTS_MASTER.csv": (pairs.results_master, {"speed"}),
    "RESULTS_CAMPAIGN2.csv": (pairs.results_runs, {"downstream", "compute_matched"}),
}


class _Envelopes:
    """The artifacts of :class:`~aletheia.study.campaign_artifacts.CampaignArtifacts`, read and checked once."""

    def __init__(self, paths: CampaignArtifacts, open_artifact: Callable[[Path, str], artifacts.Artifact]) -> None:
        self._open_artifact = open_artifact
        self._paths: dict[int, tuple[str, Any]] = {}
        self.runs = self._by_payload(paths.runs, "run", "model", "arm", "seed")
        self.evaluations = self._by_payload(paths.evaluations, "evaluation", "model", "arm", "seed", "benchmark")
        self.probes = {key: self._read(path, "probe") for key, path in paths.probes.items()}
        self.selections = {key: self._read(path, "selection") for key, path in paths.selections.items()}
        self.tokens = {model: self._read(path, "file") for model, path in paths.tokens.items()}
        self.plans = {key: self._read(path, "batches") for key, path in paths.plans.items()}
        self.precisions = {model: self._read(path, "precision") for model, path in paths.precisions.items()}
        self.generations = {key: self._read(path, "file") for key, path in paths.generations.items()}
        self.turns = {key: self._read(path, "paired") for key, path in paths.turns.items()}

    def sources(self, key: RunKey, benchmarks: Iterable[str]) -> list[RowSource]:
        """Return the artifacts of a row: probe to run, evaluations of run and base model, and measurement in turns."""
        model, _, seed = key
        base = (model, BASE, None)
        own = [self.probes.get(key), self.selections.get(key), self.plans.get((model, seed)), self.runs.get(key)]
        own += [self.generations.get(key), self.turns.get(key)]
        own += [self.evaluations.get((*key, benchmark)) for benchmark in benchmarks]
        shared = [self.tokens.get(model), self.precisions.get(model), self.generations.get(base)]
        shared += [self.evaluations.get((*base, name)) for name in benchmarks]
        return [
            RowSource(*self._paths[id(envelope)], shared=group is shared)
            for group in (own, shared)
            for envelope in group
            if envelope is not None
        ]

    def answered(self, paths: CampaignArtifacts) -> dict[AnswerKey, Path]:
        """Return the tables of the evaluations that did not fail."""
        return {key: path for key, path in paths.answers.items() if self.evaluations[key]["payload"]["status"] == "ok"}

    def _read(self, path: Path, kind: str) -> dict[str, Any]:
        envelope = self._open_artifact(path, kind).envelope
        self._paths[id(envelope)] = (path.as_posix(), envelope)
        return envelope

    def _by_payload(self, paths: Iterable[Path], kind: str, *key: str) -> dict[tuple[Any, ...], dict[str, Any]]:
        envelopes = (self._read(path, kind) for path in paths)
        return {tuple(envelope["payload"][name] for name in key): envelope for envelope in envelopes}


def _by_key(campaign: Mapping[str, Any]) -> Iterable[tuple[RunKey, Mapping[str, Any]]]:
    return (((run["model"], run["arm"], run["seed"]), run) for run in planned_runs(campaign))
