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
MAX_FULL_ROWS = 24  # rows of bars at full height; more are plotted closer together
# Inches: the square of step times, its left margin, the room above and below the axes, and the right margin.
SQUARE, LEFT, HEAD, FOOT, RIGHT = 2.3, 0.56, 0.86, 1.08, 0.15


def plot_attribution(payloads: Sequence[Mapping[str, Any]], style: Mapping[str, Any]) -> Figure:
    """Return the figure.

    Parameters
    ----------
    payloads
        Of ``attribution`` artifacts, one a model; those without a cost model are named in the small print.
    style
        Look of the figures.
    """
    usable = [each for each in payloads if each["cost_model"] and each["arms"][ALL_LAYERS]["measured_seconds"]]
    if not usable:
        return plot_style.empty(style, TITLE, "No model's arms could be measured")
    rows = _rows(usable)
    inches = max(SQUARE, min(len(rows), MAX_FULL_ROWS) * plot_style.ROW_INCHES)
    width, height = style["width_inches"], HEAD + inches + FOOT
    figure = Figure(figsize=(width, height))
    label = max(len(text) for text, _, _ in rows) * 0.6 * float(mpl.rcParams["font.size"] - 1) / 72 + 0.3
    start = LEFT + SQUARE + label
    left = figure.add_axes((LEFT / width, (FOOT + inches - SQUARE) / height, SQUARE / width, SQUARE / height))
    right = figure.add_axes((start / width, FOOT / height, (width - RIGHT - start) / width, inches / height))
    _scatter(left, usable, _colours(usable, style))
    _bars(right, rows, sns.color_palette(style["palette"])[:2])
    _explain(figure, payloads, usable)
    return figure


def _colours(usable: Sequence[Mapping[str, Any]], style: Mapping[str, Any]) -> dict[str, Any]:
    """Return one colour a model; the first two of the palette are those of the causes."""
    names = [each["model"] for each in usable]
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
        measured = [each for each in usable if each["arms"][arm]["saving"]]
        if len(usable) > 1 and measured:
            rows.append((name, arm, None))
        rows += [(each["model"] if len(usable) > 1 else name, arm, each) for each in measured]
    return rows


def _explain(figure: Figure, payloads: Sequence[Mapping[str, Any]], usable: Sequence[Mapping[str, Any]]) -> None:
    rounds = " or ".join(map(str, sorted({each["rounds"] for each in usable})))
    left_out = [each["model"] for each in payloads if each not in usable]
    missing = f" Not measured: {', '.join(left_out)}." if left_out else ""
    plot_style.caption(
        figure,
        TITLE,
        f"All arms in turns in one process, {rounds} rounds. Lines: 95 % bootstrap intervals over rounds",
        "The cost model is calibrated on all layers (hollow, so it meets them) and on four arms that are not shown."
        f"\nBars: what it says of each saving.{missing}",
    )


def _scatter(axis: Axes, usable: Sequence[Mapping[str, Any]], colours: Mapping[str, Any]) -> None:
    """Plot predicted against measured step times, one mark an arm and model, and the line of equality."""
    values: list[Mapping[str, float]] = []
    for each in usable:
        colour = colours[each["model"]]
        whole = each["arms"][ALL_LAYERS]["measured_seconds"]["value"]
        for arm, shape in SHAPES.items():
            entry = each["arms"][arm]
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
            values += [x, y]
    limits = _axis_limits(values)
    axis.plot(limits, limits, color=plot_style.MUTED, linewidth=0.8, linestyle=":", zorder=1)
    axis.set(xlim=limits, ylim=limits, xlabel="Measured", ylabel="Predicted")
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
    # The legend fits into the square; with several models it stands below, where the bars make the figure taller.
    below = {"loc": "upper left", "bbox_to_anchor": (-0.1, -0.2)} if len(usable) > 1 else {"loc": "upper left"}
    axis.legend(marks, labels, frameon=False, fontsize="x-small", handletextpad=0.4, labelspacing=0.25, **below)


def _axis_limits(intervals: Sequence[Mapping[str, float]]) -> tuple[float, float]:
    """Return limits that hold all intervals, except the ends of those that a disturbed measurement made very long."""
    values = [each["value"] for each in intervals]
    span = max(values) - min(values) or 1
    low = max(min(each["low"] for each in intervals), min(values) - span)
    high = min(max(each["high"] for each in intervals), max(values) + span)
    return low - 0.05 * span, high + 0.05 * span


def _bars(axis: Axes, rows: Sequence[tuple[str, str, Mapping[str, Any] | None]], palette: Sequence[Any]) -> None:
    """Plot the predicted saving by cause as bars from zero to either side, and the measured saving on top."""
    colours = dict(zip(CAUSES, palette, strict=True))
    for row, (_, arm, attribution) in enumerate(rows):
        if attribution is None:
            continue
        saving = attribution["arms"][arm]["saving"]
        ends = {True: 0.0, False: 0.0}
        for cause, colour in colours.items():
            value = saving[cause]["percent"]["value"]
            axis.barh(row, value, left=ends[value >= 0], height=0.62, color=colour, alpha=0.75, zorder=2)
            ends[value >= 0] += value
        measured = saving["measured"]["percent"]
        plot_style.mark(axis, {"mean": measured["value"], **measured}, row, plot_style.INK)
    axis.set_yticks(range(len(rows)), [label for label, _, _ in rows], fontsize=mpl.rcParams["font.size"] - 1)
    several = any(attribution is None for _, _, attribution in rows)
    for text, (_, _, attribution) in zip(axis.get_yticklabels(), rows, strict=True):
        text.set_color(plot_style.MUTED if several and attribution is not None else plot_style.INK)
    axis.set_ylim(len(rows) - 0.4, -0.6)
    measured = [each["arms"][arm]["saving"]["measured"]["percent"] for _, arm, each in rows if each is not None]
    axis.set_xlim(_axis_limits([*measured, {"value": 0.0, "low": 0.0, "high": 0.0}]))
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
