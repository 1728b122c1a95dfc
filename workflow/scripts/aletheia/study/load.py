"""Load a study from its configuration: read registries and campaigns, check them, and enter their runs."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from aletheia.errors import UserError
from aletheia.study.arms import check_arms, check_arms_of, entries
from aletheia.study.benchmarks import BENCHMARKS
from aletheia.study.campaign_files import read_campaigns
from aletheia.study.contradictions import CountRows, StagedRows, check_campaign, check_settings
from aletheia.study.entered_runs import enter_plan, recipe_sections
from aletheia.study.equal_time import check_claims, settle_steps
from aletheia.study.evaluation_jobs import check_vllm_serves
from aletheia.study.recipe_checks import check_active_layers, check_recipe
from aletheia.study.recipes import layers_and_steps
from aletheia.study.registries import expect_data, read_data, read_models
from aletheia.study.rehearsal import rehearsed_settings, with_stand_ins
from aletheia.study.schema import PACE, at, check, merge, schema, trees, with_defaults
from aletheia.study.schema_sentences import nearest
from aletheia.study.searches import enter_search
from aletheia.study.study import Run, Study
from aletheia.study.trials import settle_rates

# Sections that all runs of a model share with its probe and its base model's evaluation; and those of each run.
SHARED = ("data", "probe", "stability", "interleaving", "encoding", "evaluation", "benchmarks")
PER_RUN = ("adapter", "training")


def load_study(
    config: Mapping[str, Any], count_rows: CountRows | None = None, staged_rows: StagedRows | None = None
) -> Study:
    """Read registries and campaigns.

    Parameters
    ----------
    config
        The merged configuration that Snakemake holds (``config/config.yaml`` and overrides).
    count_rows
        Counts rows of a file, up to a number; where it is given, held-out files of the user's own must have as many
        rows as a campaign states.
    staged_rows
        Returns the training rows of a data set that is staged already, from which the steps of epochs follow; where it
        does not know, or is not given, they follow from ``rows`` in the registry, or are not known.

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
        models = with_stand_ins(models, campaigns)
    figures = with_defaults(config.get("figures", {}), root["properties"]["figures"], root)
    study = Study(models, data, campaigns, figures)
    study.train_rows = _train_rows(study, staged_rows)
    for campaign in campaigns:
        _add_campaign(study, campaign, count_rows)
    settle_rates(study)
    settle_steps(study)
    check_claims(study)
    return study


def _train_rows(study: Study, staged_rows: StagedRows | None) -> dict[str, int]:
    """Return the training rows of the data sets that campaigns train on, where they are known before it does."""
    known = {}
    for campaign in study.campaigns:
        for name in {campaign["data"], *(each.get("data") for each in campaign["overrides"].values())}:
            entry = study.data.get(name, {})
            # Before they are tokenised: some may keep no target.
            rows = entry.get("rows") or (staged_rows(name, entry) if staged_rows and entry else None)
            known |= {name: rows} if rows else {}
    return known


