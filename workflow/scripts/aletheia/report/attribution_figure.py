"""Figure S3: predicted against measured step times, and each arm's saving split into its two causes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib as mpl
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from aletheia.report import plot_style
from aletheia.timing.step_attribution import ALL_LAYERS, PREDICTED

TITLE = "Where the time of a step goes"
CAUSES = {"truncated_backward": "truncated backward pass", "absent_adapters": "absent or narrower adapters"}
SHAPES = dict(zip(PREDICTED, "oDs^vP", strict=True))
ROWS = 24  # so many rows of bars at full height; more are drawn closer
# Inches: the square of step times, its left edge, what stands above and below the axes, and the right edge.
SQUARE, LEFT, HEAD, FOOT, RIGHT = 2.3, 0.56, 0.86, 1.08, 0.15


def draw_attribution(found: Sequence[Mapping[str, Any]], style: Mapping[str, Any]) -> Figure:
    """Return the figure.

    Parameters
    ----------
    found
        Payloads of ``attribution`` artifacts, one a model; those without a cost model are named in the small print.
    style
        Look of the figures.
    """
    usable = [one for one in found if one["cost_model"] and one["arms"][ALL_LAYERS]["measured_seconds"]]
    if not usable:
        return plot_style.empty(style, TITLE, "No model's arms could be measured")
    rows = _rows(usable)
    inches = max(SQUARE, min(len(rows), ROWS) * plot_style.ROW_INCHES)
    width, height = style["width_inches"], HEAD + inches + FOOT
    figure = Figure(figsize=(width, height))
    label = max(len(text) for text, _, _ in rows) * 0.6 * float(mpl.rcParams["font.size"] - 1) / 72 + 0.3
    start = LEFT + SQUARE + label
    left = figure.add_axes((LEFT / width, (FOOT + inches - SQUARE) / height, SQUARE / width, SQUARE / height))
    right = figure.add_axes((start / width, FOOT / height, (width - RIGHT - start) / width, inches / height))
    _scatter(left, usable, _colours(usable, style))
    _bars(right, rows, sns.color_palette(style["palette"])[:2])
    _explain(figure, found, usable)
    return figure


def _colours(usable: Sequence[Mapping[str, Any]], style: Mapping[str, Any]) -> dict[str, Any]:
    """Return one colour a model; the palette's first two are the causes'."""
    names = [one["model"] for one in usable]
    palette = sns.color_palette(style["palette"])[2:]
    if len(names) == 1:
        palette = [plot_style.INK]
    elif len(names) > len(palette):
        palette = sns.color_palette("husl", len(names))
    return dict(zip(names, palette, strict=False))


def _rows(usable: Sequence[Mapping[str, Any]]) -> list[tuple[str, str, Mapping[str, Any] | None]]:
    """Return label, arm and attribution of each row of bars; with several models each arm has a heading above."""
    rows: list[tuple[str, str, Mapping[str, Any] | None]] = []
    for arm, name in PREDICTED.items():
        measured = [one for one in usable if one["arms"][arm]["saving"]]
        if len(usable) > 1 and measured:
            rows.append((name, arm, None))
        rows += [(one["model"] if len(usable) > 1 else name, arm, one) for one in measured]
    return rows


def _explain(figure: Figure, found: Sequence[Mapping[str, Any]], usable: Sequence[Mapping[str, Any]]) -> None:
    rounds = " or ".join(map(str, sorted({one["rounds"] for one in usable})))
    left_out = [one["model"] for one in found if one not in usable]
    lacking = f" Not measured: {', '.join(left_out)}." if left_out else ""
    plot_style.caption(
        figure,
        TITLE,
        f"All arms in turns in one process, {rounds} rounds. Lines: 95 % bootstrap intervals over rounds",
        "The cost model is calibrated on all layers (hollow, so it meets them) and on four arms that are not shown."
        f"\nBars: what it says of each saving.{lacking}",
    )


def _scatter(axis: Axes, usable: Sequence[Mapping[str, Any]], colours: Mapping[str, Any]) -> None:
    """Draw predicted against measured step times, one mark an arm and model, and the line where both are equal."""
    seen: list[Mapping[str, float]] = []
    for one in usable:
        colour = colours[one["model"]]
        whole = one["arms"][ALL_LAYERS]["measured_seconds"]["value"]
        for arm, shape in SHAPES.items():
            entry = one["arms"][arm]
            if not entry["measured_seconds"]:
                continue
            x, y = (
                {key: 100 * value / whole for key, value in entry[f"{side}_seconds"].items()}
                for side in ("measured", "predicted")
            )
            axis.plot([x["low"], x["high"]], [y["value"]] * 2, color=colour, linewidth=0.8, alpha=0.6, zorder=2)
            axis.plot([x["value"]] * 2, [y["low"], y["high"]], color=colour, linewidth=0.8, alpha=0.6, zorder=2)
            face = "white" if arm == ALL_LAYERS else colour
            axis.plot(x["value"], y["value"], shape, color=colour, markerfacecolor=face, markersize=5, zorder=3)
            seen += [x, y]
    ends = _ends(seen)
    axis.plot(ends, ends, color=plot_style.MUTED, linewidth=0.8, linestyle=":", zorder=1)
    axis.set(xlim=ends, ylim=ends, xlabel="Measured", ylabel="Predicted")
    axis.set_title("Step time, % of all layers", loc="left")
    _plain(axis, "both")
    marks = [
        Line2D([], [], marker=shape, linestyle="", color=plot_style.INK, markersize=4) for shape in SHAPES.values()
    ]
    marks[0].set_markerfacecolor("white")
    labels = list(PREDICTED.values())
    if len(usable) > 1:
        marks += [Line2D([], [], linewidth=3, color=colour) for colour in colours.values()]
        labels += list(colours)
    # Beside the square there is no room; under it, where bars of several models make the figure taller.
    below = {"loc": "upper left", "bbox_to_anchor": (-0.1, -0.2)} if len(usable) > 1 else {"loc": "upper left"}
    axis.legend(marks, labels, frameon=False, fontsize="x-small", handletextpad=0.4, labelspacing=0.25, **below)


def _ends(seen: Sequence[Mapping[str, float]]) -> tuple[float, float]:
    """Return where an axis ends: beyond all intervals, but for those that a disturbed measurement made far too long."""
    values = [one["value"] for one in seen]
    span = max(values) - min(values) or 1
    low = max(min(one["low"] for one in seen), min(values) - span)
    high = min(max(one["high"] for one in seen), max(values) + span)
    return low - 0.05 * span, high + 0.05 * span


def _bars(axis: Axes, rows: Sequence[tuple[str, str, Mapping[str, Any] | None]], palette: Sequence[Any]) -> None:
    """Draw what the model says of each saving, by cause, from zero to either side, and the measured saving on it."""
    colours = dict(zip(CAUSES, palette, strict=True))
    for row, (_, arm, one) in enumerate(rows):
        if one is None:
            continue
        saving = one["arms"][arm]["saving"]
        ends = {True: 0.0, False: 0.0}
        for cause, colour in colours.items():
            value = saving[cause]["percent"]["value"]
            axis.barh(row, value, left=ends[value >= 0], height=0.62, color=colour, alpha=0.75, zorder=2)
            ends[value >= 0] += value
        measured = saving["measured"]["percent"]
        plot_style.mark(axis, {"mean": measured["value"], **measured}, row, plot_style.INK)
    axis.set_yticks(range(len(rows)), [label for label, _, _ in rows], fontsize=mpl.rcParams["font.size"] - 1)
    several = any(one is None for _, _, one in rows)
    for text, (_, _, one) in zip(axis.get_yticklabels(), rows, strict=True):
        text.set_color(plot_style.MUTED if several and one is not None else plot_style.INK)
    axis.set_ylim(len(rows) - 0.4, -0.6)
    measured = [one["arms"][arm]["saving"]["measured"]["percent"] for _, arm, one in rows if one is not None]
    axis.set_xlim(_ends([*measured, {"value": 0.0, "low": 0.0, "high": 0.0}]))
    axis.set_title("Saving, % of all layers", loc="left")
    plot_style.zero_line(axis)
    sns.despine(ax=axis, left=True)
    axis.tick_params(axis="y", length=0)
    _plain(axis, "x")
    handles = [Patch(color=colours[cause], alpha=0.75, label=label) for cause, label in CAUSES.items()]
    handles.append(Line2D([], [], marker="o", linewidth=1.4, color=plot_style.INK, markersize=4.5, label="measured"))
    figure = axis.figure
    figure.legend(
        handles=handles,
        frameon=False,
        fontsize="x-small",
        ncols=3,
        loc="lower right",
        bbox_to_anchor=(0.985, 0.36 / figure.get_figheight()),
        columnspacing=1.0,
        handlelength=1.4,
    )


def _plain(axis: Axes, grid: str) -> None:
    sns.despine(ax=axis, left=grid == "x")
    axis.grid(axis=grid, color=plot_style.FAINT, linewidth=0.8)
    axis.set_axisbelow(True)
