"""Table S1: every arm of every model against the standard one, from the statistics alone."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import pandas as pd

from aletheia.analysis import arms
from aletheia.analysis.benchmarks import TITLES
from aletheia.analysis.frontier import pareto_set, points
from aletheia.analysis.time_to_loss import RATIO
from aletheia.report.table_parts import prefix_note
from aletheia.report.table_text import (
    DASH,
    FLOOR,
    IMPLAUSIBLE,
    MARK,
    Table,
    interval,
    marked,
    marks_of,
    notes_on,
    number,
    p_value,
)
from aletheia.study.arms import STD
from aletheia.study.benchmarks import QUESTION_BENCHMARKS
from aletheia.study.report_contents import ARMS_TABLE

OVER_MODELS = "Headline models"
_PARTS = ("unit", "n", "mean", "low", "high", "lost")
_SPEEDS = {
    arms.TURNS: "Speedup in turns (%)",
    arms.TURNS_WITH_PROBE: "Speedup in turns, with the probe (%)",
    arms.WALL_CLOCK: "Wall-clock speedup (%)",
    arms.WALL_CLOCK_WITH_PROBE: "Wall-clock speedup, with the probe (%)",
}
_MEANS = {
    "steps_ratio": ("Steps, arm / std", 2),
    "trainable_parameters_ratio": ("Trained parameters, arm / std", 3),
    "peak_memory_ratio": ("Peak memory, arm / std", 2),
    "probe_share_percent": ("Probe (% of the time)", 1),
}
NOTE = (
    "Mean [95 % t-interval over n seeds], paired by seed; in turns, one seed has its rounds' bootstrap interval. "
    "Losses and points: arm − std; the rows of std are its own change from the base model, and its speedup is that of "
    "std against itself. Speedup = 100·(1 − t_arm / t_std) %. Time to std's loss: geometric mean over the pairs that "
    "reached it, as n of those planned. Losses compare equal steps where Steps is 1. p: paired t-test of the loss, "
    "Holm-adjusted over the headline models of one arm. Pairs: those of which both runs ended well, of those planned. "
    "Best: no other arm has both less time, the probe counted, and less loss (figure S4). Over models each headline "
    "model's mean is one value."
)


@dataclass(frozen=True)
class _Row:
    """One arm of one model, or of a campaign's headline models.

    Attributes
    ----------
    measures
        Its comparisons with std.
    best
        Whether no other arm beats it; None where it has no point.
    marks
        By benchmark, the marks of its scores: of this arm, of std or of the base model; over models, of those counted.
    """

    campaign: str
    model: str
    headline: bool
    arm: str
    measures: dict[str, Any]
    best: bool | None = None
    marks: Mapping[str, str] = field(default_factory=dict)

    def of(self, measure: str) -> dict[str, Any] | None:
        """Return a measure; in std's row, the one that is shown in the same column."""
        if self.arm == STD:
            own = {
                arms.LOSS: "heldout_loss_from_base",
                arms.RETENTION_LOSS: arms.RETENTION_FROM_BASE,
                arms.TURNS: arms.SAME_ARM,
            }
            measure = own.get(measure, measure.replace("_extra_pp", "_pp_from_base"))
        return self.measures.get(measure)


def arms_table(summary: dict[str, Any]) -> Table:
    """Return table S1: one row a campaign, model and arm, then a campaign's headline models together.

    Parameters
    ----------
    summary
        Of :func:`aletheia.analysis.summary.summarise`.
    """
    rows = list(_rows(summary))
    measures = {measure for row in rows for measure in row.measures}
    display = pd.DataFrame([_display(row, measures) for row in rows])
    if len(summary["campaigns"]) == 1:
        display = display.drop(columns="Campaign")
    empty = [name for name in display.columns if (display[name] == DASH).all()]
    note = NOTE if all(row.headline for row in rows) else f"{NOTE} {MARK} shown, but no part of the headline."
    numbers = pd.DataFrame([_numbers(row, measures) for row in rows])
    note += prefix_note(summary)
    note += notes_on(cell for column in display for cell in display[column])
    return Table(ARMS_TABLE, "Every arm against standard LoRA.", note, numbers, display.drop(columns=empty))