def _add_campaign(study: Study, campaign: dict[str, Any], count_rows: CountRows | None) -> None:
    for number, model in enumerate(campaign["models"]):
        if model not in study.models:
            near = nearest(model, list(study.models))
            raise UserError(
                f"{at(Path(campaign['path']), 'models', number)}: model {model!r} is not in the registry{near}"
            )
    check_campaign(campaign)
    check_arms(campaign)
    common = {key: campaign[key] for key in (*SHARED, *PER_RUN)}
    for model in campaign["models"]:
        settings = merge(common, _registry_settings(campaign, study.models[model]))
        settings = merge(settings, campaign["overrides"].get(model, {}))
        questions = Study.question_sets(settings["benchmarks"], settings)
        expect_data(campaign["path"], model, study.data, settings, questions)
        check_vllm_serves(campaign["path"], model, study.models[model], settings)
        data, rows = study.data[settings["data"]], study.train_rows.get(settings["data"])
        check_settings(campaign, model, settings, data, count_rows, rows=rows)
        arms = entries(campaign, model)
        by_arm = {arm: {**settings, **recipe_sections(entry, settings)} for arm, entry in arms.items()}
        depth = study.models[model].get("layers")
        for arm, sections in by_arm.items():
            check_recipe(campaign, model, arm, sections, data, rows=rows)
            check_active_layers(campaign, model, arm, sections, depth)
        check_arms_of(campaign, model, by_arm, depth, rows=rows)
        _enter_shared(study, campaign, model, settings)
        for arm, entry in arms.items():
            asked = {*study.asked.get((model, arm), []), *entry.get("benchmarks", settings["benchmarks"])}
            study.asked[model, arm] = [benchmark for benchmark in BENCHMARKS if benchmark in asked]
            for seed in campaign["seeds"]:
                run = Run(model, arm, seed, layers_and_steps(entry, settings), by_arm[arm])
                _add_run(study, campaign, run, settings["training"])
        if "search" in campaign:
            enter_search(study, campaign, model, settings)


def _registry_settings(campaign: Mapping[str, Any], entry: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings that the registry has for a model, where the campaign does not state them."""
    if campaign["states_batch_size"] or "batch_size" not in entry:
        return {}
    return {"training": {"batch_size": entry["batch_size"]}}


def _enter_shared(study: Study, campaign: dict[str, Any], model: str, settings: dict[str, Any]) -> None:
    """Enter the settings that all runs of a model share, or compare them with earlier ones; benchmarks add up."""
    new = copy.deepcopy({key: settings[key] for key in SHARED})
    entered = study.shared.setdefault(model, new)
    compared = {
        "batch_size",
        "generation",
        "prompt",
        "time_limit_seconds",
        *(set(new["benchmarks"]) & set(entered["benchmarks"])),
    }
    whole = ("data", "probe", "stability", "encoding")
    differing = [key for key in whole if new[key] != entered[key]]
    # Of how many seeds arms are timed in turns is each campaign's own.
    differing += [f"interleaving.{k}" for k in PACE if new["interleaving"][k] != entered["interleaving"][k]]
    old_evaluation, evaluation = entered["evaluation"], new["evaluation"]
    differing += [f"evaluation.{k}" for k in sorted(compared) if evaluation.get(k) != old_evaluation.get(k)]
    if differing:
        raise UserError(
            f"{campaign['path']}: {model} has other {differing[0]} settings in an earlier campaign; all runs of a "
            "model share them, so make them equal, or enter the model under another name"
        )
    for benchmark in set(new["benchmarks"]) - set(entered["benchmarks"]):
        old_evaluation[benchmark] = evaluation[benchmark]
    entered["benchmarks"] = [b for b in BENCHMARKS if b in {*entered["benchmarks"], *new["benchmarks"]}]


def _add_run(study: Study, campaign: dict[str, Any], run: Run, common: Mapping[str, Any]) -> None:
    entered = study.runs.setdefault((run.model, run.arm, run.seed), run)
    if entered.arm_settings != run.arm_settings:
        raise UserError(
            f"{campaign['path']}: arm {run.arm!r} of {run.model} means something else in another campaign; "
            "give the arm another name in one of them"
        )
    other = next((each for each in study.runs.values() if each.arm == run.arm and each.kind != run.kind), None)
    if other:
        raise UserError(
            f"{campaign['path']}: arm {run.arm!r} is one of rule {run.kind} for {run.model} and of {other.kind} for "
            f"{other.model}; give it another name for one of them"
        )
    for section in PER_RUN:
        if entered.settings[section] != run.settings[section]:
            raise UserError(
                f"{campaign['path']}: {run.model}/{run.arm}/seed{run.seed} has other {section} settings in an "
                "earlier campaign; make them equal, or give the arm another name in one of them"
            )
    enter_plan(study, campaign, run, common)
