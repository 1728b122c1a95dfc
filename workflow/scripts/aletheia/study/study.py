"""The study as data: which runs the campaigns ask for, and the settings of each.

A run is named by (model, arm, seed). Two campaigns share a run only when all that decides its result is equal.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from aletheia.errors import UserError
from aletheia.study.arms import (
    BASELINE,
    SHAPE,
    check_arms,
    check_arms_of,
    entries,
    needs_probe,
    rule_of,
    steps_of_plan,
)
from aletheia.study.benchmarks import BENCHMARKS
from aletheia.study.campaign_files import read_campaigns
from aletheia.study.contradictions import CountRows, check_campaign, check_recipe, check_settings
from aletheia.study.evaluation_jobs import check_served, jobs_of
from aletheia.study.paths import BASE, run_name
from aletheia.study.recipes import placement, recipe, stated_keys
from aletheia.study.registries import expect_data, read_data, read_models
from aletheia.study.rehearsal import rehearsed_settings, stand_ins
from aletheia.study.report_contents import LAYER_FIGURES, LAYER_TABLE, REPORTS, analyses_of, figures_of, tables_of
from aletheia.study.schema import at, check, merged, schema, trees, with_defaults
from aletheia.study.schema_sentences import nearest

# Sections that all runs of a model share, as its probe and its base model's evaluation do; and those of a single run.
SHARED = ("data", "probe", "stability", "interleaving", "encoding", "evaluation", "benchmarks")
OWN = ("adapter", "training")


@dataclass
class Run:
    """One training run: its key and the sections that its rules read.

    Attributes
    ----------
    arm_settings
        What chooses its layers and decides its steps.
    settings
        All sections; ``adapter`` and ``training`` with what the arm states over those of the campaign.
    """

    model: str
    arm: str
    seed: int
    arm_settings: dict[str, Any]
    settings: dict[str, Any]

    @property
    def kind(self) -> str:
        """Which rule trains it (see :func:`aletheia.study.arms.rule_of`)."""
        return rule_of(self.arm_settings)

    @property
    def selects(self) -> bool:
        """Whether its adapters stand in a selection of the layers."""
        return self.kind != "train_std"

    @property
    def probes(self) -> bool:
        """Whether that selection follows from a probe (see :func:`aletheia.study.arms.needs_probe`)."""
        return needs_probe(self.arm_settings)


@dataclass
class Study:
    """All that the rules need.

    Attributes
    ----------
    models, data
        The registries.
    campaigns
        As their files say, defaults filled in.
    runs
        By (model, arm, seed).
    batches
        By (model, seed): steps, batch size and accumulation of the plan that all its arms read: the campaign's shape,
        whatever that of an arm is.
    shared
        By model: what its probe and its evaluations read, the same for all its runs.
    figures
        Look of the figures.
    """

    models: dict[str, dict[str, Any]]
    data: dict[str, dict[str, Any]]
    campaigns: list[dict[str, Any]]
    figures: dict[str, Any]
    runs: dict[tuple[str, str, int], Run] = field(default_factory=dict)
    batches: dict[tuple[str, int], dict[str, int]] = field(default_factory=dict)
    shared: dict[str, dict[str, Any]] = field(default_factory=dict)

    def run(self, model: str, arm: str, seed: int) -> Run:
        """Return a run of some campaign.

        Raises
        ------
        UserError
            When no campaign has it; with the seeds that there are.
        """
        if (model, arm, seed) not in self.runs:
            seeds = sorted(run.seed for run in self.runs.values() if (run.model, run.arm) == (model, arm))
            raise UserError(
                f"{model}/{arm}/seed{seed}: expected a run of some campaign (that arm has the seeds "
                f"{', '.join(map(str, seeds)) or 'of other models'}), found none of that name"
            )
        return self.runs[model, arm, seed]

    def model_benchmarks(self, model: str) -> list[str]:
        """Return every benchmark that some campaign asks of a model; its base model and all its runs answer them."""
        return self.shared[model]["benchmarks"]

    def evaluation_jobs(self, model: str) -> dict[str, list[str]]:
        """Return ``{step: benchmarks}`` of the jobs that evaluate each of a model's runs."""
        return jobs_of(self.model_benchmarks(model), self.shared[model]["evaluation"]["generation"])

    def benchmark_sets(self, step: str) -> dict[tuple[str, ...], list[str]]:
        """Return ``{benchmarks: models}``: which models have which set answered by a job of a step."""
        sets: dict[tuple[str, ...], list[str]] = {}
        for model in self.used_models():
            sets.setdefault(tuple(self.evaluation_jobs(model).get(step, [])), []).append(model)
        return {benchmarks: models for benchmarks, models in sets.items() if benchmarks}

    def used_models(self) -> list[str]:
        """Return the models of all campaigns, in the order of first mention."""
        return list(self.shared)

    def used_data(self) -> list[str]:
        """Return training data and question sets that some run reads."""
        names = [settings["data"] for settings in self.shared.values()]
        for settings in self.shared.values():
            names += self.question_sets(settings["benchmarks"], settings).values()
        return list(dict.fromkeys(names))

    @staticmethod
    def question_sets(benchmarks: Iterable[str], settings: Mapping[str, Any]) -> dict[str, str]:
        """Return ``{benchmark: name in the registry of data}`` of the benchmarks that have questions, or passages."""
        keys = {name: BENCHMARKS[name].named_by for name in benchmarks}
        return {name: settings["evaluation"][name][key] for name, key in keys.items() if key}

    def evaluated(self) -> list[tuple[str, str]]:
        """Return (model, run) of all that is evaluated, as paths name them: base models first."""
        models = [(model, BASE) for model in self.used_models()]
        return models + [(run.model, run_name(run.arm, run.seed)) for run in self.runs.values()]

    def result_tables(self) -> list[str]:
        """Return the tables that aggregate writes beside the ledger."""
        reports = set(self.reports())
        tables = {"RESULTS_MASTER.csv": {"speed"}, "RESULTS_CAMPAIGN2.csv": {"downstream", "compute_matched"}}
        names = [name for name, wanted in tables.items() if wanted & reports]
        return names + ([LAYER_TABLE] if self.probed() else [])

    def tables(self) -> list[int]:
        """Return the numbers of the tables that the study has."""
        return tables_of(self.reports())

    def figure_names(self) -> list[str]:
        """Return the figures that the study has."""
        return figures_of(self.reports()) + (list(LAYER_FIGURES) if self.probed() else [])

    def probed(self) -> list[tuple[str, int]]:
        """Return (model, seed) of every probe that some run needs: each run whose layers follow from scores."""
        return list(dict.fromkeys((run.model, run.seed) for run in self.runs.values() if run.probes))

    def arms_of_rule(self, rule: str) -> list[str]:
        """Return the arms that one of the training rules makes."""
        return sorted({run.arm for run in self.runs.values() if run.kind == rule})

    def measured_precisions(self) -> list[str]:
        """Return the models whose precision is measured."""
        return [model for model in self.used_models() if self.models[model]["dtype"] == "auto"]

    def paired(self) -> list[Run]:
        """Return the runs that can be timed in turns with the standard arm: selecting arms of as many steps."""
        selecting = (run for run in self.runs.values() if run.kind == "train_ale")
        return [run for run in selecting if (run.model, BASELINE, run.seed) in self.runs]

    def attributed(self) -> dict[str, Run]:
        """Return, by model, the first run of an arm that is probed: its attribution has that run's settings."""
        first: dict[str, Run] = {}
        for run in self.runs.values():
            if run.probes:
                first.setdefault(run.model, run)
        return first

    def analyses(self) -> list[str]:
        """Return the written analyses that the study has."""
        return list(analyses_of(self.reports()).values())

    def campaign_index(self) -> list[dict[str, Any]]:
        """Return each campaign as aggregate needs it: models, arms, seeds, reports, what to do with mixed rows."""
        return [
            {
                "name": campaign["name"],
                "reports": campaign["reports"],
                "mixed": campaign["mixed"],
                **_kinds(campaign["arms"]),
                "arms": list(campaign["arms"]),
                "seeds": campaign["seeds"],
                "models": {
                    model: {
                        "family": self.models[model].get("family"),
                        "headline": self._own(campaign, model, "headline"),
                        "parameters": self.models[model].get("parameters"),
                        "benchmarks": self._own(campaign, model, "benchmarks"),
                        **({"measured_precision": True} if self.models[model]["dtype"] == "auto" else {}),
                        **self._own_arms(campaign, model),
                    }
                    for model in campaign["models"]
                },
            }
            for campaign in self.campaigns
        ]

    @staticmethod
    def _own(campaign: Mapping[str, Any], model: str, key: str) -> Any:
        """Return a model's setting in a campaign: its override, or the campaign's."""
        return campaign["overrides"].get(model, {}).get(key, campaign[key])

    def _own_arms(self, campaign: Mapping[str, Any], model: str) -> dict[str, Any]:
        """Return what of a model's arms its campaign does not say: names, kinds, and the keys that each states."""
        arms, (seed, *_) = entries(campaign, model), campaign["seeds"]
        found: dict[str, Any] = {} if list(arms) == list(campaign["arms"]) else {"arms": list(arms)}
        own = campaign["overrides"].get(model, {}).get("arms")
        if own:
            found |= {**_kinds(arms), "own_arms": list(own)}
        sections = {arm: stated_keys(entry, self.run(model, arm, seed).settings) for arm, entry in arms.items()}
        recipes = {arm: stated for arm, stated in sections.items() if stated}
        return {**found, **({"recipes": recipes} if recipes else {})}

    def reports(self) -> list[str]:
        """Return the reports that some campaign feeds, in their fixed order."""
        return [r for r in REPORTS if any(r in c["reports"] for c in self.campaigns)]


