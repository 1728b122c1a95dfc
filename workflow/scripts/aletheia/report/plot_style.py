"""The look of the figures, in one place: fonts, colours, canvas, marks, and files whose bytes repeat."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from aletheia.errors import UserError

STYLE = {"width_inches": 7.0, "dots_per_inch": 200, "palette": "colorblind", "font_size": 9}
SUFFIXES = ("pdf", "png", "svg")
INK, MUTED, FAINT, BAND = "#222222", "#6e6e6e", "#e9e9e9", "#f1f1f1"
ROW_INCHES = 0.34  # one row of a dot plot
HEAD_INCHES, FOOT_INCHES = 0.62, 0.66
TITLE_INCHES = 0.2  # more, where each panel has a title
LINE_INCHES = 0.14  # a line of small print
LINE_LENGTH = 122  # characters of such a line, at the width and the font size of STYLE
EM = 0.6  # DejaVu's mean advance, of the font size
SMALLEST_POINTS = 6.0  # font size that can still be read
NO_WIDTH = 1e-9  # relative; a narrower interval is of equal values, and its width is rounding
# Metadata that would differ from one save to the next.
_METADATA: dict[str, dict[str, None]] = {
    "pdf": {"CreationDate": None, "ModDate": None},
    "svg": {"Date": None},
    "png": {"Software": None},
}


def checked_style(changes: Mapping[str, Any]) -> dict[str, Any]:
    """Return :data:`STYLE` with the study's changes.

    Raises
    ------
    UserError
        When seaborn does not know the palette.
    """
    style = {**STYLE, **changes}
    try:
        sns.color_palette(style["palette"])
    except (ValueError, TypeError) as error:  # an unknown name; a known one with wrong options ("ch:turns=2")
        raise UserError(
            f"figures.palette {style['palette']!r}: expected the name of a seaborn palette, such as colorblind, deep "
            f"or Set2, found one that seaborn refuses ({error})"
        ) from None
    return style


def rc(style: Mapping[str, Any]) -> dict[str, Any]:
    """Return matplotlib's settings for a style (keys of :data:`STYLE`)."""
    size = style["font_size"]
    return {
        **sns.axes_style("ticks"),
        "font.family": "DejaVu Sans",  # comes with matplotlib, so it is the same on every machine
        "font.size": size,
        "axes.labelsize": size,
        "axes.titlesize": size,
        "xtick.labelsize": size - 1,
        "ytick.labelsize": size,
        "text.color": INK,
        "axes.labelcolor": INK,
        "axes.edgecolor": MUTED,
        "xtick.color": MUTED,
        "xtick.labelcolor": INK,
        "ytick.color": MUTED,
        "ytick.labelcolor": INK,
        "axes.linewidth": 0.7,
        "figure.dpi": style["dots_per_inch"],
        "savefig.dpi": style["dots_per_inch"],
        "pdf.fonttype": 42,
        "svg.hashsalt": "aletheia",
    }


def colours(style: Mapping[str, Any], arms: Iterable[str]) -> dict[str, Any]:
    """Return one colour for each arm: grey for the baseline, the palette's for the others."""
    palette = sns.color_palette(style["palette"])
    fixed = {"std": MUTED, "ale": palette[0], "cm": palette[1]}
    others = iter(palette[2:])
    return {arm: fixed.get(arm) or next(others, INK) for arm in arms}


