"""Plots of the probe's scores by layer: the heat map (figS1) and the mass curves (figS2)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.figure import Figure

from aletheia.report import plot_style
from aletheia.report.table_text import number

CLAIM_PERCENT = 80  # the paper's section 3.2: the top half holds more than this share of the gradient norm
NOTHING = "No probe ended well."
Style = Mapping[str, Any]


def _profiles(table: pd.DataFrame) -> dict[str, np.ndarray]:
    """Return each model's ``normalized`` scores [seeds, layers], of the probes that ended well."""
    ended = table[table["status"] == "ok"]
    return {
        model: rows.pivot(index="seed", columns="layer", values="normalized").to_numpy(float)
        for model, rows in ended.groupby("model", sort=False)
    }


def heat_map(table: pd.DataFrame, style: Style) -> Figure:
    """Figure S1: each model's layer scores from its first to its last layer, against an even spread."""
    title = "Which layers the fine-tuning data pulls at"
    profiles = _profiles(table)
    if not profiles:
        return plot_style.empty(style, title, NOTHING)
    figure, (axis,) = plot_style.canvas(style, len(profiles) + 0.3)
    axis.grid(visible=False)
    means = {model: scores.mean(axis=0) * scores.shape[1] for model, scores in profiles.items()}
    top = max(2.0, *(float(mean.max()) for mean in means.values()))
    colours = sns.color_palette("rocket_r", as_cmap=True)
    for y, (model, mean) in enumerate(means.items()):
        depth = len(mean)
        edges = np.linspace(0, 100, depth + 1)
        mesh = axis.pcolormesh(edges, [y - 0.4, y + 0.4], mean[None, :], cmap=colours, vmin=0, vmax=top)
        # The paper's k = 50: layers that are in the top half of every seed's probe.
        tops = np.argsort(-profiles[model], axis=1, kind="stable")[:, : max(1, depth // 2)]
        always = [layer for layer in range(depth) if (tops == layer).any(axis=1).all()]
        centres = (edges[:-1] + edges[1:]) / 2
        axis.plot(
            centres[always], [y + 0.46] * len(always), ".", color=plot_style.INK, markersize=2.5, markeredgewidth=0
        )
    plot_style.fit_labels(figure, [axis], [f"{model} ({len(mean)})" for model, mean in means.items()])
    bar = figure.colorbar(mesh, ax=axis, pad=0.015, fraction=0.03)
    bar.outline.set_visible(False)
    bar.set_label("score × layers", fontsize="small")
    figure.subplots_adjust(right=0.95)
    axis.set_xlim(0, 100)
    axis.set_xlabel("Depth, from the first layer to the last (%)")
    plot_style.caption(
        figure,
        title,
        "Normalised l2 score times the number of layers (in brackets), mean over seeds; 1 is an even spread",
        f"{_probes(profiles)}. Dots: in the top half of every seed's probe.",
    )
    return figure


def mass_curves(table: pd.DataFrame, style: Style) -> Figure:
    """Figure S2: the share of the gradient that the best layers hold, as summed norms and as summed squares."""
    title = "How much of the gradient the best layers hold"
    profiles = _profiles(table)
    if not profiles:
        return plot_style.empty(style, title, NOTHING)
    figure, axes = plot_style.canvas(style, 8, panels=2, titled=True)
    palette = sns.color_palette(style["palette"], len(profiles)) if len(profiles) <= 10 else [plot_style.MUTED]
    for axis, power, name in zip(axes, (1, 2), ("Σ norms", "Σ squared norms"), strict=True):
        axis.axhline(CLAIM_PERCENT, color=plot_style.MUTED, linewidth=0.8, linestyle=":")
        axis.axvline(50, color=plot_style.MUTED, linewidth=0.8, linestyle=":")
        axis.plot([0, 100], [0, 100], color=plot_style.FAINT, linewidth=1)
        halves = []
        for (model, scores), colour in zip(profiles.items(), _cycle_colours(palette, len(profiles)), strict=True):
            curves = gradient_share_curves(scores**power)
            share = np.linspace(0, 100, curves.shape[1])
            axis.plot(share, curves.mean(axis=0), color=colour, linewidth=1.5, label=model)
            axis.fill_between(share, curves.min(axis=0), curves.max(axis=0), color=colour, alpha=0.2, linewidth=0)
            halves.append(curves.mean(axis=0)[max(1, scores.shape[1] // 2)])
        low, high = number(min(halves), 0), number(max(halves), 0)
        axis.set_title(f"{name}: {low if low == high else f'{low} to {high}'} % in the top half", loc="left")
        axis.set_xlim(0, 100)
        axis.set_ylim(0, 101)
        axis.set_xlabel("Layers, best first (%)")
    axes[0].set_ylabel("Held by them (%)")
    if len(profiles) <= 10:
        axes[1].legend(frameon=False, fontsize="small", loc="lower right")
    figure.subplots_adjust(left=0.6 / style["width_inches"])
    note = f"{_probes(profiles)}; bands: lowest to highest seed. Dotted: half of the layers, and the paper's 80 %."
    plot_style.caption(figure, title, "Cumulative share of the l2 scores; the diagonal is an even spread", note)
    return figure


def gradient_share_curves(scores: np.ndarray) -> np.ndarray:
    """Return the percentage of the sum in the best 0, 1, … L layers: [seeds, layers + 1], scores [seeds, layers]."""
    best_first = -np.sort(-scores, axis=1)
    cumulative = np.cumsum(best_first, axis=1)
    return 100 * np.pad(cumulative / cumulative[:, -1:], ((0, 0), (1, 0)))


def _cycle_colours(colours: list[Any], count: int) -> list[Any]:
    return [colours[i % len(colours)] for i in range(count)]


def _probes(profiles: Mapping[str, np.ndarray]) -> str:
    """Return "n = 3 probes a model"."""
    counts = {len(scores) for scores in profiles.values()}
    low, high = min(counts), max(counts)
    number_of = f"{low}" if low == high else f"{low} to {high}"
    return f"n = {number_of} probe{'' if high == 1 else 's'} a model, one a seed"


FIGURES = {"figS1": heat_map, "figS2": mass_curves}