def load_study(config: Mapping[str, Any], count_rows: CountRows | None = None) -> Study:
    """Read registries and campaigns.

    Parameters
    ----------
    config
        The merged configuration that Snakemake holds (``config/config.yaml`` and overrides).
    count_rows
        Counts rows of a file, up to a number; where it is given, held-out files of the user's own must have as many
        rows as a campaign states.

    Returns
    -------
    Study
        With every default filled in.

    Raises
    ------
    UserError
        For an unknown key, a wrong value, a name that no registry has, two campaigns that ask for the same run with
        different settings, or a rehearsal of real models.
    """
    config = dict(config)
    check(config, "config", "config")
    trees(config)
    root = schema("config")
    config = with_defaults(config, root, root)
    models, data = read_models(Path(config["models"])), read_data(Path(config["data"]))
    rehearsed = rehearsed_settings(config)
    campaigns = read_campaigns(config["campaigns"], rehearsed)
    if config["stand_ins"]:
        models = stand_ins(models, campaigns)
    figures = with_defaults(config.get("figures", {}), root["properties"]["figures"], root)
    study = Study(models, data, campaigns, figures)
    for campaign in campaigns:
        _add_campaign(study, campaign, count_rows)
    return study


def _add_campaign(study: Study, campaign: dict[str, Any], count_rows: CountRows | None) -> None:
    for number, model in enumerate(campaign["models"]):
        if model not in study.models:
            near = nearest(model, list(study.models))
            raise UserError(
                f"{at(Path(campaign['path']), 'models', number)}: model {model!r} is not in the registry{near}"
            )
    check_campaign(campaign)
    check_arms(campaign)
    common = {key: campaign[key] for key in (*SHARED, *OWN)}
    for model in campaign["models"]:
        settings = merged(common, _of_registry(campaign, study.models[model]))
        settings = merged(settings, campaign["overrides"].get(model, {}))
        questions = Study.question_sets(settings["benchmarks"], settings)
        expect_data(campaign["path"], model, study.data, settings, questions)
        check_served(campaign["path"], model, study.models[model], settings)
        check_settings(campaign, model, settings, study.data[settings["data"]], count_rows)
        arms = entries(campaign, model)
        own = {arm: {**settings, **_recipe(entry, settings)} for arm, entry in arms.items()}
        for arm, sections in own.items():
            check_recipe(campaign, model, arm, sections, study.data[settings["data"]])
        check_arms_of(campaign, model, own, study.models[model].get("layers"))
        _share(study, campaign, model, settings)
        for arm, entry in arms.items():
            for seed in campaign["seeds"]:
                run = Run(model, arm, seed, placement(entry, settings), own[arm])
                _add_run(study, campaign, run, settings["training"])


