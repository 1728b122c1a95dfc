"""The replication report's numbers: each published cell beside ours, and how many of them agree."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from aletheia.analysis.comparability import EXACT, HAS_VERDICT, INDICATIVE, NO, comparability
from aletheia.analysis.own_values import OwnModel, OwnValues
from aletheia.analysis.plan import Plan
from aletheia.analysis.published_cells import (
    OVERALL,
    POINTS,
    QUESTIONS,
    RUNS,
    SIZE,
    PublishedCell,
    Tables,
    published_cells,
)
from aletheia.analysis.published_claims import Claim, Numbers
from aletheia.analysis.replication_claims import replicate_claims
from aletheia.analysis.replication_groups import compare_groups, rebuilt
from aletheia.errors import UserError
from aletheia.inference import replication
from aletheia.inference.replication import EQUAL, NOT_COMPARABLE, UNEQUAL, Component, Interval, Spread
from aletheia.study.published import model_key

NO_SPREAD = 1e-9  # in the units of the cells
COLUMNS = (
    *("table", "key", "model", "campaign", "arm", "quantity", "kind", "derived"),
    *("published_text", "published_mean", "published_sd", "published_n"),
    *("ours_mean", "ours_sd", "ours_n", "ours_planned", "ratio"),
    *("se", "df", "low", "high", "low_sample_sd", "high_sample_sd", "score", "informative_below"),
    *("questions", "question_se", "question_noise", "comparable", "reason", "verdict"),
)


@dataclass(frozen=True)
class _Judged:
    """A cell's row, and the parts of its variance with the sample reading of ± and the population reading."""

    row: dict[str, Any]
    parts: tuple[list[Component], list[Component]] = ((), ())


def replicate(
    ledger: pd.DataFrame,
    tables: Tables,
    plan: Plan,
    answers: pd.DataFrame | None = None,
    *,
    claims: Sequence[Claim] = (),
    published: Numbers | None = None,
) -> dict[str, Any]:
    """Return the payload of ``results/replication/summary.json``.

    Parameters
    ----------
    ledger
        Of the study.
    tables
        The paper's (:func:`aletheia.analysis.paper_tables.load_published`).
    plan
        Its margin of points says how wide an interval of a score's difference may be to say something.
    answers
        The table of answers, where there is one; without it the error over questions is its bound.
    claims, published
        Of the paper's text, and the paper's own numbers that they are held against too
        (:mod:`aletheia.analysis.published_numbers`).

    Raises
    ------
    UserError
        When the study has no model of the paper.
    """
    study = _Study(ledger, answers)
    shared = _shared(study, tables)
    bases = {key: float(row["base_percent"]) for key, row in tables[3].items()}
    cells = published_cells(tables)
    single = [cell for cell in cells if cell.key != OVERALL]
    judged = [result for cell in single for result in _of_cell(cell, study, plan, bases.get(cell.key))]
    overall = [_overall(cell, judged, tables, plan) for cell in cells if cell.key == OVERALL]
    rows = [result.row for result in [*judged, *overall]]
    rows.sort(key=lambda row: row["table"])
    summary = {
        "confidence_level": replication.LEVEL,
        "models": {"published": len(tables[1]), "shared": [tables[1][key]["model"] for key in shared]},
        "cells": rows,
        "groups": compare_groups(rows),
        "rebuilt": rebuilt(ledger, tables),
    }
    judged_claims = replicate_claims(claims, published=published or {}, summary=summary, ledger=ledger)
    return {**summary, "claims": judged_claims}


def _shared(study: _Study, tables: Tables) -> list[str]:
    """Return the keys of the paper's models that the study has; refuse a study without one."""
    shared = [key for key in tables[1] if key in study.names]
    if not shared:
        raise UserError(
            f"replication: expected a model of the paper's table 1 ({', '.join(tables[1])}), found "
            f"{', '.join(study.names.values())} in this study; name one of the paper's in a campaign"
        )
    return shared


class _Study:
    """Our models by key and report."""

    def __init__(self, ledger: pd.DataFrame, answers: pd.DataFrame | None) -> None:
        self.names = {model_key(str(name)): str(name) for name in ledger["model"]}
        groups = ledger.groupby(["campaign", "model"], sort=False)
        self._own = {key: OwnModel(rows, answers) for key, rows in groups}

    def of(self, cell: PublishedCell) -> list[OwnModel]:
        """Return the model in each campaign that measures the cell; in the first where any does."""
        own = [model for model in self._own.values() if model_key(model.name) == cell.key]
        if cell.report is None:
            return own[:1]
        return [model for model in own if cell.report in model.reports]


def _of_cell(cell: PublishedCell, study: _Study, plan: Plan, base: float | None) -> Iterator[_Judged]:
    models = study.of(cell)
    for model in models:
        yield _judge(cell, model.of(cell), model.devices, plan, base, campaign=model.campaign)
    if not models:
        yield _judge(cell, None, (), plan, base)


