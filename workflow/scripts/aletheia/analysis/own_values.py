"""What a study of ours has for a cell of the paper: values by seed, error over questions, and runs that failed."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pandas as pd

from aletheia.analysis import arms
from aletheia.analysis.floors import is_base_flagged, is_flagged
from aletheia.analysis.pairs import ALE, CM, pairs
from aletheia.analysis.published_cells import (
    LAYERS,
    LOSS_DIFFERENCE,
    NAME,
    P_VALUE,
    POINTS,
    SIZE,
    PublishedCell,
)
from aletheia.inference.questions import paired_difference
from aletheia.study.arms import STD
from aletheia.study.paths import BASE

MEASURED, BOUND = "measured", "bound"


@dataclass(frozen=True)
class QuestionNoise:
    """Squared standard error of a mean over questions.

    Attributes
    ----------
    variance, df
        In points², and its degrees of freedom.
    n
        Questions.
    how
        "measured" from the answers to single questions, or the "bound" of two scores without any relation, which is
        larger wherever a model answers most questions alike before and after.
    """

    variance: float
    df: float
    n: int
    how: str


@dataclass(frozen=True)
class OwnValues:
    """One cell's values.

    Attributes
    ----------
    values
        One a seed that has it.
    planned
        Seeds that the campaign plans.
    failures
        Runs that did not end well, as "ale/seed42: nan_loss".
    questions
        Of differences of scores.
    flagged
        Whether the scores behind it are at the floor.
    """

    values: tuple[float, ...]
    planned: int
    failures: tuple[str, ...] = ()
    questions: QuestionNoise | None = None
    flagged: bool = False


class OwnModel:
    """One model of one campaign.

    Parameters
    ----------
    rows
        The ledger's, of this campaign and model.
    answers
        The table of answers, where there is one.
    """

    def __init__(self, rows: pd.DataFrame, answers: pd.DataFrame | None) -> None:
        self.rows, self.name = rows, str(rows["model"].iloc[0])
        self.campaign = str(rows["campaign"].iloc[0])
        self.reports = str(rows["reports"].iloc[0]).split()
        self.devices = sorted(set(rows["device"].dropna()))
        self._answers = None if answers is None else answers[answers["model"] == self.name]
        self._arms = {str(arm): of_arm for arm, of_arm in rows.groupby("arm", sort=False)}
        cells = zip(rows["arm"], rows["seed"], rows["status"], strict=True)
        self._failed = [(arm, f"{arm}/seed{seed}: {status}") for arm, seed, status in cells if status != "ok"]
        self._flags: dict[str, bool] = {}

    @cached_property
    def pairs(self) -> pd.DataFrame:
        """Std and ale by seed (:func:`aletheia.analysis.pairs.pairs`)."""
        return pairs(self.rows)

    def of(self, cell: PublishedCell) -> OwnValues | None:
        """Return what there is for a cell; None where the campaign does not measure it."""
        if cell.kind in (NAME, P_VALUE):
            return None
        if cell.kind in (SIZE, LAYERS):
            column, scale = ("parameters", 1e9) if cell.kind == SIZE else ("layers_total", 1)
            known = self.rows[column].dropna()
            return OwnValues(tuple(float(value) / scale for value in known[:1]), 1)
        if cell.benchmark:
            return self._score(cell)
        if cell.report == "compute_matched":
            return self._loss(cell)
        return self._values(self.pairs[cell.quantity], (STD, ALE)) if len(self.pairs) else None

    def _values(self, series: pd.Series, sides: Collection[str | None], **more: object) -> OwnValues:
        numbers = series.astype("float64")
        told = tuple(text for arm, text in self._failed if arm in sides)
        return OwnValues(tuple(map(float, numbers[np.isfinite(numbers)])), len(series), told, **more)

    def _score(self, cell: PublishedCell) -> OwnValues | None:
        name = cell.benchmark
        if name not in self.rows or not self.rows[f"{name}_status"].notna().any():
            return None
        flagged = self._is_flagged(name)
        if cell.arm is None:
            return OwnValues(tuple(100 * self.rows[f"{name}_base"].dropna()[:1].astype(float)), 1, flagged=flagged)
        if cell.kind != POINTS:
            return self._values(100 * self._of(cell.arm)[name], (cell.arm,), flagged=flagged)
        extra = cell.quantity.endswith("extra_pp")
        if extra:
            series, other, sides = self.pairs[f"{name}_extra_pp"], STD, (STD, ALE)
            seeds = self.pairs["seed"]
        else:
            own = self._of(cell.arm)
            series, other, sides = 100 * (own[name] - own[f"{name}_base"]), BASE, (cell.arm,)
            seeds = own["seed"]
        valid = [int(seed) for seed in seeds[series.notna()]]
        noise = self._noise(name, cell.arm, other, valid)
        return self._values(series, sides, questions=noise, flagged=flagged)

    def _of(self, arm: str) -> pd.DataFrame:
        """Return an arm's rows; none of one that the campaign does not have."""
        return self._arms.get(arm, self.rows.iloc[:0])

    def _is_flagged(self, name: str) -> bool:
        if name not in self._flags:
            sides = [self._arms[arm] for arm in (STD, ALE) if arm in self._arms]
            flagged = is_base_flagged(self.rows, name) or any(is_flagged(side, name) for side in sides)
            self._flags[name] = flagged
        return self._flags[name]

    def _noise(self, name: str, arm: str, other: str, seeds: list[int]) -> QuestionNoise | None:
        """Return the error over questions of arm − other: measured where answers are known, else its bound."""
        found = self._measured(name, arm, other, seeds)
        if found is not None:
            return found
        counts = self.rows[f"{name}_n"].dropna()
        if not seeds or counts.empty:
            return None
        n = int(counts.iloc[0])
        side = self._of(arm)
        base = side[f"{name}_base"] if other == BASE else self._of(other)[name]
        shares = (float(side[name].mean()), float(base.mean()))
        return QuestionNoise(sum(1e4 * p * (1 - p) / n for p in shares), n - 1, n, BOUND)

    def _measured(self, name: str, arm: str, other: str, seeds: list[int]) -> QuestionNoise | None:
        if self._answers is None or not seeds:
            return None
        asked = self._answers[self._answers["benchmark"] == name]
        first = asked[asked["arm"] == arm].drop_duplicates("item").set_index("item")
        sides = [_by_seed(asked, side, seeds, first.index) for side in (arm, other)]
        if any(side is None for side in sides):
            return None
        clusters = None if first["cluster"].isna().any() else list(first["cluster"].astype(str))
        found = paired_difference(100 * (sides[0] - sides[1]), clusters=clusters)
        if found.question_variance is None:
            return None
        return QuestionNoise(found.question_variance, found.n_clusters - 1, found.n_questions, MEASURED)

    def _loss(self, cell: PublishedCell) -> OwnValues | None:
        if CM not in self._arms:
            return None
        std, own = arms.pair_by_seed(self.rows, CM)
        own_loss, std_loss = arms.heldout_losses(own, std)
        if cell.kind == LOSS_DIFFERENCE:
            return self._values(own_loss - std_loss, (STD, CM))
        return self._values({STD: std_loss, CM: own_loss}[cell.arm], (cell.arm,))


def _by_seed(asked: pd.DataFrame, arm: str, seeds: list[int], items: pd.Index) -> np.ndarray | None:
    """Return an arm's right answers [seeds, items]; a base model's are the same for every seed."""
    own, rows = asked[asked["arm"] == arm], []
    for seed in seeds:
        of_seed = own if arm == BASE else own[own["seed"] == seed]
        if of_seed.empty:
            return None
        rows.append(of_seed.set_index("item")["correct"].reindex(items).astype("float64").to_numpy())
    return np.array(rows)
