"""Figure S6: random draws as grey dots, every other way to choose layers as a named mark, standard LoRA as a line."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from aletheia.analysis.controls_arms import ALL, CONTROL, GIVEN, RANDOM, SAME_LOWEST, SELECTOR
from aletheia.report import named_points, plot_style
from aletheia.report.stacked_panels import MAX_PANELS, stacked
from aletheia.report.table_text import MARK
from aletheia.study.arms import STD

_STRIPS = {RANDOM: 0, SAME_LOWEST: 0, SELECTOR: 1, CONTROL: 2, GIVEN: 3, ALL: 3}
_STRIP_NAMES = ("random draws", "by a score", "controls", "others")
_TITLE = "Is it the gradient?"
Style = Mapping[str, Any]


def controls_figure(summary: Mapping[str, Any], style: Style) -> Figure:
    """Return figure S6: held-out loss against the time of a run; against the kind of choice where no time is known.

    Parameters
    ----------
    summary
        Of :func:`aletheia.analysis.controls_summary.summarise_controls`.
    style
        Of :func:`aletheia.report.plot_style.checked_style`.
    """
    several = len(summary["campaigns"]) > 1
    models = [
        (model["model"] + (f" ({campaign['name']})" if several else ""), model)
        for campaign in summary["campaigns"]
        for model in campaign["models"]
        if any(own["loss"]["mean"] is not None for own in model["arms"].values())
    ]
    if not models:
        return plot_style.empty(style, _TITLE, "No run ended well.")
    shown = models[:MAX_PANELS]
    timed = all(_points(model, True, (RANDOM,)) for _, model in shown)
    figure, axes = stacked(style, [named_points.rows(_named(model, timed), style) for _, model in shown])
    palette = sns.color_palette(style["palette"])
    colours = {SELECTOR: palette[0], CONTROL: palette[1], GIVEN: palette[2], ALL: palette[2]}
    for axis, (label, model) in zip(axes, shown, strict=True):
        _panel(axis, model, colours, timed=timed)
        axis.set_title(label + ("" if model["headline"] else MARK), loc="left")
    how = " and ".join(dict.fromkeys(model["clock"] for _, model in shown)) if timed else ""
    axes[-1].set_xlabel(f"Time of a run, arm / std ({how}; the probe counted)" if timed else "")
    keyed = {"by a score": palette[0], "controls": palette[1], "others": palette[2], "random draws": plot_style.MUTED}
    plot_style.key(figure, {text: (colour, True) for text, colour in keyed.items()})
    note = plot_style.fit_note(figure, _note(shown, further=len(models) - len(shown), timed=timed))
    plot_style.caption(figure, _TITLE, "Held-out loss of each way to choose layers; lower is better", note)
    for axis, (_, model) in zip(axes, shown, strict=True):
        points = _named(model, timed)
        if points:
            named_points.name(axis, points)
    return figure


def _note(shown: Sequence[tuple[str, Mapping[str, Any]]], *, further: int, timed: bool) -> str:
    """Return the small print, with what the figure leaves out."""
    untimed = [arm for _, model in shown if timed for arm in _without_time(model)]
    parts = [
        f"Line: {STD}, all layers. Bars: 95 % intervals over seeds, where an arm has several.",
        "Hollow: draws with the gradient's lowest layer." if any(_drawn_hollow(model) for _, model in shown) else "",
        f"{MARK} no part of the headline." if any(not model["headline"] for _, model in shown) else "",
        f"Left out, since their time is not known: {', '.join(untimed)}." if untimed else "",
        f"{further} further models: tableS2.csv." if further else "",
    ]
    return " ".join(filter(None, parts))


def _without_time(model: Mapping[str, Any]) -> list[str]:
    return [arm for arm, own in model["arms"].items() if own["loss"]["mean"] is not None and own["run_time"] is None]


def _drawn_hollow(model: Mapping[str, Any]) -> bool:
    return any(own["kind"] == SAME_LOWEST for own in model["arms"].values())


def _panel(axis: Axes, model: Mapping[str, Any], colours: Mapping[str, Any], *, timed: bool) -> None:
    for kind, filled in ((RANDOM, True), (SAME_LOWEST, False)):
        draws = [point for point in _points(model, timed, (kind,)) if point[1]["mean"] is not None]
        look = {"color": plot_style.MUTED, "markersize": 3.2, "alpha": 0.7, "zorder": 2, "linestyle": "none"}
        face = plot_style.MUTED if filled else "white"
        xs, ys = [x["mean"] for _, x, _ in draws], [y["mean"] for _, _, y in draws]
        axis.plot(xs, ys, "o", markerfacecolor=face, gid=kind, **look)
    for kind, colour in colours.items():
        named_points.plot(axis, _points(model, timed, (kind,)), colour)
    standard = model["arms"].get(STD, {}).get("loss", {}).get("mean")
    if standard is not None:
        axis.axhline(standard, color=plot_style.INK, linewidth=0.9, linestyle="--", zorder=1, gid=STD)
    axis.margins(0.08)
    if not timed:
        axis.set_xticks(range(len(_STRIP_NAMES)), _STRIP_NAMES)
        axis.set_xlim(-0.5, len(_STRIP_NAMES) - 0.5)
    axis.set_ylabel("Held-out loss (nats)")


def _named(model: Mapping[str, Any], timed: bool) -> list[named_points.Point]:
    return _points(model, timed, (SELECTOR, CONTROL, GIVEN, ALL))


def _points(model: Mapping[str, Any], timed: bool, kinds: tuple[str, ...]) -> list[named_points.Point]:
    """Return the arms of some kinds that have a loss and, where times are shown, a time."""
    found = []
    for arm, own in model["arms"].items():
        at = own["run_time"] if timed else _STRIPS.get(own["kind"])
        if own["kind"] in kinds and own["loss"]["mean"] is not None and at is not None:
            found.append((arm, {"mean": at, "low": None, "high": None}, own["loss"]))
    return found
