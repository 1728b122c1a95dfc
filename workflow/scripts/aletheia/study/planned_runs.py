"""The runs that a campaign plans; apart from the ledger, since each start of Snakemake needs them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from aletheia.study.arms import STD

TURNS = "turns"  # a campaign's ``speed``: arms timed alternately in one process; ``wall_clock`` is the runs' own times
ARM_KEYS = ("arms", "selecting", "probing", "updating", "own_arms", "recipes", "arm_benchmarks")


def planned_runs(campaign: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Return a campaign's runs, each ``{model, family, arm, seed, headline, benchmarks, …}``, with
    ``parameters`` where they are known and ``measured_precision`` where it was.

    Parameters
    ----------
    campaign
        Either ``{…, runs: [each as above]}``, or in short ``{…, arms, seeds, models: {model: {family,
        headline, benchmarks, …, arms?}}}``, which means every model in every arm (or in its own) with every
        seed. Other entries of a model about its arms (:data:`ARM_KEYS`) are left out.
    """
    if "runs" in campaign:
        return list(campaign["runs"])
    return [
        {"model": model, "arm": arm, "seed": seed, **_run_facts(facts, arm)}
        for model, facts in campaign["models"].items()
        for arm in facts.get("arms", campaign["arms"])
        for seed in campaign["seeds"]
    ]


def _run_facts(model: Mapping[str, Any], arm: str) -> dict[str, Any]:
    """Return a run's facts about its model, with the benchmarks of its arm where that has its own."""
    facts = {key: fact for key, fact in model.items() if key not in ARM_KEYS}
    benchmarks = model.get("arm_benchmarks", {}).get(arm)
    return facts if benchmarks is None else {**facts, "benchmarks": benchmarks}


def arms_entry(campaign: Mapping[str, Any], model: str, key: str) -> Any:
    """Return an entry about a model's arms from a campaign in short: the model's own, or the campaign's, or None."""
    return campaign.get("models", {}).get(model, {}).get(key, campaign.get(key))


def runs_in_turns(campaign: Mapping[str, Any]) -> list[tuple[str, str, int]]:
    """Return (model, arm, seed) of the runs that a campaign with ``speed: turns`` has timed beside the standard arm.

    These are all arms but ``std``, of the models and seeds that have ``std`` too, and of the ``timed_seeds`` alone
    where the campaign has these; none of other campaigns.

    Parameters
    ----------
    campaign
        As of :func:`planned_runs`, with ``speed``.
    """
    if campaign.get("speed") != TURNS:
        return []
    keys = [(run["model"], run["arm"], run["seed"]) for run in planned_runs(campaign)]
    with_std = {(model, seed) for model, arm, seed in keys if arm == STD}
    seeds = campaign.get("timed_seeds", campaign.get("seeds"))
    timed = [key for key in keys if key[1] != STD and (key[0], key[2]) in with_std]
    return timed if seeds is None else [key for key in timed if key[2] in seeds]
