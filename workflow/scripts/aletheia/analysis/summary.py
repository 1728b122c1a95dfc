"""The study's statistics: each campaign's models, families and overall, from the ledger alone."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import Any

import pandas as pd

from aletheia.analysis import arms, controls, speed, verdicts
from aletheia.analysis.benchmarks import measured_by, questions_in, stem_of
from aletheia.analysis.dose_response import dose_response
from aletheia.analysis.effects import HELDOUT_LOSS
from aletheia.analysis.floors import base_at_floor, is_base_flagged, is_flagged
from aletheia.analysis.frontier import relative_time
from aletheia.analysis.inference import infer
from aletheia.analysis.ledger import PREFIX
from aletheia.analysis.paired_arms import effects
from aletheia.analysis.pairs import CM, pairs, reporting
from aletheia.analysis.plan import Plan, PlanHistory, margins_stated
from aletheia.analysis.stats import CONFIDENCE_LEVEL, estimate, paired_test
from aletheia.analysis.validity import base_is_implausible, base_validity
from aletheia.inference.multiplicity import holm
from aletheia.study.arms import STD
from aletheia.study.benchmarks import HELDOUT
from aletheia.study.report_contents import REPORTS


def summarise(
    ledger: pd.DataFrame,
    plan: Plan,
    *,
    answers: pd.DataFrame | None = None,
    history: PlanHistory | None = None,
    sweeps: Sequence[Mapping[str, Any]] = (),
) -> dict[str, Any]:
    """Return the statistics of every campaign of the ledger (payload of ``results/stats/summary.json``).

    Parameters
    ----------
    ledger
        Of all campaigns.
    plan
        Margins and families of the analysis.
    answers
        The table of answers, where the study has one.
    history
        When the plan was stated, where git knows it.
    sweeps
        Of the budget (:func:`aletheia.study.budget_sweeps.budget_sweeps`).
    """
    names = list(dict.fromkeys(ledger["campaign"]))
    return {
        "confidence_level": CONFIDENCE_LEVEL,
        "plan": {
            **{"path": plan.path, "sha256": plan.sha256, "margins": asdict(plan.margins)},
            **{"families": asdict(plan.families), "power_wanted": plan.power.wanted},
        },
        "campaigns": [
            _campaign(rows, plan, answers, history) | {"dose_response": dose_response(rows, sweeps)}
            for rows in (ledger[ledger["campaign"] == name] for name in names)
        ],
    }


def _campaign(
    rows: pd.DataFrame, plan: Plan, answers: pd.DataFrame | None, history: PlanHistory | None
) -> dict[str, Any]:
    paired = pairs(rows)
    selecting = controls.selecting_arm(rows)
    ended = rows["ended"].dropna() if "ended" in rows else pd.Series(dtype="str")
    stated = verdicts.Stated(plan, margins_stated(history, None if ended.empty else str(ended.min())))
    found = infer(effects(rows, answers), stated, selecting=selecting)
    models = [_model(rows[rows["model"] == m], paired, selecting, found, plan) for m in dict.fromkeys(rows["model"])]
    _adjust(models)
    makes_speed = not reporting(rows, "speed").empty
    headline = paired[paired["headline"].astype(bool)]
    return {
        "name": rows["campaign"].iloc[0],
        "reports": [r for r in REPORTS if not reporting(rows, r).empty],
        "margins": stated.margins,
        "runs": _counts(rows),
        "models": models,
        "against_std": arms.over_models(models),
        "selecting_arm": selecting,
        "against_controls": controls.over_models(models),
        "effects": found,
        "overall": speed.overall(headline) if makes_speed else None,
        "families": speed.by_family(headline) if makes_speed else [],
    }


def _adjust(models: list[dict[str, Any]]) -> None:
    """Add Holm's p over the headline models to each test: of speed, and of each arm's loss and extras.

    A model outside the headline has no adjusted p, and its test does not count in the correction of others.
    """
    groups: dict[tuple[str, ...], list[dict[str, Any]]] = {}
    for model in models:
        for name, test in _tests(model):
            test["p_holm"] = None
            if model["headline"]:
                groups.setdefault(name, []).append(test)
    for tests in groups.values():
        for test, p in zip(tests, holm([t["p"] for t in tests]), strict=True):
            test["p_holm"] = p


def _tests(model: dict[str, Any]) -> Iterator[tuple[tuple[str, ...], dict[str, Any]]]:
    """Yield (family of tests, test) of a model; Holm's correction runs within a family, over models."""
    if model["speed"]:
        yield ("speed",), model["speed"]["test"]
    for arm, tests in model["extra"].items():
        for benchmark, test in tests.items():
            yield ("extra", arm, benchmark), test
    for arm, block in model["compute_matched"].items():
        yield ("compute_matched", arm), block["eval_loss"]
    for arm, measures in model["against_std"].items():
        if arm != STD:
            yield ("against_std", arm), measures[arms.LOSS]


def _counts(rows: pd.DataFrame) -> dict[str, Any]:
    failed = rows[rows["status"] != "ok"]
    cells = failed[["model", "arm", "seed", "status", "reason"]].astype(object)
    return {
        "rows": len(rows),
        "ok": len(rows) - len(failed),
        "failed": cells.where(cells.notna(), None).to_dict("records"),
        "prefix_cache": _kept_prefixes(rows),
    }


def _kept_prefixes(rows: pd.DataFrame) -> dict[str, int]:
    """Return by arm how many runs kept the states of their frozen prefix; without those that have none."""
    if PREFIX not in rows:
        return {}
    kept = rows[rows[PREFIX].notna()]
    return {arm: int((kept["arm"] == arm).sum()) for arm in dict.fromkeys(kept["arm"])}


