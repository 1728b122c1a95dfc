"""Loss against time by arm: the frontier (figS4), and held-out losses during training (figS5)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from aletheia.analysis.frontier import BY_CLOCK, IN_TURNS, pareto_set, points
from aletheia.report import plot_style
from aletheia.report.table_text import MARK

MAX_PANELS, WIDE_PANELS = 4, 2  # side by side: more would be too narrow; up to two have room for a long label
MAX_NAMED = 6  # arms that a note names for each panel
SHAPES = "osD^vP*X<>"  # they distinguish arms beyond the palette's colours
Style = Mapping[str, Any]


def frontier(summary: Mapping[str, Any], style: Style) -> Figure:
    """Figure S4: each arm's held-out loss against its time, relative to std, and the arms that no other one beats."""
    title = "What arms give for their time"
    panels = [(label, *points(model)) for label, model in _models(summary)]
    panels = [panel for panel in panels if panel[1]]
    if not panels:
        return plot_style.empty(style, title, "No pair of runs of the standard arm and another one ended well.")
    shown, arms = panels[:MAX_PANELS], list(dict.fromkeys(arm for _, arm_points, _ in panels for arm in arm_points))
    colours, shapes = plot_style.colours(style, arms), _shapes(arms)
    figure, axes = plot_style.canvas(style, 9, len(shown), titled=True)
    for axis, (_, arm_points, _) in zip(axes, shown, strict=True):
        for arm, point in arm_points.items():
            _point(axis, point, colours[arm], shapes[arm], label=arm)
        best = pareto_set(arm_points)
        means = [[arm_points[arm][i]["mean"] for arm in best] for i in (0, 1)]
        axis.step(*means, where="post", color=plot_style.INK, linewidth=0.9, linestyle="--", zorder=1)
        axis.axhline(0, color=plot_style.MUTED, linewidth=0.9, zorder=0)
        axis.axvline(1, color=plot_style.MUTED, linewidth=0.9, zorder=0)
        axis.grid(axis="y", color=plot_style.FAINT, linewidth=0.8)
        axis.margins(0.12)
    axes[0].set_ylabel("Held-out loss, arm − std (nats)")
    _legend(axes[-1], _handles(axes), style)
    times = "Time, arm / std" if len(shown) <= WIDE_PANELS else "Time"
    plot_style.name_panels(axes, [_parts(label) for label, *_ in shown], [f"{times} ({how})" for *_, how in shown])
    sets = "; ".join(f"{label}: {_name_arms(pareto_set(arm_points))}" for label, arm_points, _ in shown)
    note = f"Dashed: the arms that no other one beats in both ({sets})."
    clocks = {IN_TURNS: "measured in turns", BY_CLOCK: "of the runs' wall clock"}
    taken = " and ".join(clocks[how] for how in dict.fromkeys(how for *_, how in shown))
    subtitle = f"Mean over seeds, arm against std; bars: 95 % intervals; times {taken}, the probe counted"
    marked = any(MARK in label for label, *_ in shown)
    _caption(figure, title, subtitle, note, further=len(panels) - len(shown), marked=marked)
    return figure


def loss_curves(table: pd.DataFrame, style: Style) -> Figure:
    """Figure S5: held-out loss over training seconds, one line an arm, and thin ones for its seeds."""
    title = "Held-out loss on the way"
    timed = table.dropna(subset=["seconds", "heldout_loss"])
    models = list(timed.groupby(["campaign", "model"], sort=False))
    if not models:
        return plot_style.empty(style, title, "No run has held-out losses on the way with comparable times.")
    several = timed["campaign"].nunique() > 1
    arms = list(dict.fromkeys(timed["arm"]))
    colours, shapes = plot_style.colours(style, arms), _shapes(arms)
    figure, axes = plot_style.canvas(style, 9, min(len(models), MAX_PANELS), titled=True)
    for axis, (_, rows) in zip(axes, models, strict=False):
        for arm, runs in rows.groupby("arm", sort=False):
            for _, run in runs.groupby("seed"):
                axis.plot(run["seconds"], run["heldout_loss"], color=colours[arm], linewidth=0.6, alpha=0.45)
            # Steps that some seed did not reach are left out of the mean, which would jump there.
            by_step = runs.groupby("step")[["seconds", "heldout_loss"]]
            mean = by_step.mean()[by_step.size() == runs["seed"].nunique()]
            look = {"color": colours[arm], "marker": shapes[arm], "markersize": 3.5, "linewidth": 1.6}
            axis.plot(mean["seconds"], mean["heldout_loss"], label=arm, **look)
        axis.grid(axis="y", color=plot_style.FAINT, linewidth=0.8)
    axes[0].set_ylabel("Held-out loss (nats)")
    _legend(axes[-1], _handles(axes), style)
    titles = [(model, f" ({campaign})" if several else "") for (campaign, model), _ in models[: len(axes)]]
    plot_style.name_panels(axes, titles, ["Training seconds"] * len(axes))
    seeds = timed.groupby(["campaign", "model", "arm"])["seed"].nunique()
    low, high = seeds.min(), seeds.max()
    number_of = f"n = {low if low == high else f'{low} to {high}'} seed{'' if high == 1 else 's'} an arm"
    note = "Seconds of warm-up and steps; the probe's and those of the losses themselves are left out."
    subtitle = f"Thick: mean over the seeds at equal steps; thin: single seeds; {number_of}"
    _caption(figure, title, subtitle, note, further=len(models) - len(axes), marked=False)
    return figure


