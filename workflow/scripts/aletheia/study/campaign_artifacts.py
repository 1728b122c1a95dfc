"""The artifacts that the ledger is made of: those of every run that some campaign plans.

The rule `aggregate` declares these as its inputs, and its script reads the same ones.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from aletheia.provenance.artifacts import SIDECAR, sidecar
from aletheia.study.benchmarks import HUMANEVAL, table_name
from aletheia.study.paths import BASE, Paths, run_name
from aletheia.study.planned_runs import arms_entry, planned_runs, runs_in_turns

Campaigns = Sequence[Mapping[str, Any]]
RunKey = tuple[str, str, int]  # model, arm, seed


@dataclass(frozen=True)
class CampaignArtifacts:
    """The artifacts that a study's tables are made of.

    Attributes
    ----------
    runs, evaluations
        Files of kind ``run`` and ``evaluation``.
    probes, selections
        By (model, arm, seed), of the arms that have one.
    tokens
        Sidecars of the token tables, by model.
    plans
        Of batches, by (model, seed).
    precisions
        Measured choices, by model with ``dtype: auto``.
    generations
        Sidecars of generated programs by (model, arm, seed), or (model, "base", None): the evaluation says
        what judged them, these alone what wrote them.
    answers
        Tables of questions, rows or passages by (model, arm, seed, benchmark), a base model as (model, "base", None,
        benchmark); of programs those judged. Each has its sidecar beside it.
    turns
        Measurements in turns with the standard arm by (model, arm, seed), of campaigns with ``speed: turns``.
    """

    runs: list[Path]
    evaluations: list[Path]
    probes: dict[RunKey, Path] = field(default_factory=dict)
    selections: dict[RunKey, Path] = field(default_factory=dict)
    tokens: dict[str, Path] = field(default_factory=dict)
    plans: dict[tuple[str, int], Path] = field(default_factory=dict)
    precisions: dict[str, Path] = field(default_factory=dict)
    generations: dict[tuple[str, str, int | None], Path] = field(default_factory=dict)
    answers: dict[tuple[str, str, int | None, str], Path] = field(default_factory=dict)
    turns: dict[RunKey, Path] = field(default_factory=dict)

    @property
    def paths(self) -> list[Path]:
        """All of them, each once."""
        others = (self.probes, self.selections, self.tokens, self.plans, self.precisions, self.generations, self.turns)
        found = [*self.runs, *self.evaluations, *(path for group in others for path in group.values())]
        found += [file for path in self.answers.values() for file in (path, sidecar(path))]
        return list(dict.fromkeys(found))


def probing_arms(campaign: Mapping[str, Any], model: str) -> list[str]:
    """Return a model's arms whose layers follow from a probe; of an index without that list, those that select."""
    arms = arms_entry(campaign, model, "probing")
    return arms if arms is not None else arms_entry(campaign, model, "selecting") or []


def updating_arms(campaign: Mapping[str, Any], model: str) -> list[str]:
    """Return those of a model's :func:`probing_arms` whose probe is one by training."""
    return arms_entry(campaign, model, "updating") or []


def campaign_artifacts(
    campaigns: Campaigns, paths: Paths, *, runs: list[Path] | None = None, evaluations: list[Path] | None = None
) -> CampaignArtifacts:
    """Return the artifacts that the ledger of some campaigns is made of.

    Parameters
    ----------
    campaigns
        As :meth:`aletheia.study.study.Study.campaign_index` gives them.
    paths
        The study's.
    runs, evaluations
        Given in place of the study's own; which tokens and plans such runs read, the tables of such evaluations, and
        what wrote their answers, is not known and left out.
    """
    trained: dict[Path, None] = {}
    evaluated: dict[Path, None] = {}
    artifacts = CampaignArtifacts(runs or [], evaluations or [])
    for campaign in campaigns:
        artifacts.turns.update({key: Path(paths.pair(*key)) for key in runs_in_turns(campaign)})
        for run in planned_runs(campaign):
            model, arm, seed = key = (run["model"], run["arm"], run["seed"])
            trained[Path(paths.run(*key))] = None
            if runs is None:
                artifacts.tokens[model] = Path(paths.tokens(model) + SIDECAR)
                artifacts.plans[model, seed] = Path(paths.batches(model, seed))
                if run.get("measured_precision"):
                    artifacts.precisions[model] = Path(paths.precision(model))
            for owner in (key, (model, BASE, None)):
                name = run_name(*owner[1:])
                for benchmark in run["benchmarks"]:
                    evaluated[Path(paths.evaluation(model, name, f"{benchmark}.json"))] = None
                    if evaluations is None:
                        table = paths.evaluation(model, name, f"{benchmark}.parquet")
                        artifacts.answers[*owner, benchmark] = Path(table)
                if HUMANEVAL in run["benchmarks"] and evaluations is None:
                    artifacts.generations[owner] = Path(paths.evaluation(model, name, table_name(HUMANEVAL) + SIDECAR))
            if arm in (arms_entry(campaign, model, "selecting") or []):
                artifacts.selections[key] = Path(paths.selection(*key))
            if arm in probing_arms(campaign, model):
                probe = paths.updates if arm in updating_arms(campaign, model) else paths.probe
                artifacts.probes[key] = Path(probe(model, seed))
    artifacts.runs.extend(sorted(trained) if runs is None else [])
    artifacts.evaluations.extend(sorted(evaluated) if evaluations is None else [])
    return artifacts


def digest_of_paths(paths: Iterable[Path | str]) -> str:
    """Return the sha256 of a set of paths: a rule passes that of its inputs, which may be too many for a command."""
    names = sorted(Path(path).as_posix() for path in paths)
    return hashlib.sha256("\n".join(names).encode()).hexdigest()
