"""Figure S3: predicted against measured step times, and each arm's saving split into its two causes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from aletheia import drawing
from aletheia.attribution import BASELINE, PREDICTED

TITLE = "Where the time of a step goes"
CAUSES = {"truncated_backward": "truncated backward pass", "absent_adapters": "absent or narrower adapters"}
SHAPES = "osD^vPX*<>hp"  # one a model; more models begin again
ROWS = 30  # so many rows of bars at full height; more are drawn closer


def draw_attribution(found: Sequence[Mapping[str, Any]], style: Mapping[str, Any]) -> Figure:
    """Return the figure.

    Parameters
    ----------
    found
        Payloads of ``attribution`` artifacts, one a model; those without a cost model are named in the small print.
    style
        Look of the figures.
    """
    usable = [one for one in found if one["cost_model"] and one["arms"][BASELINE]["measured_seconds"]]
    if not usable:
        return drawing.empty(style, TITLE, "No model's arms could be measured")
    bars = [(arm, one) for arm in PREDICTED if arm != BASELINE for one in usable if one["arms"][arm]["saving"]]
    rows = max(8.0, min(len(bars), ROWS) * 1.0 + 2)
    figure = Figure(figsize=(style["width_inches"], 1.15 + rows * drawing.ROW_INCHES))
    height = figure.get_figheight()
    left, right = figure.subplots(1, 2, width_ratios=(1, 1))
    figure.subplots_adjust(top=1 - 0.86 / height, bottom=0.86 / height, left=0.085, right=0.97, wspace=0.78)
    _scatter(left, usable, style)
    _bars(right, bars, several=len(usable) > 1, style=style)
    left_out = [one["model"] for one in found if one not in usable]
    rounds = sorted({one["rounds"] for one in usable})
    counted = " or ".join(map(str, rounds))
    lacking = f" Not measured: {', '.join(left_out)}." if left_out else ""
    drawing.caption(
        figure,
        TITLE,
        f"All arms in turns in one process. Lines: 95 % bootstrap intervals over {counted} rounds",
        "The cost model is calibrated on all layers (hollow, which it therefore meets) and on four arms that are not "
        f"shown.\nDots at the right: measured saving; bars: what the model says.{lacking}",
    )
    return figure


def _percent(one: Mapping[str, Any], value: Mapping[str, Any]) -> dict[str, float]:
    """Return an estimate in seconds as percent of the measured step with all layers adapted."""
    whole = one["arms"][BASELINE]["measured_seconds"]["value"]
    return {key: 100 * value[key] / whole for key in ("value", "low", "high")}


def _scatter(axis: Axes, usable: Sequence[Mapping[str, Any]], style: Mapping[str, Any]) -> None:
    """Draw predicted against measured step times, one mark an arm and model, and the line where both are equal."""
    colours = dict(
        zip(PREDICTED, [drawing.MUTED, *sns.color_palette(style["palette"], len(PREDICTED) - 1)], strict=True)
    )
    seen: list[float] = []
    for number, one in enumerate(usable):
        for arm, colour in colours.items():
            entry = one["arms"][arm]
            if not entry["measured_seconds"]:
                continue
            x, y = (_percent(one, entry[f"{side}_seconds"]) for side in ("measured", "predicted"))
            axis.plot([x["low"], x["high"]], [y["value"]] * 2, color=colour, linewidth=0.9, zorder=2)
            axis.plot([x["value"]] * 2, [y["low"], y["high"]], color=colour, linewidth=0.9, zorder=2)
            face = "white" if arm == BASELINE else colour
            shape = SHAPES[number % len(SHAPES)]
            axis.plot(x["value"], y["value"], shape, color=colour, markerfacecolor=face, markersize=5.5, zorder=3)
            seen += [x["value"], y["value"], x["low"], x["high"], y["low"], y["high"]]
    room = 0.06 * (max(seen) - min(seen) or 1)
    ends = (min(seen) - room, max(seen) + room)
    axis.plot(ends, ends, color=drawing.MUTED, linewidth=0.8, linestyle=":", zorder=1)
    axis.set(xlim=ends, ylim=ends, aspect="equal", xlabel="Measured", ylabel="Predicted")
    axis.set_title("Step time, % of all layers", loc="left")
    sns.despine(ax=axis)
    axis.grid(color=drawing.FAINT, linewidth=0.8)
    axis.set_axisbelow(True)
    marks = [Line2D([], [], marker="o", linestyle="", color=c, markersize=4.5) for c in colours.values()]
    marks[0].set_markerfacecolor("white")
    labels = list(PREDICTED.values())
    if len(usable) > 1:
        shapes = [SHAPES[i % len(SHAPES)] for i in range(len(usable))]
        marks += [Line2D([], [], marker=s, linestyle="", color=drawing.INK, markersize=4.5) for s in shapes]
        labels += [one["model"] for one in usable]
    axis.legend(marks, labels, frameon=False, fontsize="x-small", loc="upper left", handletextpad=0.2, labelspacing=0.3)


def _bars(
    axis: Axes, bars: Sequence[tuple[str, Mapping[str, Any]]], *, several: bool, style: Mapping[str, Any]
) -> None:
    """Draw what the model says of each saving, by cause, from zero to either side, and the measured saving on it."""
    palette = dict(zip(CAUSES, sns.color_palette(style["palette"], 10)[7:9], strict=True))
    for row, (arm, one) in enumerate(bars):
        saving = one["arms"][arm]["saving"]
        ends = {True: 0.0, False: 0.0}
        for cause, colour in palette.items():
            width = saving[cause]["percent"]["value"]
            axis.barh(row, width, left=ends[width >= 0], height=0.62, color=colour, zorder=2)
            ends[width >= 0] += width
        measured = saving["measured"]["percent"]
        drawing.mark(axis, {"mean": measured["value"], **measured}, row, drawing.INK)
    names = [PREDICTED[arm] + (f" · {one['model']}" if several else "") for arm, one in bars]
    axis.set_yticks(range(len(bars)), names, fontsize="small")
    axis.set_ylim(len(bars) - 0.4, -0.6)
    axis.set_title("Saving, % of all layers", loc="left")
    axis.set_xlabel("Percent of a step")
    drawing.zero_line(axis)
    sns.despine(ax=axis, left=True)
    axis.tick_params(axis="y", length=0)
    axis.grid(axis="x", color=drawing.FAINT, linewidth=0.8)
    axis.set_axisbelow(True)
    patches = [Patch(color=palette[cause], label=label) for cause, label in CAUSES.items()]
    patches.append(Line2D([], [], marker="o", linewidth=1.4, color=drawing.INK, markersize=4.5, label="measured"))
    axis.legend(
        handles=patches, frameon=False, fontsize="x-small", ncols=2, loc="upper left", bbox_to_anchor=(-0.6, -0.2)
    )