def canvas(
    style: Mapping[str, Any], rows: float, panels: int = 1, *, titled: bool = False
) -> tuple[Figure, Sequence[Axes]]:
    """Return a figure with a head for the title, a foot for the small print, and ``panels`` axes in between.

    Parameters
    ----------
    rows
        Height of the axes, in rows of a dot plot.
    panels
        Number of axes side by side, sharing the vertical axis.
    titled
        Leave room for a title above each panel.
    """
    head = HEAD_INCHES + (TITLE_INCHES if titled else 0.0)
    width, height = style["width_inches"], head + FOOT_INCHES + max(rows, 2.0) * ROW_INCHES
    # Not by pyplot, which needs a window system and keeps figures after their use.
    figure = Figure(figsize=(width, height))
    axes = figure.subplots(1, panels, sharey=True, squeeze=False)
    figure.subplots_adjust(top=1 - head / height, bottom=FOOT_INCHES / height, right=0.97, wspace=0.12)
    for axis in axes[0]:
        sns.despine(ax=axis, left=True)
        axis.tick_params(axis="y", length=0)
        axis.grid(axis="x", color=FAINT, linewidth=0.8)
        axis.set_axisbelow(True)
    return figure, axes[0]


def caption(figure: Figure, title: str, subtitle: str, note: str) -> None:
    """Write title and subtitle above the axes, and the small print on the marks below them."""
    height = figure.get_figheight()
    size = mpl.rcParams["font.size"]
    figure.text(0.012, 1 - 0.08 / height, title, fontsize=size + 2, fontweight="bold", va="top")
    figure.text(0.012, 1 - 0.31 / height, subtitle, fontsize=size - 0.5, color=MUTED, va="top")
    figure.text(0.012, 0.05 / height, note, fontsize=size - 2, color=MUTED, va="bottom", linespacing=1.35)


def fit_note(figure: Figure, note: str) -> str:
    """Return the small print in lines that fit the figure, and make room for them."""
    size, wide = (
        (mpl.rcParams["font.size"] - 2) / (STYLE["font_size"] - 2),
        figure.get_figwidth() / STYLE["width_inches"],
    )
    lines = textwrap.wrap(note, max(1, int(LINE_LENGTH * wide / size)))
    room = FOOT_INCHES + LINE_INCHES * max(0, len(lines) - 1)
    figure.subplots_adjust(bottom=room / figure.get_figheight())
    return "\n".join(lines)


def fit_labels(figure: Figure, axes: Sequence[Axes], labels: Sequence[str]) -> None:
    """Write the row labels, and make room for the longest of them."""
    size = mpl.rcParams["ytick.labelsize"]
    longest = max((len(line) for label in labels for line in label.split("\n")), default=0)
    # The rest is padding.
    inches = longest * EM * float(size) / 72 + 0.22
    figure.subplots_adjust(left=min(0.45, inches / figure.get_figwidth()))
    axes[0].set_yticks(range(len(labels)), labels)
    axes[0].set_ylim(len(labels) - 0.4, -0.6)


def name_panels(axes: Sequence[Axes], titles: Sequence[tuple[str, str]], labels: Sequence[str]) -> None:
    """Write a title above and a label below each panel, all in the size in which none reaches into the next panel.

    After the margins are settled.

    Parameters
    ----------
    axes
        The panels, of equal width.
    titles
        Both parts of each title: beside each other where that fits all panels, else one below the other.
    labels
        What the horizontal axes show, with its unit.
    """
    size, figure = float(mpl.rcParams["font.size"]), axes[0].figure
    room = axes[0].get_position().width * figure.get_figwidth()
    whole = ["".join(title) for title in titles]
    if _fitting_size(whole, room, size) < size:
        whole = ["\n".join(part.strip(" ,") for part in title if part) for title in titles]
    sizes = {"title": _fitting_size(whole, room, size), "label": _fitting_size(labels, room, size)}
    for axis, title, label in zip(axes, whole, labels, strict=True):
        axis.set_title(title, loc="left", fontsize=sizes["title"])
        axis.set_xlabel(label, fontsize=sizes["label"])


def _fitting_size(texts: Iterable[str], inches: float, size: float) -> float:
    """Return the largest font size from :data:`SMALLEST_POINTS` to ``size`` in which every line takes ``inches``."""
    longest = max(len(line) for text in texts for line in text.split("\n"))
    return min(size, max(SMALLEST_POINTS, inches * 72 / (EM * longest)))


