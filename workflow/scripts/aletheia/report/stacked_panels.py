"""Panels of one width, one below the other, each as high as what it shows needs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from aletheia.report import plot_style

MAX_PANELS = 4  # further models stand in the tables
BETWEEN_INCHES = 0.55  # from one panel to the next: ticks, label and title


def stacked(style: Mapping[str, Any], rows: Sequence[float]) -> tuple[Figure, list[Axes]]:
    """Return a figure of panels, each as high as its rows of a dot plot, with a grid along the vertical axis."""
    heights = [row * plot_style.ROW_INCHES for row in rows]
    head, foot = plot_style.HEAD_INCHES + plot_style.TITLE_INCHES, plot_style.FOOT_INCHES
    height = head + foot + sum(heights) + BETWEEN_INCHES * (len(rows) - 1)
    figure = Figure(figsize=(style["width_inches"], height))
    axes = figure.subplots(len(rows), 1, squeeze=False, gridspec_kw={"height_ratios": heights})[:, 0]
    between = BETWEEN_INCHES / (sum(heights) / len(heights))
    left = 0.75 / style["width_inches"]
    figure.subplots_adjust(top=1 - head / height, bottom=foot / height, left=left, right=0.97, hspace=between)
    for axis in axes:
        sns.despine(ax=axis)
        axis.grid(axis="y", color=plot_style.FAINT, linewidth=0.8)
        axis.set_axisbelow(True)
    return figure, list(axes)
