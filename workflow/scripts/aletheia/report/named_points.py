"""Points of a plane with their intervals, and their names in a column beside the axes, where they cover no data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from scipy.optimize import isotonic_regression, linear_sum_assignment

from aletheia.report import plot_style

# A name, and the estimates (mean, low, high) along both axes.
Point = tuple[str, Mapping[str, Any], Mapping[str, Any]]
NAME_SIZE = 0.83  # of the figure's font size
LINE_HEIGHT = 1.45  # from one name to the next, of their size
GAP_INCHES = 0.16  # from the axes to the names
LEAST_ROWS, SPARE_ROWS = 9.0, 1.5  # of a dot plot: the height of few points, and of the last line to the frame


def rows(points: Sequence[Point], style: Mapping[str, Any]) -> float:
    """Return the height that points need, in rows of a dot plot, so that their names stand one below the other."""
    line = LINE_HEIGHT * NAME_SIZE * style["font_size"] / 72
    return max(LEAST_ROWS, len(points) * line / plot_style.ROW_INCHES + SPARE_ROWS)


def plot(axis: Axes, points: Sequence[Point], colour: Any) -> None:
    """Draw each point with its intervals in both directions."""
    for _, x, y in points:
        style = {"color": colour, "linewidth": 1.2, "alpha": 0.75, "zorder": 2}
        if x["low"] is not None:
            axis.plot([x["low"], x["high"]], [y["mean"]] * 2, **style)
        if y["low"] is not None:
            axis.plot([x["mean"]] * 2, [y["low"], y["high"]], **style)
        axis.plot([x["mean"]], [y["mean"]], "o", color=colour, markersize=6, zorder=3)


def name(axis: Axes, points: Sequence[Point]) -> None:
    """Write the names right of the axes, each with a thin line to its point.

    Last of all, when the limits and the room below the axes are settled. Which name stands where follows from the
    shortest lines in all, of which no two cross.
    """
    figure, size = axis.figure, NAME_SIZE * mpl.rcParams["font.size"]
    inches = GAP_INCHES + max(len(label) for label, *_ in points) * plot_style.EM * size / 72 + 0.08
    figure.subplots_adjust(right=1 - min(0.5, inches / figure.get_figwidth()))
    place = axis.get_position()
    wide, high = place.width * figure.get_figwidth(), place.height * figure.get_figheight()
    axis.autoscale_view()  # else the limits are worked out when the figure is saved
    to_axes = axis.transData + axis.transAxes.inverted()
    at = to_axes.transform([(x["mean"], y["mean"]) for _, x, y in points]) * (wide, high)
    heights = _spread(sorted(at[:, 1]), LINE_HEIGHT * size / 72, high)
    lengths = np.hypot(at[:, :1] - (wide + GAP_INCHES), at[:, 1:] - heights[None, :])
    line = {"arrowstyle": "-", "color": plot_style.MUTED, "linewidth": 0.5, "alpha": 0.7, "relpos": (0, 0.5)}
    for point, slot in zip(*linear_sum_assignment(lengths), strict=True):
        label, x, y = points[point]
        axis.annotate(
            label,
            (x["mean"], y["mean"]),
            xytext=(1 + GAP_INCHES / wide, heights[slot] / high),
            textcoords="axes fraction",
            va="center",
            fontsize=size,
            arrowprops={**line, "shrinkA": 1, "shrinkB": 3},
        )


def _spread(wanted: Sequence[float], apart: float, high: float) -> np.ndarray:
    """Return the heights in [0, ``high``] nearest to the ascending ones that are wanted, no two nearer than ``apart``.

    Where so many have no room they go on below 0.
    """
    steps = apart * np.arange(len(wanted))
    return np.clip(isotonic_regression(np.array(wanted) - steps).x, 0, high - steps[-1]) + steps
