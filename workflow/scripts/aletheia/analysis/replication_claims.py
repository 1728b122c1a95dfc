"""Each claim of the paper's text twice: held against the paper's own numbers, and against those of a study."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pandas as pd

from aletheia.analysis.arms import pair_by_seed
from aletheia.analysis.comparability import HAS_VERDICT
from aletheia.analysis.judged_claims import Judgement, judge
from aletheia.analysis.pairs import ALE, CM, results_master, results_runs
from aletheia.analysis.published_claims import ALL, COLUMNS, STUDY, Claim, Number, Numbers
from aletheia.analysis.stats import estimate
from aletheia.study.published import model_key

_PARTS = ("verdict", "why", "estimate", "low", "high", "n")
_SIDES = ("published", "ours")
CLAIM_COLUMNS = (*COLUMNS, *(f"{side}_{part}" for side in _SIDES for part in _PARTS), "ours_missing")
# The quantity of a claim by table and quantity of a cell.
_CELLS = {
    (2, "speedup_percent"): "speedup_percent",
    (3, "mmlu_extra_pp"): "mmlu_extra_points",
    (3, "mmlu_std_delta_pp"): "mmlu_delta_std_points",
    (3, "mmlu_ale_delta_pp"): "mmlu_delta_ale_points",
    (4, "mmlu_extra_pp"): "campaign2_mmlu_extra_points",
    (4, "gsm8k_extra_pp"): "gsm8k_extra_points",
    (4, "humaneval_extra_pp"): "humaneval_extra_points",
    (5, "cm_minus_std_eval_loss"): "compute_matched_loss_difference",
}


def replicate_claims(
    claims: Sequence[Claim], *, published: Numbers, summary: Mapping[str, Any], ledger: pd.DataFrame
) -> list[dict[str, Any]]:
    """Return one row a claim (:data:`CLAIM_COLUMNS`).

    Parameters
    ----------
    claims
        Of :func:`aletheia.analysis.published_claims.load_claims`.
    published
        Of :func:`aletheia.analysis.published_numbers.published_numbers`.
    summary
        Of :func:`aletheia.analysis.replication.replicate`.
    ledger
        Of the study.
    """
    named = {model for claim in claims for model in claim.models if model != ALL}
    ours = own_numbers(summary, ledger, {cell["key"] for cell in summary["cells"]} | named)
    return [_row(claim, judge(claim, published), judge(claim, ours)) for claim in claims]


def _row(claim: Claim, published: Judgement, ours: Judgement) -> dict[str, Any]:
    row = {name: getattr(claim, name) for name in COLUMNS}
    row |= {"models": "; ".join(claim.models), "threshold": "; ".join(claim.threshold)}
    for side, found in zip(_SIDES, (published, ours), strict=True):
        row |= {f"{side}_{part}": getattr(found, part) for part in _PARTS}
    return row | {"ours_missing": "; ".join(ours.missing)}


def own_numbers(summary: Mapping[str, Any], ledger: pd.DataFrame, models: set[str]) -> dict[tuple[str, str], Number]:
    """Return a study's numbers by (model key or STUDY, quantity of a claim).

    Scores at the floor are none. What the paper counts once (rows, models, families) is known of a study with all its
    models alone: a part of it says nothing of the whole.

    Parameters
    ----------
    summary
        Of :func:`aletheia.analysis.replication.replicate`.
    ledger
        Of the study.
    models
        Keys of the models to read.
    """
    found: dict[tuple[str, str], Number] = {}
    for cell in summary["cells"]:
        quantity = _CELLS.get((cell["table"], cell["quantity"]))
        if quantity and cell["key"] in models - {"overall"} and cell["comparable"] in HAS_VERDICT:
            found.setdefault((cell["key"], quantity), Number(cell["ours_mean"], cell["ours_sd"], cell["ours_n"]))
    keys = ledger["model"].map(lambda name: model_key(str(name)))
    for key in (name for name in dict.fromkeys(keys) if name in models):
        found |= {(key, quantity): number for quantity, number in _of_model(ledger[keys == key]) if number.n}
    if len(summary["models"]["shared"]) == summary["models"]["published"]:
        found |= _of_study(ledger[keys.isin(models)])
    return found


def _of_model(rows: pd.DataFrame) -> Iterator[tuple[str, Number]]:
    once = rows.drop_duplicates(["arm", "seed"])
    yield "runs_failed", Number(float((once["status"] != "ok").sum()))
    std, ale = pair_by_seed(_first_with(rows, ALE), ALE)
    yield "layers_adapted", _number(ale["layers_adapted"])
    trained = [side["trainable_parameters"].astype("float64") for side in (std, ale)]
    yield "parameters_reduction_percent", _number(100 * (1 - trained[1] / trained[0]))
    yield "probe_percent", _number(100 * ale["probe_seconds"] / ale["training_seconds"])
    if CM in set(once["arm"]):
        std, cm = pair_by_seed(_first_with(rows, CM), CM)
        timed = std["comparable"].fillna(False) & cm["comparable"].fillna(False)
        share = 100 * cm["training_seconds"] / std["training_seconds"]
        yield "compute_matched_time_percent", _number(share.where(timed.astype(bool)))


def _first_with(rows: pd.DataFrame, arm: str) -> pd.DataFrame:
    """Return the rows of the first campaign that has an arm."""
    campaigns = rows[rows["arm"] == arm]["campaign"]
    return rows[rows["campaign"] == campaigns.iloc[0]] if len(campaigns) else rows.iloc[:0]


def _number(values: pd.Series) -> Number:
    found = estimate(values.astype("float64"))
    return Number(found["mean"] or 0.0, found["sd"], found["n"])


def _of_study(ledger: pd.DataFrame) -> dict[tuple[str, str], Number]:
    finished = ledger[ledger["status"] == "ok"]
    paired = results_master(ledger)
    pairs = ((paired["status_std"] == "ok") & (paired["status_ale"] == "ok")).sum()
    runs = (results_runs(ledger)["status"] == "ok").sum()
    return {
        (STUDY, "rows_finished"): Number(float(pairs + runs)),
        (STUDY, "models"): Number(float(finished["model"].nunique())),
        (STUDY, "families"): Number(float(finished["family"].nunique())),
    }