def _first(series: pd.Series) -> Any:
    """Return a group's common value as a plain Python value; None where all are missing."""
    present = series.dropna()
    if present.empty:
        return None
    value = present.iloc[0]
    return value.item() if hasattr(value, "item") else value


def _model(
    rows: pd.DataFrame, paired: pd.DataFrame, selecting: str | None, found: list[dict[str, Any]], plan: Plan
) -> dict[str, Any]:
    name = rows["model"].iloc[0]
    speed_pairs = paired[paired["model"] == name]
    names = list(dict.fromkeys(rows["arm"]))
    sides = {arm: arms.pair_by_seed(rows, arm) for arm in names if arm != STD}
    compared = arms.against_std(rows)
    told = _verdicts(found, name)
    extras = {arm: _extra(*pair, told.get(arm, {})) for arm, pair in sides.items()}
    return {
        "model": name,
        "family": rows["family"].iloc[0],
        "parameters": _first(rows["parameters"]),
        "layers_total": _first(rows["layers_total"]),
        "headline": bool(rows["headline"].iloc[0]),
        "base_validity": base_validity(rows),
        "arms": {arm: _arm(rows[rows["arm"] == arm]) for arm in names},
        "speed": speed.of_model(speed_pairs) if len(speed_pairs) else None,
        "extra": {arm: tests for arm, tests in extras.items() if tests},
        "compute_matched": {
            arm: _compute_matched(*pair, compared[arm], told[arm][HELDOUT_LOSS], plan)
            for arm, pair in sides.items()
            if arm in compared and is_compute_matched(arm, *pair)
        },
        "against_std": compared,
        "against_controls": controls.against_controls(rows, selecting),
    }


def _verdicts(found: list[dict[str, Any]], model: str) -> dict[str, dict[str, Any]]:
    """Return ``{arm: {measure: verdict}}`` of one model against std."""
    told: dict[str, dict[str, Any]] = {}
    for block in found:
        for result in block["models"]:
            if block["reference"] == STD and result["model"] == model:
                told.setdefault(block["arm"], {})[block["measure"]] = result["verdict"]
    return told


def is_compute_matched(arm: str, std: pd.DataFrame, own: pd.DataFrame) -> bool:
    """Tell whether an arm uses the saved time for more steps: ``cm``, or another arm with more steps than std.

    ``cm`` by its name, since by the measured times it may have no more steps than std.
    """
    return arm == CM or bool((own["steps"] > std["steps"]).fillna(False).any())


def _arm(rows: pd.DataFrame) -> dict[str, Any]:
    """Return one arm's means over its seeds; deltas are fine-tuned − base. Times of resumed runs are left out."""
    times = ["training_seconds", "total_seconds", "tokens_per_second"]
    rows = rows.copy()
    rows[times] = rows[times].where(rows["comparable"].fillna(False))
    measures = (
        "eval_loss",
        "training_seconds",
        "total_seconds",
        "probe_seconds",
        "tokens_per_second",
        "steps",
    )
    scores = {}
    for name in (HELDOUT, *questions_in(rows.columns)):
        stem, (_, unit, scale) = stem_of(name), measured_by(name)
        if rows[f"{name}_status"].notna().any():
            of_base = name != HELDOUT and is_base_flagged(rows, name)
            scores[name] = {
                "questions": _first(rows[f"{name}_n"]),
                "base": _first(rows[f"{stem}_base"]),
                "score": estimate(rows[stem]),
                "delta": estimate(scale * (rows[stem] - rows[f"{stem}_base"])),
                "unit": unit,
                "base_flagged": of_base,
                "implausible_base": name != HELDOUT and base_is_implausible(rows, name),
                "flagged": of_base or (name != HELDOUT and is_flagged(rows, name)),
            }
    return {
        "runs": len(rows),
        "ok": int((rows["status"] == "ok").sum()),
        "layers_adapted": _first(rows["layers_adapted"]),
        "trainable_parameters": _first(rows["trainable_parameters"]),
        "peak_memory_bytes": estimate(rows["peak_memory_bytes"]),
        **{name: estimate(rows[name]) for name in measures},
        "benchmarks": scores,
    }


def _extra(std: pd.DataFrame, own: pd.DataFrame, told: Mapping[str, Any]) -> dict[str, Any]:
    """Return, for each question benchmark, the paired test of an arm's delta − std's, in points."""
    tests = {}
    for name in questions_in(own.columns):
        base = std[f"{name}_base"]
        arm_delta, std_delta = 100 * (own[name] - base), 100 * (std[name] - base)
        if (arm_delta.notna() & std_delta.notna()).any():
            questions = int(std[f"{name}_n"].dropna().iloc[0])
            tests[name] = {
                **paired_test(arm_delta, std_delta),
                "planned": len(own),
                "questions": questions,
                "verdict": told.get(name),
                "base_above_floor": not base_at_floor(std, name),
                "implausible_base": base_is_implausible(std, name),
                "flagged": is_base_flagged(std, name) or is_flagged(std, name) or is_flagged(own, name),
            }
    return tests


def _compute_matched(
    std: pd.DataFrame, own: pd.DataFrame, measures: dict[str, Any], told: Mapping[str, Any], plan: Plan
) -> dict[str, Any]:
    share, how = relative_time(measures)
    matched = verdicts.time(share, plan.margins.time_percent)
    own_loss, std_loss = arms.heldout_losses(own, std)
    return {
        "std_eval_loss": estimate(std_loss),
        "cm_eval_loss": estimate(own_loss),
        "eval_loss": {**paired_test(own_loss, std_loss), "planned": len(own)},
        # The arm's time over std's, its probe included: 1 is an exact match.
        "time_share": share,
        "time_taken": how,
        "time_verdict": matched,
        "loss_verdict": verdicts.at_equal_compute(verdicts.text(told), matched),
    }
