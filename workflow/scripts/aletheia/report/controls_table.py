"""Table S2: every arm of a study of controls, one row an arm: how it chooses, what it costs, what it gives."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import pandas as pd

from aletheia.analysis.controls_arms import ALL, CONTROL, GIVEN, RANDOM, SAME_LOWEST, SELECTOR
from aletheia.report.table_text import DASH, MARK, Table, interval, number
from aletheia.study.arms import STD
from aletheia.study.report_contents import CONTROLS_TABLE
from aletheia.study.selectors import MODULE

NOTE = (
    "Losses are held-out, in nats; mean [95 % t-interval over n seeds]. Draws: random draws that differ from the arm "
    "in the choice of layers alone; where it has none, all. Step and run: shares of the standard arm's step and of its "
    "whole run, the probe counted in the run. At equal time: the arm's loss when it has spent the time that the named "
    "gradient arm takes, on its way, under an unfinished schedule, on the rows of training's own held-out losses; "
    "* its runs take less time in all, so this is their end. To std's loss: time until the arm first reaches std's "
    "last loss, as a share of a standard run. p: one-sided exact randomisation test, uncorrected. Missing numbers are "
    "dashes."
)
_ESTIMATES = ("loss", "to_std", "to_selector", "to_draws", "step_measured", "at_equal_time", "time_to_std_loss")
_ORDER = (STD, SELECTOR, CONTROL, GIVEN, ALL, RANDOM, SAME_LOWEST)
_PARTS = ("n", "mean", "low", "high")
_COUNTS = ("runs", "ok", "steps", "layers_adapted", "trainable_parameters")
_CHOICE = ("kind", "layers", "score", "unit", "draw", "budget_percent", "reads", "learning_rate", "rate_chosen")


def controls_table(summary: Mapping[str, Any]) -> Table:
    """Return table S2.

    Parameters
    ----------
    summary
        Of :func:`aletheia.analysis.controls_summary.summarise_controls`.
    """
    rows = list(_rows(summary))
    numbers = pd.DataFrame([_numbers(*row) for row in rows])
    display = pd.DataFrame([display_row(model, arm, campaign=campaign) for campaign, model, arm in rows])
    if len(summary["campaigns"]) == 1:
        display = display.drop(columns="Campaign")
    empty = [name for name in display.columns if (display[name] == DASH).all()]
    note = NOTE if all(model["headline"] for _, model, _ in rows) else f"{NOTE} {MARK} no part of the headline."
    title = "Ways to choose layers, and their controls."
    return Table(CONTROLS_TABLE, title, note, numbers, display.drop(columns=empty))


def ordered_arms(model: Mapping[str, Any]) -> list[str]:
    """Return a model's arms: std, the named one, other choices by a score, controls, the rest, then draws by number."""

    def place(arm: str) -> tuple[int, int, int]:
        own = model["arms"][arm]
        return _ORDER.index(own["kind"]), arm != model["selector"], own["draw"] or 0

    return sorted(model["arms"], key=place)


def _rows(summary: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any], str]]:
    for campaign in summary["campaigns"]:
        for model in campaign["models"]:
            for arm in ordered_arms(model):
                yield campaign["name"], model, arm


def _numbers(campaign: str, model: Mapping[str, Any], arm: str) -> dict[str, Any]:
    own = model["arms"][arm]
    cells = {"campaign": campaign, "model": model["model"], "headline": model["headline"], "arm": arm}
    cells |= {key: own[key] for key in (*_CHOICE, *_COUNTS)}
    cells |= {"lowest_layers": " ".join(map(str, own["lowest_layers"])), "failures": "; ".join(own["failures"])}
    for name in _ESTIMATES:
        cells |= {f"{name}_{part}": (own[name] or {}).get(part) for part in _PARTS}
    cells["at_equal_time_ended"] = (own["at_equal_time"] or {}).get("ended")
    cells["time_to_std_loss_planned"] = (own["time_to_std_loss"] or {}).get("planned")
    cells |= {key: own[key] for key in ("step_predicted", "probe_percent", "run_time")}
    cells |= {"clock": model["clock"], "loss_from": model["loss"]}
    for test in model["tests"]:
        if test["arm"] == arm:
            cells |= {f"{test['against']}_{key}": test[key] for key in ("draws", "rank", "p", "smallest_p")}
    return cells


def chosen_by(own: Mapping[str, Any]) -> str:
    """Return how an arm chooses its layers, in one cell."""
    score = None if own["score"] == "l2" else own["score"]
    further = [score, "modules" if own["unit"] == MODULE else None]
    budget = None if own["budget_percent"] is None else f"{own['budget_percent']:g} %"
    return ", ".join(filter(None, [own["layers"].replace("_", " "), *further, budget]))


def display_row(model: Mapping[str, Any], arm: str, *, campaign: str) -> dict[str, str]:
    """Return an arm's row as text."""
    own, test = model["arms"][arm], next((t for t in model["tests"] if t["arm"] == arm), None)
    reached, equal = own["time_to_std_loss"], own["at_equal_time"]
    shown = {"Campaign": campaign, "Model": model["model"] + ("" if model["headline"] else MARK), "Arm": arm}
    shown |= {"Chosen by": chosen_by(own), "Runs": f"{own['ok']} of {own['runs']}"}
    shown |= {"Layers": _count(own["layers_adapted"]), "Parameters": _count(own["trainable_parameters"])}
    shown |= {"Steps": _count(own["steps"]), "Rate": _rate(own), "Loss": interval(own["loss"], 4)}
    for key, title in {"to_std": "std", "to_selector": "gradient", "to_draws": "draws"}.items():
        shown[f"Loss − {title}"] = interval(own[key], 4, "+")
    shown["p (draws)"] = DASH if test is None else f"{test['p']:.3f} ({test['rank']} of {test['draws'] + 1})"
    shown |= {"Step, predicted": number(own["step_predicted"], 3), "Step, in turns": _estimate(own["step_measured"], 3)}
    shown |= {"Probe (% of a run)": number(own["probe_percent"], 1), "Run": number(own["run_time"], 3)}
    shown["Loss at equal time"] = _estimate(equal, 4) + ("*" if equal and equal["ended"] else "")
    seeds = f" ({reached['n']} of {reached['planned']})" if reached else ""
    shown["Time to std's loss"] = _estimate(reached, 2) + seeds
    return shown


def _estimate(value: Mapping[str, Any] | None, digits: int) -> str:
    return DASH if value is None else interval(value, digits)


def _count(value: int | None) -> str:
    return DASH if value is None else f"{value:,}"


def _rate(own: Mapping[str, Any]) -> str:
    if own["learning_rate"] is None:
        return "not known" if own["rate_chosen"] else DASH
    return f"{own['learning_rate']:g}" + (" (chosen)" if own["rate_chosen"] else "")