def _kinds(arms: Mapping[str, Mapping[str, Any]]) -> dict[str, list[str]]:
    """Return which arms have a selection of the layers, and which of these follows from a probe."""
    return {
        "selecting": [arm for arm, entry in arms.items() if rule_of(entry) != "train_std"],
        "probing": [arm for arm, entry in arms.items() if needs_probe(entry)],
    }


def _recipe(arm: Mapping[str, Any], settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return the sections of an arm's runs: the model's, with what the arm states."""
    return {section: merged(settings[section], stated) for section, stated in recipe(arm, settings).items()}


def _of_registry(campaign: Mapping[str, Any], entry: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings that the registry has for a model, where the campaign says nothing of them."""
    if campaign["states_batch_size"] or "batch_size" not in entry:
        return {}
    return {"training": {"batch_size": entry["batch_size"]}}


def _share(study: Study, campaign: dict[str, Any], model: str, settings: dict[str, Any]) -> None:
    """Enter what all runs of a model share, or hold it against an earlier campaign's; benchmarks add up."""
    own = copy.deepcopy({key: settings[key] for key in SHARED})
    there = study.shared.setdefault(model, own)
    both = {
        "batch_size",
        "generation",
        "prompt",
        "time_limit_seconds",
        *(set(own["benchmarks"]) & set(there["benchmarks"])),
    }
    whole = ("data", "probe", "stability", "interleaving", "encoding")
    differing = [key for key in whole if own[key] != there[key]]
    differing += [f"evaluation.{k}" for k in sorted(both) if own["evaluation"].get(k) != there["evaluation"].get(k)]
    if differing:
        raise UserError(
            f"{campaign['path']}: {model} has other {differing[0]} settings in an earlier campaign; all runs of a "
            "model share them, so make them equal, or enter the model under another name"
        )
    for benchmark in set(own["benchmarks"]) - set(there["benchmarks"]):
        there["evaluation"][benchmark] = own["evaluation"][benchmark]
    there["benchmarks"] = [b for b in BENCHMARKS if b in {*there["benchmarks"], *own["benchmarks"]}]


def _add_run(study: Study, campaign: dict[str, Any], run: Run, common: Mapping[str, Any]) -> None:
    there = study.runs.setdefault((run.model, run.arm, run.seed), run)
    if there.arm_settings != run.arm_settings:
        raise UserError(
            f"{campaign['path']}: arm {run.arm!r} of {run.model} means something else in another campaign; "
            "give the arm another name in one of them"
        )
    other = next((one for one in study.runs.values() if one.arm == run.arm and one.kind != run.kind), None)
    if other:
        raise UserError(
            f"{campaign['path']}: arm {run.arm!r} is one of rule {run.kind} for {run.model} and of {other.kind} for "
            f"{other.model}; give it another name for one of them"
        )
    for section in OWN:
        if there.settings[section] != run.settings[section]:
            raise UserError(
                f"{campaign['path']}: {run.model}/{run.arm}/seed{run.seed} has other {section} settings in an "
                "earlier campaign; make them equal, or give the arm another name in one of them"
            )
    _plan(study, campaign, run, common)


def _plan(study: Study, campaign: dict[str, Any], run: Run, common: Mapping[str, Any]) -> None:
    """Enter a run into the plan that all arms of its model and seed read; one plan serves them all.

    Its shape is that of ``common``, the campaign's section ``training`` for the model; an arm of another shape cuts the
    plan's rows otherwise.
    """
    shape = {key: common[key] for key in SHAPE}
    there = study.batches.setdefault((run.model, run.seed), {"steps": 0, **shape})
    differing = [key for key, value in shape.items() if there[key] != value]
    if differing:
        raise UserError(
            f"{campaign['path']}: {run.model} has another training.{differing[0]} in an earlier campaign with the same "
            "seeds; its arms read one plan of batches, so make it equal, or state it in arms instead"
        )
    needed = steps_of_plan({**shape, "steps": common["steps"]}, run.settings["training"], run.arm_settings)
    there["steps"] = max(there["steps"], needed)
