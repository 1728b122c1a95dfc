"""Figure R1: each published value that can be compared, and where our runs expect it, a line a cell."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib as mpl
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from aletheia.analysis.published_cells import LOSS_DIFFERENCE, OVERALL, POINTS, SPEEDUP, WITH_PROBE
from aletheia.inference.replication import NOT_INFORMATIVE, OUTSIDE
from aletheia.report import plot_style

ROW_INCHES = 0.19  # of one cell
BETWEEN_INCHES = 0.75  # from one panel to the next: ticks, label and title
LABEL_INCHES = 2.6
_TITLE = "The paper's values, and where our runs expect them"
_PANELS = {
    SPEEDUP: ("Speedup, table 2", "Speedup (%)"),
    POINTS: ("Changes of scores, tables 3 and 4", "Difference (percentage points)"),
    LOSS_DIFFERENCE: ("Loss at equal compute − std's, table 5", "Difference (nats)"),
}
_NAMES = {
    "speedup_percent": "",
    "mmlu_std_delta_pp": "MMLU, std Δ",
    "mmlu_ale_delta_pp": "MMLU, ale Δ",
    "mmlu_extra_pp": "MMLU, extra",
    "gsm8k_extra_pp": "GSM8K, extra",
    "humaneval_extra_pp": "HumanEval, extra",
    "cm_minus_std_eval_loss": "",
}
# Around the dot of ours, so that both are seen where they agree.
_PAPER = {"color": plot_style.INK, "markerfacecolor": "none", "markersize": 8, "markeredgewidth": 1.0}
Style = Mapping[str, Any]
Cells = Sequence[Mapping[str, Any]]


def replication_figure(summary: Mapping[str, Any], style: Style) -> Figure:
    """Return figure R1.

    Parameters
    ----------
    summary
        Of :func:`aletheia.analysis.replication.replicate`.
    style
        Of :func:`aletheia.report.plot_style.checked_style`.
    """
    panels = {kind: _of_kind(summary["cells"], kind) for kind in _PANELS}
    panels = {kind: cells for kind, cells in panels.items() if cells}
    if not panels:
        return plot_style.empty(style, _TITLE, "No cell of the paper can be compared with this study.")
    figure, axes = _canvas(style, [len(cells) for cells in panels.values()])
    colours = sns.color_palette(style["palette"])
    for axis, (kind, cells) in zip(axes, panels.items(), strict=True):
        _panel(axis, cells, colours)
        axis.set_title(_PANELS[kind][0], loc="left")
        axis.set_xlabel(_PANELS[kind][1])
    _key(figure, colours)
    note = (
        "Line: 95 % interval in which the paper's value is expected, around our mean (dot). Hollow dot: too wide to "
        "tell. Diamond: the paper's value. REPLICATION.md says which cells are indications only."
    )
    plot_style.caption(figure, _TITLE, "A line a cell of tables 2 to 5", plot_style.fit_note(figure, note))
    return figure


def _of_kind(cells: Cells, kind: str) -> list[Mapping[str, Any]]:
    own = [c for c in cells if c["kind"] == kind and c["low"] is not None and c["quantity"] != WITH_PROBE]
    order = list(_NAMES)
    return sorted(own, key=lambda cell: (cell["table"], cell["key"] == OVERALL, order.index(cell["quantity"])))


def _canvas(style: Style, rows: Sequence[int]) -> tuple[Figure, list[Axes]]:
    """Return a figure of panels one below the other, each as high as its cells."""
    heights = [(max(n, 2) + 0.6) * ROW_INCHES for n in rows]
    head, foot = plot_style.HEAD_INCHES + plot_style.TITLE_INCHES + 0.1, plot_style.FOOT_INCHES + 0.2
    height = head + foot + sum(heights) + BETWEEN_INCHES * (len(rows) - 1)
    figure = Figure(figsize=(style["width_inches"], height))
    top, axes = height - head, []
    left, right = LABEL_INCHES / style["width_inches"], 0.97
    for inches in heights:
        axis = figure.add_axes((left, (top - inches) / height, right - left, inches / height))
        sns.despine(ax=axis, left=True)
        axis.tick_params(axis="y", length=0)
        axis.grid(axis="x", color=plot_style.FAINT, linewidth=0.8)
        axis.set_axisbelow(True)
        axes.append(axis)
        top -= inches + BETWEEN_INCHES
    return figure, axes


def _panel(axis: Axes, cells: Cells, colours: Sequence[Any]) -> None:
    for y, cell in enumerate(cells):
        own = {"mean": cell["ours_mean"], "low": cell["low"], "high": cell["high"]}
        outside = cell["verdict"] in OUTSIDE
        colour = colours[3] if outside else colours[0]
        plot_style.mark(axis, own, y, colour, filled=cell["verdict"] != NOT_INFORMATIVE)
        axis.plot([cell["published_mean"]], [y], "D", **_PAPER, zorder=5)
    plot_style.zero_line(axis)
    size = float(mpl.rcParams["ytick.labelsize"]) - 1.5
    axis.set_yticks(range(len(cells)), _labels(cells), fontsize=size)
    axis.set_ylim(len(cells) - 0.3, -0.7)


def _labels(cells: Cells) -> list[str]:
    """Return what each line is of; with its table where there are two, with its campaign where two measure one cell."""
    tables = len({cell["table"] for cell in cells}) > 1
    times = Counter((cell["table"], cell["model"], cell["quantity"]) for cell in cells)
    labels = []
    for cell in cells:
        several = times[cell["table"], cell["model"], cell["quantity"]] > 1
        parts = [cell["model"], _NAMES[cell["quantity"]], cell["campaign"] if several else ""]
        labels.append(", ".join(filter(None, parts)) + (f" ({cell['table']})" if tables else ""))
    return labels


def _key(figure: Figure, colours: Sequence[Any]) -> None:
    line = {"marker": "o", "linestyle": "-", "linewidth": 1.4, "markersize": 5}
    handles = {
        "paper": Line2D([], [], marker="D", linestyle="", **_PAPER),
        "ours, paper inside": Line2D([], [], color=colours[0], **line),
        "ours, paper outside": Line2D([], [], color=colours[3], **line),
    }
    size = mpl.rcParams["font.size"] - 0.5
    place = {"loc": "upper right", "bbox_to_anchor": (0.985, 1 - 0.3 / figure.get_figheight()), "ncols": 3}
    figure.legend(handles.values(), handles.keys(), frameon=False, fontsize=size, borderaxespad=0.2, **place)