def _judge(
    cell: PublishedCell,
    own: OwnValues | None,
    devices: Sequence[str],
    plan: Plan,
    base: float | None,
    *,
    campaign: str | None = None,
) -> _Judged:
    base = base if cell.kind == POINTS and cell.table == 3 else None
    level, reason = comparability(cell, own, devices, base_percent=base)
    row = _row(cell, own) | {"campaign": campaign, "comparable": level, "reason": reason}
    if level not in HAS_VERDICT:
        return _Judged(row)
    if level == EXACT:
        return _Judged(row | {"verdict": EQUAL if _same_fact(cell, own.values[0]) else UNEQUAL})
    parts = tuple(_parts(cell, own, ddof) for ddof in (1, 0))
    return _Judged(row | _verdict(cell, row["ours_mean"], parts, plan), parts)


def _row(cell: PublishedCell, own: OwnValues | None) -> dict[str, Any]:
    """Return a cell's row without comparison; what does not apply is None."""
    row = dict.fromkeys(COLUMNS)
    row |= {"table": cell.table, "key": cell.key, "model": cell.model, "arm": cell.arm, "quantity": cell.quantity}
    row |= {"kind": cell.kind, "derived": cell.derived, "verdict": NOT_COMPARABLE}
    row |= {"published_text": cell.text, "published_mean": cell.mean, "published_sd": cell.sd}
    row["published_n"] = RUNS if cell.report and cell.mean is not None else None
    if own is None:
        return row
    n = len(own.values)
    row |= {"ours_n": n, "ours_planned": own.planned}
    row["ours_mean"] = float(np.mean(own.values)) if n else None
    row["ours_sd"] = float(np.std(own.values, ddof=1)) if n > 1 else None
    if cell.mean and n:
        row["ratio"] = row["ours_mean"] / cell.mean
    if own.questions is not None:
        noise = own.questions
        row |= {"questions": noise.n, "question_se": math.sqrt(noise.variance), "question_noise": noise.how}
    return row


def _same_fact(cell: PublishedCell, value: float) -> bool:
    """Tell whether a fact is the paper's; its sizes are those of names, so within one unit of the last digit."""
    return abs(value - cell.mean) < cell.unit if cell.kind == SIZE else value == cell.mean


def _parts(cell: PublishedCell, own: OwnValues, ddof: int) -> list[Component]:
    n = len(own.values)
    sd = float(np.std(own.values, ddof=1)) if n > 1 else None
    # What equal values leave by rounding is no spread.
    ours = Spread(n, 0.0 if sd is not None and sd < NO_SPREAD else sd)
    published = Spread(RUNS, cell.sd, ddof)
    asked: dict[str, Any] = {}
    if own.questions is not None:
        noise = own.questions
        asked = {"question_variance": noise.variance, "question_df": noise.df}
        asked["questions"] = (noise.n, QUESTIONS[cell.benchmark])
    return replication.components(ours=ours, published=published, unit=cell.unit, **asked)


def _verdict(
    cell: PublishedCell, mean: float, parts: tuple[list[Component], list[Component]], plan: Plan
) -> dict[str, Any]:
    """Return interval and verdict, by the wider reading of ±; the interval by the other beside it."""
    sample, population = (replication.interval(mean, part) for part in parts)
    if population is None:
        return {"comparable": NO, "reason": "no spread is known: one value, or all values and answers are equal"}
    effect = abs(cell.mean - cell.null)
    width = plan.margins.verdict_points if cell.kind == POINTS else 2 * effect
    shifted = Interval(population.se, population.df, population.low - cell.null, population.high - cell.null)
    means = (cell.mean - cell.null, mean - cell.null)
    return {
        **{"se": population.se, "df": _finite(population.df), "low": population.low, "high": population.high},
        **{"low_sample_sd": sample.low, "high_sample_sd": sample.high, "informative_below": width},
        "score": replication.normal_score(*means, shifted),
        "verdict": replication.verdict(*means, shifted, informative_below=width),
    }


def _finite(df: float) -> float | None:
    return None if math.isinf(df) else df


def _overall(cell: PublishedCell, judged: Sequence[_Judged], tables: Tables, plan: Plan) -> _Judged:
    """Return the overall cell: the mean over the same ten models, whose errors are those of the models."""
    first: dict[str, _Judged] = {}
    for result in judged:
        if result.row["quantity"] == cell.quantity and result.row["ours_mean"] is not None:
            first.setdefault(result.row["key"], result)
    needed = set(tables[2]) - {OVERALL}
    row = _row(cell, None) | {"published_n": 10 if cell.mean is not None else None}
    if cell.mean is None or not needed <= {key for key, result in first.items() if result.parts[1]}:
        level, reason = comparability(cell, None, (), base_percent=None)
        return _Judged(row | {"comparable": level, "reason": reason if cell.mean is None else _TEN})
    models = [first[key] for key in sorted(needed)]
    means, k = [result.row["ours_mean"] for result in models], len(models)
    row |= {"ours_mean": float(np.mean(means)), "ours_sd": float(np.std(means, ddof=1)), "ours_n": k}
    row |= {"ours_planned": k, "ratio": float(np.mean(means)) / cell.mean}
    levels = {result.row["comparable"] for result in models}
    row["comparable"] = levels.pop() if len(levels) == 1 else INDICATIVE
    row["reason"] = "the same ten models, so their spread does not count; errors are those of the models"
    parts = tuple([Component(p.variance / k**2, p.df) for r in models for p in r.parts[i]] for i in (0, 1))
    return _Judged(row | _verdict(cell, row["ours_mean"], parts, plan), parts)


_TEN = "needs all ten models of table 2"
