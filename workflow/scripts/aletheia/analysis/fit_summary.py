"""What ``aletheia fit`` ends with, in numbers: base model, standard LoRA, other arms, and which adapter to use.

Differences between arms, with their verdicts, are those of the statistics (``stats/summary.json``); what is computed
here are the differences from the base model.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import pandas as pd

from aletheia.analysis.benchmarks import stem_of
from aletheia.analysis.effects import HELDOUT_LOSS, LOG_RATIO, RETENTION_LOSS, TIME, TIME_WITH_PROBE
from aletheia.analysis.fit_verdict import recommended_arm, worth_it
from aletheia.analysis.from_base import loss_from_base
from aletheia.analysis.plan import Plan
from aletheia.analysis.stats import estimate
from aletheia.analysis.verdicts import Stated
from aletheia.errors import UserError
from aletheia.search.noise_floor import noise_floor
from aletheia.study.arms import STD
from aletheia.study.benchmarks import HELDOUT, RETENTION

MEASURES = (TIME, TIME_WITH_PROBE, HELDOUT_LOSS, RETENTION_LOSS)
COSTS = ("training_seconds", "total_seconds", "probe_seconds", "peak_memory_bytes")
TEST = "test"  # of evaluation.heldout.split: rows that chose nothing


@dataclass(frozen=True)
class FitEvidence:
    """What the summary is made from.

    Attributes
    ----------
    stats
        Payload of ``stats/summary.json``.
    ledger
        One row a run.
    answers
        The table of answers, or None.
    runs
        Payloads of the campaign's runs, by (arm, seed).
    adapters
        The folder of each run's adapter, by (arm, seed).
    plan
        The margins by which differences from the base model are judged; those of ``stats``.
    """

    stats: Mapping[str, Any]
    ledger: pd.DataFrame
    answers: pd.DataFrame | None
    runs: Mapping[tuple[str, int], Mapping[str, Any]]
    adapters: Mapping[tuple[str, int], str]
    plan: Plan


def summarise_fit(section: Mapping[str, Any], evidence: FitEvidence) -> dict[str, Any]:
    """Return the payload of the artifact ``fit``.

    Parameters
    ----------
    section
        The settings section ``fit``: ``campaign``, ``model``, and ``split``, the rows that judge.
    evidence
        What was measured.

    Raises
    ------
    UserError
        When statistics or ledger have no such campaign or model.
    """
    campaign = _named(evidence.stats["campaigns"], "name", section["campaign"])
    model = _named(campaign["models"], "model", section["model"])
    ledger = evidence.ledger
    rows = ledger[(ledger["campaign"] == section["campaign"]) & (ledger["model"] == section["model"])]
    found = _Found(campaign, model, rows, _floor(rows, evidence.plan), evidence)
    arms = {arm: _arm(arm, found) for arm in sorted(model["arms"], key=lambda arm: arm != STD)}
    arm, why = recommended_arm(arms)
    return {
        **{"campaign": section["campaign"], "model": section["model"], "split": section["split"]},
        "margins": {
            **{"nats": evidence.plan.margins.nats, "time_percent": evidence.plan.margins.time_percent},
            "power": evidence.stats["plan"]["power_wanted"],
            "stated": campaign["margins"],
        },
        "base": {name: _first(rows, f"{stem_of(name)}_base") for name in (HELDOUT, RETENTION)},
        "arms": arms,
        "floor": found.floor,
        "recommended": None if arm is None else _adapter(arm, rows, section["split"], evidence),
        "why_recommended": why,
        "verdict": _verdict(arms, arm),
    }


def _named(entries: Any, key: str, name: str) -> dict[str, Any]:
    found = next((entry for entry in entries if entry[key] == name), None)
    if found is None:
        raise UserError(f"fit: expected {name} in the statistics, found none; run stats again")
    return found


def _first(rows: pd.DataFrame, column: str) -> float | None:
    known = rows[column].dropna() if column in rows else []
    return float(known.iloc[0]) if len(known) else None


@dataclass(frozen=True)
class _Found:
    """The campaign and the model in the statistics, their rows of the ledger, the noise floor, and all else."""

    campaign: Mapping[str, Any]
    model: Mapping[str, Any]
    rows: pd.DataFrame
    floor: Mapping[str, Any] | None
    evidence: FitEvidence


def _arm(arm: str, found: _Found) -> dict[str, Any]:
    """Return all that is known of one arm."""
    model, evidence = found.model, found.evidence
    told, own = model["arms"][arm], found.rows[found.rows["arm"] == arm]
    ended = own[own["status"] == "ok"]
    about = {"model": model["model"], "arm": arm, "seeds": [int(seed) for seed in ended["seed"]]}
    stated = Stated(evidence.plan, found.campaign["margins"])
    against = {} if arm == STD else _against_std(arm, found.campaign, model)
    word, why = (None, None) if arm == STD else worth_it(against)
    return {
        **{key: told[key] for key in ("runs", "ok", "layers_adapted", "trainable_parameters")},
        "seeds": about["seeds"],
        "failures": [f"seed {row.seed}: {row.status}" for row in own[own["status"] != "ok"].itertuples()],
        "layers_total": model["layers_total"],
        "lowest_layers": sorted({int(layer) for layer in ended["lowest_layer"].dropna()}),
        "heldout": _level(ended, HELDOUT),
        "retention": _level(ended, RETENTION),
        "heldout_from_base": loss_from_base(evidence.answers, stated, benchmark=HELDOUT, **about),
        "retention_from_base": loss_from_base(evidence.answers, stated, benchmark=RETENTION, **about),
        **{key: told[key] for key in COSTS},
        "busy": int(ended["busy"].notna().sum()),
        "resumed": int((~ended["comparable"].fillna(value=True).astype(bool)).sum()),
        "against_std": against,
        "worth_it": {"verdict": word, "reason": why},
        "rate": _rate(arm, evidence, found.floor),
    }


def _level(ended: pd.DataFrame, benchmark: str) -> dict[str, Any]:
    """Return the mean loss over seeds, in nats, and the number of rows or passages."""
    column = stem_of(benchmark)
    if column not in ended:
        return {**estimate([]), "rows": None}
    rows = ended[f"{benchmark}_n"].dropna()
    return {**estimate(ended[column]), "rows": int(rows.iloc[0]) if len(rows) else None}


def _against_std(arm: str, campaign: Mapping[str, Any], model: Mapping[str, Any]) -> dict[str, Any]:
    """Return the results of an arm against std by measure; times as ratios, arm / std."""
    found: dict[str, Any] = {}
    for block in campaign["effects"]:
        if (block["arm"], block["reference"]) != (arm, STD) or block["measure"] not in MEASURES:
            continue
        result = next((each for each in block["models"] if each["model"] == model["model"]), None)
        if result is not None:
            found[block["measure"]] = _result(result, block["unit"])
    memory = model["against_std"].get(arm, {}).get("peak_memory_ratio")
    return found | ({"peak_memory": {key: memory[key] for key in ("n", "mean", "low", "high")}} if memory else {})


def _result(result: Mapping[str, Any], unit: str) -> dict[str, Any]:
    ends = {key: result[key] for key in ("mean", "low", "high")}
    if unit == LOG_RATIO:
        ends = {key: None if value is None else math.exp(value) for key, value in ends.items()}
    return {
        **ends,
        **{key: result[key] for key in ("seeds", "planned", "n", "over", "clock", "detectable")},
        "rows": result["items"]["n_questions"] if result["items"] else None,
        **{key: result["verdict"][key] for key in ("verdict", "reason")},
    }


def _floor(rows: pd.DataFrame, plan: Plan) -> dict[str, Any] | None:
    """Return by how much runs of std differ that differ in their seed alone, by the loss that chooses rates.

    None for a campaign without std, or with one seed of it.
    """
    own = rows[rows["arm"] == STD]
    if len(own) < 2:
        return None
    ok = own["status"] == "ok"
    losses = {
        int(seed): float(loss) if fine and pd.notna(loss) else None
        for seed, loss, fine in zip(own["seed"], own["eval_loss"], ok, strict=True)
    }
    return asdict(noise_floor(losses, margin=plan.margins.nats))


def _rate(arm: str, evidence: FitEvidence, floor: Mapping[str, Any] | None) -> dict[str, Any]:
    """Return an arm's learning rate and, where it was chosen, among which, and what is as good within the floor."""
    run = next((payload for (name, _), payload in evidence.runs.items() if name == arm), {})
    chosen, tried = run.get("learning_rate"), run.get("rate_chosen_from")
    if not tried:
        return {"value": chosen, "tried": [], "edge": None, "as_good": []}
    entries = [{"arm": name, **facts} for name, facts in tried.items()]
    known = [each["learning_rate"] for each in entries if each["learning_rate"] is not None]
    edge = {min(known): "lowest", max(known): "highest"}.get(chosen) if len({*known}) > 1 else None
    losses = {each["learning_rate"]: each["eval_loss"] for each in entries if each["status"] == "ok"}
    best, delta = losses.get(chosen), floor["delta"] if floor else evidence.plan.margins.nats
    near = (rate for rate, loss in losses.items() if rate != chosen and None not in (best, loss))
    as_good = sorted(rate for rate in near if losses[rate] - best <= delta)
    return {
        "value": chosen,
        "tried": sorted(entries, key=lambda each: each["learning_rate"] or 0),
        **{"edge": edge, "as_good": as_good},
    }


