"""The plot of the probe's stability: agreement of independent draws against the number of batches."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import seaborn as sns
from matplotlib.figure import Figure

from aletheia.analysis.stability import MEASURES
from aletheia.report import plot_style


def plot_stability(models: Mapping[str, Mapping[str, Any]], style: Mapping[str, Any]) -> Figure:
    """Return the plot: both agreements against the number of batches, one line a model."""
    figure, axes = plot_style.canvas(style, 7, panels=2, titled=True)
    palette = sns.color_palette(style["palette"], max(len(models), 1))
    for axis, (measure, label) in zip(axes, MEASURES.items(), strict=True):
        for i, ((model, stability), colour) in enumerate(zip(models.items(), palette, strict=False)):
            counts = [row["batches"] for row in stability["by_batches"]]
            shift = np.array(counts) * (1 + 0.03 * (i - (len(models) - 1) / 2))
            values = [row[measure] for row in stability["by_batches"]]
            # An array turns None, of an undefined agreement, into NaN: a gap in the line.
            means = np.array([v["mean"] for v in values], dtype=float)
            axis.plot(shift, means, "o-", color=colour, markersize=4, linewidth=1.2, label=model)
            for x, value in zip(shift, values, strict=True):
                if value["low"] is not None:
                    axis.plot([x, x], [value["low"], value["high"]], color=colour, linewidth=1)
        axis.set_xscale("log")
        axis.set_xticks(counts, [str(c) for c in counts])
        axis.minorticks_off()
        axis.set_ylim(min(0.0, axis.get_ylim()[0]), 1.02)
        axis.set_title(label, loc="left")
        axis.set_xlabel("Probe batches")
    levels = {round(stability["jaccard_by_chance"], 3) for stability in models.values()}
    for level in levels:
        axes[0].axhline(level, color=plot_style.MUTED, linewidth=0.8, linestyle=":")
    axes[1].legend(frameon=False, fontsize="small", loc="lower right")
    figure.subplots_adjust(left=0.5 / style["width_inches"])
    n = sorted({stability["draws_ok"] for stability in models.values()})
    draws = f"{n[0]}" if len(n) == 1 else f"{n[0]} to {n[-1]}"
    plot_style.caption(
        figure,
        "How stable the probe's selection is",
        f"Agreement of independent draws of batches, all pairs of n = {draws} draws a model",
        "Bars: 95 % jackknife interval over draws. Dotted: overlap of two random selections.",
    )
    return figure