def _rows(summary: dict[str, Any]) -> Iterator[_Row]:
    for campaign in summary["campaigns"]:
        name = campaign["name"]
        for model in campaign["models"]:
            arm_points, _ = points(model)
            best = pareto_set(arm_points)
            for arm, measures in model["against_std"].items():
                unbeaten = (arm in best) if arm in arm_points else None
                yield _Row(name, model["model"], model["headline"], arm, measures, unbeaten, _marks([model], arm))
        headline = [model for model in campaign["models"] if model["headline"]]
        if len(headline) > 1:
            for arm, measures in campaign["against_std"].items():
                yield _Row(name, arms.ALL_MODELS, True, arm, measures, marks=_marks(headline, arm, counted=True))


def _marks(models: Iterable[Mapping[str, Any]], arm: str, *, counted: bool = False) -> dict[str, str]:
    """Return the marks of an arm's scores by benchmark, in some model, or in one that counts in a mean over models."""
    scores = (
        model["arms"].get(arm, {}).get("benchmarks", {}) if arm == STD else model["extra"].get(arm, {})
        for model in models
    )
    marks: dict[str, str] = {}
    for name, score in (item for own in scores for item in own.items()):
        if not (counted and score["implausible_base"]):
            marks[name] = marks.get(name) or marks_of(score)
    return marks


def _benchmarks_of(found: Iterable[str]) -> list[str]:
    """Return the question benchmarks on which some arm has a measure."""
    measures = set(found)
    return [name for name in QUESTION_BENCHMARKS if {f"{name}_extra_pp", f"{name}_pp_from_base"} & measures]


def _numbers(row: _Row, measures: set[str]) -> dict[str, Any]:
    cells = {name: getattr(row, name) for name in ("campaign", "model", "arm", "headline")}
    extras = [f"{name}_extra_pp" for name in _benchmarks_of(measures)]
    cells["planned"] = max((own["planned"] for own in row.measures.values()), default=0)
    probabilities = [f"{name}_probability_extra_pp" for name in _benchmarks_of(measures)]
    optional = (arms.RETENTION_LOSS, *probabilities, *_SPEEDS, RATIO, *_MEANS)
    for measure in (arms.LOSS, *extras, *(m for m in optional if m in measures)):
        comparison = row.of(measure) or {}
        cells |= {f"{measure}_{part}": comparison.get(part) for part in _PARTS}
    cells |= {f"{name}_flagged": FLOOR in row.marks.get(name, "") for name in _benchmarks_of(measures)}
    cells |= {f"{name}_implausible": IMPLAUSIBLE in row.marks.get(name, "") for name in _benchmarks_of(measures)}
    test = row.measures.get(arms.LOSS, {})
    return cells | {"p_value": test.get("p"), "p_holm": test.get("p_holm"), "pareto": row.best}


def _display(row: _Row, measures: set[str]) -> dict[str, str]:
    name = OVER_MODELS if row.model == arms.ALL_MODELS else row.model + ("" if row.headline else MARK)
    shown = {"Campaign": row.campaign, "Model": name, "Arm": row.arm, "Held-out loss (nats)": _cell(row, arms.LOSS, 3)}
    shown["p (Holm)"] = p_value(row.measures.get(arms.LOSS, {}).get("p_holm"))
    shown["Retention loss (nats)"] = _cell(row, arms.RETENTION_LOSS, 3)
    for benchmark in _benchmarks_of(measures):
        cell = _cell(row, f"{benchmark}_extra_pp", 2)
        shown[f"{TITLES[benchmark]} (pp)"] = marked(cell, row.marks.get(benchmark, ""))
    shown |= {title: _cell(row, measure, 1) for measure, title in _SPEEDS.items()}
    to_loss = row.of(RATIO)
    reached = f" ({to_loss['n']} of {to_loss['planned']})" if to_loss else ""
    shown["Time to std's loss, arm / std"] = _cell(row, RATIO, 2, "") + reached
    for measure, (title, digits) in _MEANS.items():
        shown[title] = number((row.of(measure) or {"mean": None})["mean"], digits)
    pairs = row.of(arms.LOSS)
    unit = " models" if row.model == arms.ALL_MODELS else ""
    shown["Pairs"] = f"{pairs['planned'] - pairs['lost']} of {pairs['planned']}{unit}" if pairs else DASH
    return shown | {"Best": DASH if row.best is None else "yes" if row.best else "no"}


def _cell(row: _Row, measure: str, digits: int, sign: str = "+") -> str:
    comparison = row.of(measure)
    return interval(comparison, digits, sign) if comparison else DASH