def _adapter(arm: str, rows: pd.DataFrame, split: str, evidence: FitEvidence) -> dict[str, Any]:
    """Return the adapter of an arm's best seed: by the loss that did not judge, where test rows did that."""
    ended = rows[(rows["arm"] == arm) & (rows["status"] == "ok")]
    evaluated = stem_of(HELDOUT)
    column = "eval_loss" if split == TEST or ended[evaluated].isna().all() else evaluated
    row = ended.sort_values([column, "seed"]).iloc[0]
    seed = int(row["seed"])
    return {
        **{"arm": arm, "seed": seed, "adapter": evidence.adapters[arm, seed]},
        "files": dict(evidence.runs[arm, seed]["adapter"]["files"]),
        "seeds": len(ended),
        "heldout_loss": None if pd.isna(row[evaluated]) else float(row[evaluated]),
        "chosen_by": "held-out rows, which judge nothing here" if column == "eval_loss" else "the rows that judge",
    }


def _verdict(arms: Mapping[str, Mapping[str, Any]], recommended: str | None) -> dict[str, Any]:
    """Return the two answers: did fine-tuning help, and was each other arm worth it."""
    asked = recommended or next((arm for arm, own in arms.items() if own["ok"]), None)
    helped = arms[asked]["heldout_from_base"]["verdict"] if asked else None
    return {
        "helped": {"arm": asked, "verdict": helped},
        "worth_it": {arm: own["worth_it"]["verdict"] for arm, own in arms.items() if arm != STD},
    }