def mark(axis: Axes, value: Mapping[str, Any], y: float, colour: Any, *, filled: bool = True, shape: str = "o") -> None:
    """Plot a mean and its interval at height ``y``; nothing where there is no mean.

    An interval without width is shown as an upright cap longer than the mark, so that it does not look missing.
    """
    if value["mean"] is None:
        return
    if has_no_width(value):
        axis.plot([value["mean"]], [y], "|", color=colour, markersize=11, markeredgewidth=1.4, zorder=3)
    elif value["low"] is not None:
        axis.plot(
            [value["low"], value["high"]],
            [y, y],
            color=colour,
            linewidth=1.4,
            solid_capstyle="butt",
            zorder=3,
        )
    face = colour if filled else "white"
    axis.plot(
        [value["mean"]],
        [y],
        shape,
        color=colour,
        markerfacecolor=face,
        markersize=5.5,
        markeredgewidth=1.3,
        zorder=4,
    )


def has_no_width(value: Mapping[str, Any]) -> bool:
    """Tell whether an interval has no width, as that of equal values; False where there is no interval."""
    return value["low"] is not None and value["high"] - value["low"] <= NO_WIDTH * max(1.0, abs(value["mean"]))


def flag(axis: Axes, value: Mapping[str, Any], y: float, text: str) -> None:
    """Write a mark just right of an interval at height ``y``."""
    right = value["mean"] if value["high"] is None else value["high"]
    axis.annotate(
        text, (right, y), xytext=(4, 1), textcoords="offset points", va="center", fontsize="x-small", color=MUTED
    )


def ticks(axis: Axes, values: Iterable[float], y: float, colour: Any, *, shape: str = "|") -> None:
    """Plot single values as ticks across the interval of their mean, or in another shape."""
    values = list(values)
    axis.plot(values, [y] * len(values), shape, color=colour, markersize=6, markeredgewidth=0.9, zorder=3)


def band(axis: Axes, value: Mapping[str, Any], y: float) -> None:
    """Plot an interval as a grey band of one row around height ``y``; nothing where there is none."""
    if value["low"] is not None:
        axis.barh(y, value["high"] - value["low"], 0.86, value["low"], color=BAND, linewidth=0, zorder=0)


def zero_line(axis: Axes) -> None:
    """Plot the line of no difference."""
    axis.axvline(0, color=MUTED, linewidth=0.9, zorder=1)


def key(figure: Figure, entries: Mapping[str, tuple[Any, bool]], *, shapes: Sequence[str] | None = None) -> None:
    """Write the legend at the upper right: ``{text: (colour, filled)}``, of circles unless ``shapes`` are given."""
    handles = [
        Line2D([], [], marker=shape, linestyle="-", linewidth=1.4, color=colour, markersize=5)
        for (colour, _), shape in zip(entries.values(), shapes or ["o"] * len(entries), strict=True)
    ]
    for handle, (_, filled) in zip(handles, entries.values(), strict=True):
        handle.set_markerfacecolor(handle.get_color() if filled else "white")
    figure.legend(
        handles,
        entries,
        loc="upper right",
        bbox_to_anchor=(0.985, 1.0),
        ncols=len(entries),
        frameon=False,
        fontsize=mpl.rcParams["font.size"] - 0.5,
        handlelength=1.6,
        columnspacing=1.2,
        borderaxespad=0.3,
    )


def empty(style: Mapping[str, Any], title: str, reason: str) -> Figure:
    """Return a figure with the reason why there is nothing to plot."""
    figure, axes = canvas(style, 2)
    axes[0].set_axis_off()
    axes[0].text(0.5, 0.5, reason, ha="center", va="center", color=MUTED, transform=axes[0].transAxes)
    caption(figure, title, "", "")
    return figure


def save(figure: Figure, path: Path) -> None:
    """Save in the format that the suffix names; equal figures give equal bytes."""
    figure.savefig(path, metadata=_METADATA[path.suffix[1:]])
