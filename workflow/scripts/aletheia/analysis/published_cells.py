"""Every cell of the paper's tables 1 to 5 as one record: what it is of, its digits, which runs of ours measure it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd

from aletheia.analysis.pairs import ALE, CM
from aletheia.study.arms import STD

SIZE, LAYERS, NAME = "size", "layers", "name"
SECONDS, SPEEDUP, RATIO, P_VALUE = "seconds", "speedup", "ratio", "p-value"
SCORE, POINTS, LOSS, LOSS_DIFFERENCE = "score", "points", "loss", "loss difference"
RUNS = 3  # seeds of each published mean; "all tables report mean ± SD computed from 3-seed runs" (section 4.5)
QUESTIONS = {"mmlu": 200, "gsm8k": 200, "humaneval": 164}  # section 4.4
OVERALL = "overall"
WITH_PROBE = "speedup_with_probe_percent"
Tables = Mapping[int, Mapping[str, Mapping[str, Any]]]


@dataclass(frozen=True)
class PublishedCell:
    """One cell of a table of the paper.

    Attributes
    ----------
    table, key, model
        Number of the table, and its row.
    report
        Whose campaigns measure it here; None: any.
    arm
        Whose it is; None of the model alone.
    quantity
        With its unit, as in the files of ``config/published``.
    kind
        What decides whether it can be compared.
    mean, sd, text
        As printed; ``text`` where it is no number.
    unit
        Of the last printed digit.
    benchmark
        Of scores and their differences.
    derived
        Whether it follows from printed cells and is itself none.
    """

    table: int
    key: str
    model: str
    report: str | None
    arm: str | None
    quantity: str
    kind: str
    mean: float | None = None
    sd: float | None = None
    text: str | None = None
    unit: float = 0.0
    benchmark: str | None = None
    derived: bool = False

    @property
    def null(self) -> float:
        """The value that stands for no effect."""
        return 1.0 if self.kind == RATIO else 0.0


def published_cells(tables: Tables) -> list[PublishedCell]:
    """Return every cell of the paper's tables, and three that follow from them.

    Those are the speedup once more for ours with the probe, since the paper does not say whether its seconds hold it,
    and the difference of the two losses of table 5, which alone can be compared.

    Parameters
    ----------
    tables
        Of :func:`aletheia.analysis.paper_tables.load_published`.
    """
    makers = {1: _models, 2: _speeds, 3: _scores, 4: _extras, 5: _losses}
    return [
        PublishedCell(number, str(row["key"]), str(row["model"]), **cell)
        for number, make in makers.items()
        for row in tables[number].values()
        for cell in make(row)
    ]


def _models(row: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    whole = float(row["parameters_billions"]).is_integer()
    common = {"report": None, "arm": None}
    size = {"mean": float(row["parameters_billions"]), "unit": 1.0 if whole else 0.1}
    yield {**common, "quantity": "parameters_billions", "kind": SIZE, **size}
    yield {**common, "quantity": "layers", "kind": LAYERS, "mean": float(row["layers"]), "unit": 1.0}
    yield {**common, "quantity": "family", "kind": NAME, "text": str(row["family"])}
    yield {**common, "quantity": "campaigns", "kind": NAME, "text": str(row["campaigns"])}


def _speeds(row: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    common = {"report": "speed", "arm": ALE}
    if row["key"] != OVERALL:
        for arm in (STD, ALE):
            mean, sd = (float(row[f"{arm}_seconds_{part}"]) for part in ("mean", "sd"))
            one = {"kind": SECONDS, "mean": mean, "sd": sd, "unit": 0.1}
            yield {**common, "arm": arm, "quantity": f"{arm}_seconds", **one}
    ratio = float(row["ratio"])
    speedup = {"kind": SPEEDUP, "mean": float(row["speedup_percent_mean"]), "unit": 0.1}
    speedup["sd"] = float(row["speedup_percent_sd"])
    yield {**common, "quantity": "speedup_percent", **speedup}
    if row["key"] != OVERALL:
        yield {**common, "quantity": WITH_PROBE, **speedup, "derived": True}
    # ratio = 1 / (1 − s), so its SD is ratio² times that of the speedup s.
    yield {**common, "quantity": "ratio", "kind": RATIO, "mean": ratio, "unit": 0.001} | {
        "sd": ratio**2 * speedup["sd"] / 100
    }
    text = ("<" if row["p_relation"] == "<" else "") + f"{row['p_value']:g}"
    yield {**common, "quantity": "p_value", "kind": P_VALUE, "text": text}


def _scores(row: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    columns = {
        "base_percent": (None, SCORE),
        "std_percent": (STD, SCORE),
        "std_delta_pp": (STD, POINTS),
        "ale_percent": (ALE, SCORE),
        "ale_delta_pp": (ALE, POINTS),
        "extra_pp": (ALE, POINTS),
    }
    for column, (arm, kind) in columns.items():
        cell = {"report": "speed", "arm": arm, "quantity": f"mmlu_{column}", "kind": kind, "benchmark": "mmlu"}
        yield cell | {"mean": float(row[column]), "unit": 0.1}


def _extras(row: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    for name in QUESTIONS:
        cell = {"report": "downstream", "arm": ALE, "quantity": f"{name}_extra_pp", "kind": POINTS, "benchmark": name}
        yield cell | {"mean": float(row[f"{name}_extra_pp"]), "unit": 0.01}


def _losses(row: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    common = {"report": "compute_matched"}
    losses = {arm: float(row[f"{arm}_eval_loss"]) for arm in (STD, CM)}
    for arm, mean in losses.items():
        yield {**common, "arm": arm, "quantity": f"{arm}_eval_loss", "kind": LOSS, "mean": mean, "unit": 0.001}
    match = row["downstream_match"]
    yield {**common, "arm": CM, "quantity": "downstream_match", "kind": NAME} | {
        "text": None if pd.isna(match) else str(match)
    }
    difference = {"kind": LOSS_DIFFERENCE, "mean": losses[CM] - losses[STD], "derived": True}
    # Two roundings: the variance of the difference's is twice that of one.
    yield {**common, "arm": CM, "quantity": "cm_minus_std_eval_loss", **difference, "unit": 0.001 * 2**0.5}
