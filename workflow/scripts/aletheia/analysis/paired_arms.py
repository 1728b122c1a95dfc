"""The effects of a campaign, from the ledger and the table of answers: pairs of arms, by model and seed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np
import pandas as pd

from aletheia.analysis import arms, controls, turns
from aletheia.analysis.benchmarks import questions_in
from aletheia.analysis.effects import (
    HELDOUT_LOSS,
    LOG_RATIO,
    NATS,
    POINTS,
    PROBABILITY,
    RETENTION_LOSS,
    TIME,
    TIME_TO_LOSS,
    TIME_WITH_PROBE,
    Effect,
    Items,
    ModelValues,
    Rounds,
    SameArm,
)
from aletheia.analysis.floors import base_at_floor, is_base_flagged, is_flagged
from aletheia.analysis.frontier import BY_CLOCK, IN_TURNS
from aletheia.analysis.stats import estimate
from aletheia.analysis.time_to_loss import RATIO
from aletheia.analysis.validity import base_is_implausible
from aletheia.study.arms import STD
from aletheia.study.benchmarks import HELDOUT, LOSSES, RETENTION


def effects(rows: pd.DataFrame, answers: pd.DataFrame | None) -> list[Effect]:
    """Return the effects of one campaign: each arm against std, and the selecting arm against its controls.

    Parameters
    ----------
    rows
        The ledger's, of one campaign.
    answers
        The table of answers (:mod:`aletheia.analysis.answers`), where there is one. Without it an effect has the
        values of the runs alone.
    """
    index = _index(answers)
    found: dict[tuple[str, str, str], list[ModelValues]] = {}
    units: dict[str, str] = {}
    for arm, reference in _comparisons(rows):
        for model in dict.fromkeys(rows["model"]):
            own_rows = rows[rows["model"] == model]
            for measure, unit, values in _of_model(own_rows, arm, reference, index):
                found.setdefault((arm, reference, measure), []).append(values)
                units[measure] = unit
    return [Effect(*key, units[key[2]], tuple(models)) for key, models in found.items()]


def _comparisons(rows: pd.DataFrame) -> list[tuple[str, str]]:
    names = list(dict.fromkeys(rows["arm"]))
    against_std = [(arm, STD) for arm in names if arm != STD and STD in names]
    selecting = controls.selecting_arm(rows)
    models = [rows[rows["model"] == model] for model in dict.fromkeys(rows["model"])]
    others = (name for own in models for name in controls.against_controls(own, selecting))
    return against_std + [(selecting, control) for control in dict.fromkeys(others) if selecting]


_Index = dict[tuple[str, str, int, str], pd.DataFrame]


def _index(answers: pd.DataFrame | None) -> _Index:
    """Return the answers of each run and benchmark, by item."""
    if answers is None:
        return {}
    known = answers[answers["seed"].notna()]
    groups = known.groupby(["model", "arm", "seed", "benchmark"], observed=True, sort=False)
    return {(m, a, int(s), b): group.set_index("item") for (m, a, s, b), group in groups}


def _of_model(rows: pd.DataFrame, arm: str, reference: str, index: _Index) -> Iterator[tuple[str, str, ModelValues]]:
    """Yield (measure, unit, values) of one model, of the measures that both arms have."""
    own, other = (rows[rows["arm"] == name].set_index("seed") for name in (arm, reference))
    seeds = own.index.intersection(other.index)
    own, other = own.loc[seeds], other.loc[seeds]
    if not len(seeds):
        return
    model = _Model(rows, own, other, (arm, reference), index)
    yield from model.times()
    yield from model.losses()
    yield from model.scores()


class _Model:
    """Two arms of one model, paired by seed."""

    def __init__(
        self, rows: pd.DataFrame, own: pd.DataFrame, other: pd.DataFrame, names: tuple[str, str], index: _Index
    ) -> None:
        self.rows, self.own, self.other, self.names, self.index = rows, own, other, names, index
        self.name = str(rows["model"].iloc[0])
        self.headline = bool(rows["headline"].iloc[0])
        self.both_ok = (own["status"] == "ok") & (other["status"] == "ok")

    def _values(self, series: pd.Series, **more: object) -> ModelValues:
        numbers = series.astype("float64").where(self.both_ok)
        valid = numbers[np.isfinite(numbers)]
        # Where a seed has a value and no answers, those of the others would stand for it.
        if more.get("items") is not None and len(more["items"].differences) != len(valid):
            more["items"] = None
        return ModelValues(self.name, self.headline, tuple(map(float, valid)), len(series), **more)

    def times(self) -> Iterator[tuple[str, str, ModelValues]]:
        """Yield the log ratios of times, in turns where both arms were timed so."""
        columns = ((TIME, turns.RATIO, "training_seconds"), (TIME_WITH_PROBE, turns.WITH_PROBE, "total_seconds"))
        for measure, in_turns, seconds in columns:
            if self._timed_in_turns(in_turns):
                yield measure, LOG_RATIO, self._in_turns(in_turns)
            else:
                comparable = [side["comparable"].fillna(False).astype(bool) for side in (self.own, self.other)]
                ratio = (self.own[seconds] / self.other[seconds]).where(comparable[0] & comparable[1])
                yield measure, LOG_RATIO, self._values(_log(ratio), clock=BY_CLOCK)
        if self.names[1] == STD and RATIO in self.own and self.own[RATIO].notna().any():
            yield TIME_TO_LOSS, LOG_RATIO, self._values(_log(self.own[RATIO]), clock=BY_CLOCK)

    def _timed_in_turns(self, column: str) -> bool:
        sides = (self.own,) if self.names[1] == STD else (self.own, self.other)
        return all(column in side and side[column].notna().any() for side in sides)

    def _in_turns(self, column: str) -> ModelValues:
        # Each ratio is t_std / t_arm.
        ratio = self.own[column].astype("float64")
        against_std = self.names[1] == STD
        log = -_log(ratio) if against_std else _log(self.other[column].astype("float64") / ratio)
        # Seeds that the campaign does not time in turns are not planned here.
        if turns.STATUS in self.own:
            log = log[self.own[turns.STATUS].notna()]
        values = self._values(log, clock=IN_TURNS, same=self._same_arm() if against_std else None)
        if against_std and len(values.values) == 1:
            row = self.own.loc[log.where(self.both_ok).first_valid_index()]
            ends = [row[f"{column}{end}"] for end in ("_high", "_low")]
            if all(pd.notna(end) for end in ends) and pd.notna(row[turns.ROUNDS]):
                low, high = (-float(np.log(end)) for end in ends)
                return replace(values, rounds=Rounds(int(row[turns.ROUNDS]), low, high))
        return values

    def _same_arm(self) -> SameArm | None:
        """Return std against itself: over seeds, or over the rounds of one."""
        log = -_log(self.other[turns.RATIO]).where(self.other["status"] == "ok")
        found = estimate(log)
        if found["n"] == 1:
            row = self.other.loc[log.first_valid_index()]
            ends = [-_log(row[[f"{turns.RATIO}{end}"]]).iloc[0] for end in ("_high", "_low")]
            found |= {"low": ends[0], "high": ends[1]} if np.isfinite(ends).all() else {}
        return None if found["low"] is None else SameArm(found["mean"], float(found["low"]), float(found["high"]))

    def losses(self) -> Iterator[tuple[str, str, ModelValues]]:
        """Yield the differences of losses, of single rows too where they are known."""
        own, other = arms.heldout_losses(self.own, self.other)
        yield HELDOUT_LOSS, NATS, self._values(own - other, items=self._items(HELDOUT, "loss"))
        column = RETENTION_LOSS
        if column in self.own and (self.own[column].notna() & self.other[column].notna()).any():
            difference = self.own[column] - self.other[column]
            yield RETENTION_LOSS, NATS, self._values(difference, items=self._items(RETENTION, "loss"))

    def scores(self) -> Iterator[tuple[str, str, ModelValues]]:
        """Yield the differences of scores, and of the probability of the right choice."""
        for name in questions_in(self.own.columns):
            if not (self.own[name].notna() & self.other[name].notna()).any():
                continue
            implausible = base_is_implausible(self.rows, name)
            floors = {"at_floor": base_at_floor(self.rows, name), "flagged": self._is_flagged(name)}
            floors["implausible"] = implausible
            difference = 100 * (self.own[name] - self.other[name])
            yield name, POINTS, self._values(difference, items=self._items(name, "correct"), **floors)
            column = f"{name}{PROBABILITY}"
            if column in self.own and (self.own[column].notna() & self.other[column].notna()).any():
                difference = 100 * (self.own[column] - self.other[column])
                # A probability moves where no answer flips, so it has no floor; a fault of the asking is its fault too.
                items = self._items(name, "probability")
                yield column, POINTS, self._values(difference, items=items, implausible=implausible)

    def _is_flagged(self, benchmark: str) -> bool:
        either = (is_flagged(side, benchmark) for side in (self.own, self.other))
        return is_base_flagged(self.rows, benchmark) or any(either)

    def _items(self, benchmark: str, column: str) -> Items | None:
        """Return the items that all seeds of both arms answered the same questions of; None without any."""
        sides = [
            [self.index.get((self.name, arm, int(seed), benchmark)) for seed in self.own.index[self.both_ok]]
            for arm in self.names
        ]
        tables = [(own, other) for own, other in zip(*sides, strict=True) if own is not None and other is not None]
        if not tables:
            return None
        first = tables[0][0]
        own, other = (_matrix([pair[side] for pair in tables], first.index, column) for side in (0, 1))
        tokens = first["tokens"].to_numpy("float64", na_value=np.nan) if benchmark in LOSSES else None
        valid = np.isfinite(own) & np.isfinite(other) & (True if tokens is None else tokens > 0)
        if not valid.all(axis=0).any():
            return None
        scale = 1.0 if benchmark in LOSSES else 100.0
        discordant = _discordant(own, other) if column == "correct" else None
        clusters = first["cluster"]
        return Items(
            tuple(map(str, first.index)),
            np.where(valid, scale * (own - other), np.nan),
            None if clusters.isna().any() else tuple(map(str, clusters)),
            tokens,
            discordant,
        )


def _matrix(tables: Sequence[pd.DataFrame], items: pd.Index, column: str) -> np.ndarray:
    return np.array([table[column].reindex(items).astype("float64").to_numpy() for table in tables])


def _discordant(own: np.ndarray, other: np.ndarray) -> tuple[tuple[int, int], ...]:
    gained, lost = ((own == 1) & (other == 0)).sum(axis=1), ((own == 0) & (other == 1)).sum(axis=1)
    return tuple((int(g), int(n)) for g, n in zip(gained, lost, strict=True))


def _log(ratio: pd.Series) -> pd.Series:
    """Return the natural logarithms of positive numbers; others are missing."""
    numbers = ratio.astype("float64")
    return np.log(numbers.where(numbers > 0))
