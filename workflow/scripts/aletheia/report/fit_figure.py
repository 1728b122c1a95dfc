"""The figure of ``aletheia fit``: held-out loss over seconds, beside the loss on general text; base model as a line."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from aletheia.report import plot_style
from aletheia.report.fit_answer import rows_name
from aletheia.study.arms import STD
from aletheia.study.benchmarks import HELDOUT, RETENTION

ROWS = 7.0  # height of the panels, in rows of a dot plot
SHAPES = ("s", "^", "D", "v", "P", "X")  # of the arms beside std, which is a circle; told apart without colours
BETWEEN_INCHES = 0.5
_TITLE = "Was it worth it?"
Numbers = Mapping[str, Any]


def fit_figure(summary: Numbers, style: Numbers) -> Figure:
    """Return the figure.

    Parameters
    ----------
    summary
        Of :func:`aletheia.analysis.fit_summary.summarise_fit`.
    style
        Of :func:`aletheia.report.plot_style.checked_style`.
    """
    arms = summary["arms"]
    losses = {arm: value for arm, own in arms.items() if (value := _loss(summary, own, HELDOUT))}
    general = {arm: value for arm, own in arms.items() if (value := _loss(summary, own, RETENTION))}
    placed = {arm: value for arm, value in losses.items() if arms[arm]["total_seconds"]["mean"] is not None}
    if not losses:
        return plot_style.empty(style, _TITLE, "No run ended well.")
    marks = _marks(style, list(arms))
    figure, axes = _panels(style, 2 if general else 1)
    _over_seconds(axes[0], summary, placed, marks)
    if general:
        _general_text(axes[1], summary, general, marks)
    shown = {arm: marks[arm] for arm in arms if arm in placed or arm in general}
    plot_style.key(
        figure,
        {arm: (colour, True) for arm, (colour, _) in shown.items()},
        shapes=[shape for _, shape in shown.values()],
    )
    note = plot_style.fit_note(figure, _note(summary, [arm for arm in losses if arm not in placed]))
    subtitle = f"{summary['model']}: loss on {rows_name(summary)} over the seconds of a run; lower is better"
    plot_style.caption(figure, _TITLE, subtitle, note)
    return figure


def _loss(summary: Numbers, own: Numbers, benchmark: str) -> dict[str, Any] | None:
    """Return a loss with the interval of its difference from the base model's; over seeds where that is not known."""
    base, difference = summary["base"][benchmark], own[f"{benchmark}_from_base"]
    if base is not None and difference["mean"] is not None:
        return {end: None if difference[end] is None else base + difference[end] for end in ("mean", "low", "high")}
    level = own[benchmark]
    return None if level["mean"] is None else {end: level[end] for end in ("mean", "low", "high")}


def _marks(style: Numbers, arms: list[str]) -> dict[str, tuple[Any, str]]:
    """Return a colour and a shape for each arm: std is a grey circle, the others differ in both."""
    palette = sns.color_palette(style["palette"])
    others = [arm for arm in arms if arm != STD]
    marks = {arm: (palette[i % len(palette)], SHAPES[i % len(SHAPES)]) for i, arm in enumerate(others)}
    return {arm: marks.get(arm, (plot_style.MUTED, "o")) for arm in arms}


def _panels(style: Numbers, count: int) -> tuple[Figure, list[Axes]]:
    head, foot = plot_style.HEAD_INCHES, plot_style.FOOT_INCHES
    height = head + foot + ROWS * plot_style.ROW_INCHES
    figure = Figure(figsize=(style["width_inches"], height))
    axes = figure.subplots(1, count, squeeze=False, gridspec_kw={"width_ratios": (3, 2)[:count]})[0]
    left = 0.75 / style["width_inches"]
    figure.subplots_adjust(top=1 - head / height, bottom=foot / height, left=left, right=0.97, wspace=0.42)
    for axis in axes:
        sns.despine(ax=axis)
        axis.set_axisbelow(True)
    return figure, list(axes)


def _over_seconds(axis: Axes, summary: Numbers, losses: Numbers, marks: Numbers) -> None:
    for arm, loss in losses.items():
        (colour, shape), seconds = marks[arm], summary["arms"][arm]["total_seconds"]
        line = {"color": colour, "linewidth": 1.3, "zorder": 2, "solid_capstyle": "butt"}
        if seconds["low"] is not None:
            axis.plot([seconds["low"], seconds["high"]], [loss["mean"]] * 2, gid=f"{arm} seconds", **line)
        if loss["low"] is not None:
            axis.plot([seconds["mean"]] * 2, [loss["low"], loss["high"]], gid=f"{arm} loss", **line)
        axis.plot([seconds["mean"]], [loss["mean"]], shape, color=colour, markersize=6.5, zorder=3, gid=arm)
    base = summary["base"][HELDOUT]
    if base is not None:
        axis.axhline(base, color=plot_style.INK, linewidth=0.9, linestyle="--", zorder=1, gid="base")
        axis.annotate(
            "base model",
            (0.01, base),  # at the left, where no run is
            xycoords=("axes fraction", "data"),
            **{"xytext": (0, -3), "textcoords": "offset points", "va": "top", "fontsize": "small"},
        )
    axis.margins(0.12)
    axis.set_xlim(left=0)  # where the base model is
    axis.grid(color=plot_style.FAINT, linewidth=0.8)
    axis.set_xlabel("Seconds of a run, its probe counted")
    axis.set_ylabel("Held-out loss (nats)")


def _general_text(axis: Axes, summary: Numbers, losses: Numbers, marks: Numbers) -> None:
    for row, (arm, loss) in enumerate(losses.items()):
        colour, shape = marks[arm]
        plot_style.mark(axis, loss, row, colour, shape=shape)
    axis.set_yticks(range(len(losses)), list(losses))
    axis.set_ylim(len(losses) - 0.4, -0.6)
    base = summary["base"][RETENTION]
    if base is not None:
        axis.axvline(base, color=plot_style.INK, linewidth=0.9, linestyle="--", zorder=1, gid="base")
    axis.margins(x=0.12)
    axis.grid(axis="x", color=plot_style.FAINT, linewidth=0.8)
    axis.set_xlabel("Loss on general text (nats)")


def _note(summary: Numbers, untimed: list[str]) -> str:
    """Return the small print, with what the figure leaves out."""
    seeds = max(len(own["seeds"]) for own in summary["arms"].values())
    over = "rows and seeds" if seeds > 1 else "rows (one seed)"
    lost = [arm for arm, own in summary["arms"].items() if not own["ok"]]
    parts = [
        f"Dashed: the base model. Bars: 95 % intervals, of losses for the difference from the base model, over {over}; "
        + ("of seconds over seeds." if seeds > 1 else "seconds of one run have none."),
        f"Left out of the left panel, since their times are not known: {', '.join(untimed)}." if untimed else "",
        f"No run ended well: {', '.join(lost)}." if lost else "",
    ]
    return " ".join(filter(None, parts))
