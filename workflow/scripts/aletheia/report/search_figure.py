"""Figure S7: every run of a search, its loss against its seconds; the Pareto set, and the path of the decision."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from aletheia.report import named_points, plot_style
from aletheia.report.stacked_panels import MAX_PANELS, stacked
from aletheia.search.space import STD

ROWS = 10.0  # height of a panel, in rows of a dot plot
_TITLE = "Which recipe is the cheapest?"
_SEARCHED = {"scan": "o", "full": "s", "push": "^", "floor": "D"}
Style = Mapping[str, Any]


def search_figure(summary: Mapping[str, Any], style: Style) -> Figure:
    """Return figure S7.

    Parameters
    ----------
    summary
        Of :func:`aletheia.analysis.search_summary.summarise_searches`.
    style
        Of :func:`aletheia.report.plot_style.checked_style`.
    """
    models = [model for model in summary["models"] if _points(model)]
    if not models:
        return plot_style.empty(style, _TITLE, "No run ended well, or no seconds are known.")
    shown = models[:MAX_PANELS]
    figure, axes = stacked(style, [ROWS] * len(shown))
    palette = sns.color_palette(style["palette"])
    for axis, model in zip(axes, shown, strict=True):
        _panel(axis, model, palette)
        axis.set_title(model["model"], loc="left")
    axes[-1].set_xlabel("Seconds of a run by the measured step costs, with its probe")
    keyed = {"std": plot_style.MUTED, "recipes": palette[0], "the decision's path": palette[1]}
    plot_style.key(figure, {text: (colour, True) for text, colour in keyed.items()})
    further = len(models) - len(shown)
    note = (
        "Diamonds: noise floor; circles: scan; squares: full runs; triangles: push. Losses are of the rows that "
        "choose, one run each. Stepped line: the Pareto set. Runs that failed are left out; tableS3.csv has them, and "
        "the confirmation." + (f" {further} further models: tableS3.csv." if further else "")
    )
    plot_style.caption(figure, _TITLE, "Held-out loss; lower is better", plot_style.fit_note(figure, note))
    for axis, model in zip(axes, shown, strict=True):
        named = _named(model)
        if named:
            named_points.name(axis, named)
    return figure


def _named(model: Mapping[str, Any]) -> list[named_points.Point]:
    """Return the runs of the path with their words; a run that stands there twice has both."""
    words: dict[tuple[str, int], list[str]] = {}
    for each in model["path"]:
        words.setdefault(_key(each), []).append(each["words"])
    points, none = _points(model), {"low": None, "high": None}
    return [
        (
            f"{', '.join(said)}: {points[key]['recipe']}",
            {"mean": points[key]["seconds"], **none},
            {"mean": points[key]["loss"], **none},
        )
        for key, said in words.items()
        if key in points
    ]


def _points(model: Mapping[str, Any]) -> dict[tuple[str, int], Mapping[str, Any]]:
    """Return the runs before the confirmation that have a loss and seconds, by arm and seed."""
    return {
        (row["arm"], row["seed"]): row
        for row in model["rows"]
        if row["rung"] in _SEARCHED and row["loss"] is not None and row["seconds"] is not None
    }


def _panel(axis: Axes, model: Mapping[str, Any], palette: Any) -> None:
    points = _points(model)
    for row in points.values():
        colour = plot_style.MUTED if row["recipe"].startswith(STD) else palette[0]
        axis.plot(
            *([row["seconds"]], [row["loss"]], _SEARCHED[row["rung"]]),
            **{"color": colour, "markersize": 4.5, "alpha": 0.75, "zorder": 2, "gid": row["arm"]},
        )
    best = [points[each["arm"], each["seed"]] for each in model["pareto"]]
    xs, ys = [row["seconds"] for row in best], [row["loss"] for row in best]
    axis.step(xs, ys, where="post", color=plot_style.INK, linewidth=0.9, zorder=1, gid="pareto")
    for group in (STD, "leader"):
        # Of std, from its own rate to the best; of the leaders, from rung to rung.
        path = [
            points[_key(each)] for each in model["path"] if each["words"].startswith(group) and _key(each) in points
        ]
        xs, ys = [row["seconds"] for row in path], [row["loss"] for row in path]
        axis.plot(xs, ys, "-", color=palette[1], linewidth=1.3, zorder=3, gid="path")
    axis.margins(0.08)
    axis.set_ylabel("Held-out loss (nats)")


def _key(each: Mapping[str, Any]) -> tuple[str, int]:
    return each["arm"], each["seed"]