def _models(summary: Mapping[str, Any]) -> list[tuple[str, Mapping[str, Any]]]:
    """Return (label, model) of all campaigns, the headline's first."""
    campaigns = summary["campaigns"]
    labelled = [
        (
            model["model"] + ("" if model["headline"] else MARK) + (f" ({c['name']})" if len(campaigns) > 1 else ""),
            model,
        )
        for c in campaigns
        for model in c["models"]
    ]
    return sorted(labelled, key=lambda pair: not pair[1]["headline"])


def _parts(label: str) -> tuple[str, str]:
    """Return a panel's model and its campaign, which may stand below each other."""
    model, space, campaign = label.partition(" ")
    return model, space + campaign


def _shapes(arms: Iterable[str]) -> dict[str, str]:
    return {arm: SHAPES[i % len(SHAPES)] for i, arm in enumerate(arms)}


def _point(
    axis: Axes, point: tuple[Mapping[str, Any], Mapping[str, Any]], colour: Any, shape: str, *, label: str
) -> None:
    """Plot one arm: its means, and its two intervals as bars where they exist."""
    time, loss = point
    if time["low"] is not None:
        axis.plot([time["low"], time["high"]], [loss["mean"]] * 2, color=colour, linewidth=1.2, alpha=0.75, zorder=2)
    if loss["low"] is not None:
        axis.plot([time["mean"]] * 2, [loss["low"], loss["high"]], color=colour, linewidth=1.2, alpha=0.75, zorder=2)
    axis.plot([time["mean"]], [loss["mean"]], shape, color=colour, markersize=6, zorder=3, label=label)


def _handles(axes: Sequence[Axes]) -> dict[str, Any]:
    """Return ``{arm: its mark}`` over all panels, each once."""
    return {
        label: handle
        for axis in reversed(axes)
        for handle, label in zip(*axis.get_legend_handles_labels(), strict=True)
    }


def _legend(axis: Axes, handles: Mapping[str, Any], style: Style) -> None:
    """Write the arms' names right of the last panel."""
    longest = max(len(name) for name in handles)
    inches = 0.35 + longest * plot_style.EM * style["font_size"] * 0.85 / 72
    axis.figure.subplots_adjust(left=0.75 / style["width_inches"], right=1 - inches / style["width_inches"])
    place = {"loc": "upper left", "bbox_to_anchor": (1.0, 1.0), "borderaxespad": 0.0, "handletextpad": 0.3}
    axis.legend(handles.values(), handles, frameon=False, fontsize="small", handlelength=1.2, **place)


def _name_arms(arms: Sequence[str]) -> str:
    further = len(arms) - MAX_NAMED
    return ", ".join(arms[:MAX_NAMED]) + (f" and {further} more" if further > 0 else "")


def _caption(figure: Figure, title: str, subtitle: str, note: str, *, further: int, marked: bool) -> None:
    """Write title and small print, and give it the room that its lines take.

    Parameters
    ----------
    further
        Number of models that have no panel.
    marked
        Whether a panel has the mark of models outside the headline.
    """
    note += f" {MARK} no part of the headline." if marked else ""
    note += f" {further} further models: tables/tableS1.csv." if further else ""
    plot_style.caption(figure, title, subtitle, plot_style.fit_note(figure, note))
