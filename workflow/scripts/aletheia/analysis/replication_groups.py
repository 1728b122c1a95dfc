"""How many of the paper's cells agree with ours, by kind of result, and the paper's overall test rebuilt from ours."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd
from scipy import stats

from aletheia.analysis.comparability import COMPARABLE
from aletheia.analysis.pairs import pairs, reporting
from aletheia.analysis.published_cells import OVERALL, RUNS, Tables
from aletheia.analysis.stats import estimate, paired_test
from aletheia.inference import replication
from aletheia.inference.replication import INSIDE, NOT_INFORMATIVE, OPPOSITE_SIGN, SAME_SIGN
from aletheia.study.published import model_key

ALL = "all"
# One cell a model, campaign and result: ratio, seconds and deltas say again what these say.
COUNTED = {
    "speed": ("speedup_percent",),
    "quality": ("mmlu_extra_pp", "gsm8k_extra_pp", "humaneval_extra_pp"),
    "loss": ("cm_minus_std_eval_loss",),
}
_FEWEST = 3  # models of a slope


def is_counted(row: Mapping[str, Any]) -> bool:
    """Tell whether a cell counts in the study's answer: it has an interval, and says nothing that another one says."""
    return row["score"] is not None and row["key"] != OVERALL and any(row["quantity"] in q for q in COUNTED.values())


def compare_groups(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return, for each kind of result and for all together, how many published values lie in their interval.

    Every cell with an interval counts, also where that is too wide to say much: leaving those out would leave out
    agreement alone.
    """
    counted = [row for row in rows if is_counted(row)]
    groups = {name: [r for r in counted if r["quantity"] in quantities] for name, quantities in COUNTED.items()}
    found = [_group(name, own) for name, own in groups.items() if own]
    return [*found, _group(ALL, counted)] if counted else []


def _group(name: str, rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    verdicts = [row["verdict"] for row in rows]
    k, inside = len(rows), sum(verdict in (INSIDE, NOT_INFORMATIVE) for verdict in verdicts)
    q, q_p = replication.heterogeneity([row["score"] for row in rows])
    return {
        **{"group": name, "k": k, "inside": inside, "expected": k * replication.LEVEL},
        "p_as_few": replication.as_few_inside(inside, k),
        **{"same_sign": verdicts.count(SAME_SIGN), "opposite_sign": verdicts.count(OPPOSITE_SIGN)},
        **{"not_informative": verdicts.count(NOT_INFORMATIVE)},
        "comparable": sum(row["comparable"] == COMPARABLE for row in rows),
        **{"q": q, "q_p": q_p, "models": len({row["key"] for row in rows})},
        "difference": None if name == ALL else estimate(_difference(row) for row in _first_by_model(rows)),
        "slope": _slope(_first_by_model(rows)) if name == "speed" else None,
    }


def _difference(row: Mapping[str, Any]) -> float:
    return row["ours_mean"] - row["published_mean"]


def _first_by_model(rows: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Return one row a model and quantity, of its first campaign."""
    first: dict[tuple[str, str], Mapping[str, Any]] = {}
    for row in rows:
        first.setdefault((row["key"], row["quantity"]), row)
    return list(first.values())


def _slope(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any] | None:
    """Return the least-squares slope of our speedups on the paper's, over models, with its 95 % interval."""
    published, ours = ([row[name] for row in rows] for name in ("published_mean", "ours_mean"))
    if len(rows) < _FEWEST or len(set(published)) < 2:
        return None
    line = stats.linregress(published, ours)
    half = float(stats.t.ppf((1 + replication.LEVEL) / 2, len(rows) - 2)) * float(line.stderr)
    return {"n": len(rows), "slope": float(line.slope), "low": float(line.slope) - half} | {
        "high": float(line.slope) + half
    }


def rebuilt(ledger: pd.DataFrame, tables: Tables) -> dict[str, Any] | None:
    """Return the paper's overall test of seconds, made from our pairs and from its own rows, of the models in common.

    The paper's t is that of seconds over pairs (config/published/README.md); ``models`` has one value a model. None
    below two pairs of common models.
    """
    own = pairs(reporting(ledger, "speed")) if len(reporting(ledger, "speed")) else None
    if own is None or own.empty:
        return None
    own["key"] = own["model"].map(lambda name: model_key(str(name)))
    own = own[own["key"].isin(set(tables[2]) - {OVERALL})].dropna(subset=["std_seconds", "ale_seconds"])
    own = own[own["campaign"] == own.groupby("key")["campaign"].transform("first")]
    if len(own) < 2:
        return None
    rows = [row for key, row in tables[2].items() if key in set(own["key"])]
    names = {"std_seconds": "std_seconds_mean", "ale_seconds": "ale_seconds_mean"}
    paper = pd.DataFrame([{new: row[old] for new, old in names.items()} | {"key": row["key"]} for row in rows])
    paper = paper.loc[paper.index.repeat(RUNS)]
    return {"ours": _test(own), "published": _test(paper)}


def _test(frame: pd.DataFrame) -> dict[str, Any]:
    by_model = frame.groupby("key", sort=False)[["std_seconds", "ale_seconds"]].mean()
    return {unit: _one(table) for unit, table in (("pairs", frame), ("models", by_model))}


def _one(table: pd.DataFrame) -> dict[str, Any]:
    found = paired_test(list(table["std_seconds"]), list(table["ale_seconds"]))
    speedup = estimate(100 * (1 - table["ale_seconds"] / table["std_seconds"]))
    return {"n": speedup["n"], "t": found["t"], "d": found["d"], "speedup_percent": speedup["mean"]} | {
        "speedup_sd": speedup["sd"]
    }
