"""Figures 1 to 5 of the study, from the ledger's pairs and the statistics alone."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from aletheia.analysis.benchmarks import TITLES, measured_by
from aletheia.analysis.pairs import pairs, reporting
from aletheia.analysis.stats import estimate
from aletheia.report import named_points, plot_style
from aletheia.report.table_text import MARK, marks_of, notes_on, number
from aletheia.study.benchmarks import HELDOUT, QUESTION_BENCHMARKS

SPEEDUP = r"Speedup, 100·(1 − $t_\mathrm{ale}$ / $t_\mathrm{std}$) (%)"
NOTHING = "No pair of runs ended well."
CAPS = "Upright caps: all seeds gave one value, so the interval has no width."
OUTSIDE = f"{MARK} no part of the overall speedup."
Summary = Mapping[str, Any]
Style = Mapping[str, Any]


def _models(summary: Summary, report: str) -> list[tuple[str, str, dict[str, Any]]]:
    """Return (label, campaign, model) of the campaigns that make ``report``."""
    campaigns = [c for c in summary["campaigns"] if report in c["reports"]]
    return [
        (
            model["model"] + ("" if model["headline"] else MARK) + (f" ({c['name']})" if len(campaigns) > 1 else ""),
            c["name"],
            model,
        )
        for c in campaigns
        for model in c["models"]
    ]


def _counts(values: list[int]) -> str:
    """Return "3", or "2 to 3" where the counts differ."""
    low, high = min(values), max(values)
    return f"{low}" if low == high else f"{low} to {high}"


def _seeds(values: list[int]) -> str:
    return f"n = {_counts(values)} seed{'' if max(values) == 1 else 's'} a model"


def _over_seeds(values: list[int]) -> str:
    """Return the note on the bars, or that one value has none."""
    return "Bars: 95 % t-interval over seeds" if max(values) > 1 else "One seed a model, so no interval"


def _marked(rows: list[tuple[str, str, dict[str, Any]]], note: str) -> str:
    return f"{note} {OUTSIDE}" if any(not model["headline"] for _, _, model in rows) else note


def _of(frame: pd.DataFrame, campaign: str, model: str) -> pd.DataFrame:
    return frame[(frame["campaign"] == campaign) & (frame["model"] == model)]


def _percent_label(axis: Axes, value: dict[str, Any], y: float) -> None:
    """Write the mean just right of its interval and marks."""
    right = value["mean"] if value["high"] is None else value["high"]
    axis.annotate(
        f"{number(value['mean'], 1)} %",
        (right, y),
        xytext=(7, 0),
        textcoords="offset points",
        va="center",
        fontsize="small",
    )


def speedups(ledger: pd.DataFrame, summary: Summary, style: Style) -> Figure:
    """Figure 1: each model's speedup, the probe left out and counted in, and the headline models' overall."""
    title = "Training speedup of Aletheia over standard LoRA"
    rows = [r for r in _models(summary, "speed") if r[2]["speed"] and r[2]["speed"]["speedup_percent"]["n"]]
    if not rows:
        return plot_style.empty(style, title, NOTHING)
    rows.sort(key=lambda row: -row[2]["speed"]["speedup_percent"]["mean"])
    frame, colour = pairs(reporting(ledger, "speed")), plot_style.colours(style, ["ale"])["ale"]
    blocks = [(label, model["speed"], _of(frame, campaign, model["model"])) for label, campaign, model in rows]
    overall = [
        (f"Overall, {c['overall']['models']['speedup_percent']['n']} models", c["overall"]["models"])
        for c in summary["campaigns"]
        if c["overall"] and c["overall"]["models"]["speedup_percent"]["n"] > 1
    ]
    figure, (axis,) = plot_style.canvas(style, len(blocks) + len(overall) + 0.3)
    for y, (_, speed, own) in enumerate(blocks):
        shown = own.dropna(subset=["speedup_percent"])
        # A speedup in turns does not depend on whether the machine was busy during the runs.
        crossed = shown["busy"] & ("turns" not in speed)
        plot_style.ticks(axis, shown["speedup_percent"][~crossed], y - 0.14, colour)
        plot_style.ticks(axis, shown["speedup_percent"][crossed], y - 0.14, colour, shape="x")
        if "turns" in speed:
            plot_style.band(axis, speed["turns"]["same_speedup_percent"], y)
        plot_style.mark(axis, speed["speedup_percent"], y - 0.14, colour)
        plot_style.mark(axis, speed["speedup_with_probe_percent"], y + 0.2, colour, filled=False)
        _percent_label(axis, speed["speedup_percent"], y - 0.14)
    for y, (_, block) in enumerate(overall, len(blocks)):
        axis.axhline(y - 0.5, color=plot_style.FAINT, linewidth=0.8)
        plot_style.mark(axis, block["speedup_percent"], y - 0.14, plot_style.INK, shape="D")
        plot_style.mark(axis, block["speedup_with_probe_percent"], y + 0.2, plot_style.INK, filled=False, shape="D")
        _percent_label(axis, block["speedup_percent"], y - 0.14)
    plot_style.fit_labels(figure, [axis], [label for label, *_ in blocks] + [label for label, _ in overall])
    _room(axis, from_zero=True)
    axis.set_xlabel(SPEEDUP)
    every = [block for _, block, _ in blocks]
    plot_style.key(figure, {"training": (colour, True), "with the probe": (colour, False)})
    counts = [block["speedup_percent"]["n"] for block in every]
    busy = sum(block["busy"] for block in every if "turns" not in block)
    note = f"{_bars_over(every)}{'; overall: over models' if overall else ''}. Ticks: single pairs."
    note += " Grey band: std against std." if any("turns" in block for block in every) else ""
    note += f" Crosses: {busy} of {sum(counts)} pairs, timed on a busy machine." if busy else ""
    plot_style.caption(figure, title, f"{_timed(every)}, paired by seed, {_seeds(counts)}", _marked(rows, note))
    return figure


def _timed(blocks: list[dict[str, Any]]) -> str:
    """Return the phrase on how the speedups of some models were measured."""
    kinds = {"turns" in block for block in blocks}
    if kinds == {True}:
        return "Runs' times by steps taken in turns"
    return "Wall-clock of equal steps" + (", or taken in turns beside a grey band" if True in kinds else "")


def _bars_over(blocks: list[dict[str, Any]]) -> str:
    """Return the note on the bars of speedups; of one seed in turns they are over rounds."""
    counts = [block["speedup_percent"]["n"] for block in blocks]
    if not any(block.get("turns", {}).get("interval") == "rounds" for block in blocks):
        return _over_seeds(counts)
    bootstrap = "95 % bootstrap over rounds"
    return f"Bars: 95 % t-interval over seeds, of one seed {bootstrap}" if max(counts) > 1 else f"Bars: {bootstrap}"


def _room(axis: Axes, *, from_zero: bool = False) -> None:
    """Plot the line of no difference, and leave room for the labels to the right."""
    low, high = axis.get_xlim()
    if from_zero:
        low, high = min(low, 0.0), max(high, 0.0)
    axis.set_xlim(low, high + 0.09 * (high - low))
    plot_style.zero_line(axis)


def _benchmarks(rows: list[tuple[str, str, dict[str, Any]]], arms: tuple[str, ...]) -> list[str]:
    """Return the question benchmarks that some arm has, else the held-out loss if some arm has it."""
    measured = {
        name
        for _, _, model in rows
        for arm in arms
        for name, score in model["arms"].get(arm, {"benchmarks": {}})["benchmarks"].items()
        if score["delta"]["n"]
    }
    questions = [name for name in QUESTION_BENCHMARKS if name in measured]
    return questions or [name for name in (HELDOUT,) if name in measured]


def _deltas(
    rows: list, arms: tuple[str, ...], names: Mapping[str, str], title: str, style: Style, *, margin: float
) -> Figure:
    """Plot fine-tuned − base for each model (rows), benchmark (panels) and arm (colours)."""
    benchmarks = _benchmarks(rows, arms)
    rows = [row for row in rows if set(benchmarks) & set(_benchmarks([row], arms))]
    if not rows:
        return plot_style.empty(style, title, "No benchmark was measured on a base model and its fine-tuned runs.")
    colours = plot_style.colours(style, arms)
    figure, axes = plot_style.canvas(
        style, len(rows) * (1.3 if len(arms) > 2 else 1.1) + 0.3, len(benchmarks), titled=True
    )
    plotted, titles, labels = [], [], []
    for axis, benchmark in zip(axes, benchmarks, strict=True):
        questions = set()
        for y, (_, _, model) in enumerate(rows):
            for i, arm in enumerate(arms):
                score = model["arms"].get(arm, {"benchmarks": {}})["benchmarks"].get(benchmark)
                if score and score["delta"]["n"]:
                    height = y + (i - (len(arms) - 1) / 2) * 0.24
                    plot_style.mark(axis, score["delta"], height, colours[arm])
                    if marks := marks_of(score):
                        plot_style.flag(axis, score["delta"], height, marks)
                    plotted.append(score)
                    questions.add(score["questions"])
        _, unit, _ = measured_by(benchmark)
        unit_of_n = "rows" if benchmark == HELDOUT else "questions"
        titles.append((TITLES[benchmark], f", {_counts(sorted(questions))} {unit_of_n}"))
        labels.append(f"Fine-tuned − base ({unit})")
        if unit == "pp":
            axis.axvspan(-margin, margin, color=plot_style.BAND, linewidth=0, zorder=0)
        _room(axis)
    plot_style.fit_labels(figure, axes, [label for label, *_ in rows])
    plot_style.name_panels(axes, titles, labels)
    plot_style.key(figure, {names[arm]: (colours[arm], True) for arm in arms})
    seeds = [score["delta"]["n"] for score in plotted]
    note = f"{_over_seeds(seeds)}, on the same questions (drawing others would add to it)."
    note += f" Grey band: ±{margin:g} points." if benchmarks != [HELDOUT] else ""
    note += f" {CAPS}" if any(plot_style.has_no_width(score["delta"]) for score in plotted) else ""
    note += notes_on(map(marks_of, plotted))
    subtitle = f"Change against the base model, mean of {_seeds(seeds)}"
    plot_style.caption(figure, title, subtitle, plot_style.fit_note(figure, note))
    return figure


def benchmark_deltas(ledger: pd.DataFrame, summary: Summary, style: Style) -> Figure:
    """Figure 2: benchmark deltas of std and ale, by model and benchmark."""
    names, margin = {"std": "Standard LoRA", "ale": "Aletheia"}, summary["plan"]["margins"]["verdict_points"]
    rows = _models(summary, "downstream")
    return _deltas(rows, ("std", "ale"), names, "Benchmarks after fine-tuning", style, margin=margin)


def compute_matched_deltas(ledger: pd.DataFrame, summary: Summary, style: Style) -> Figure:
    """Figure 4: benchmark deltas of std, ale and cm, for the models that have cm."""
    names = {"std": "Standard", "ale": "Aletheia", "cm": "compute-matched"}
    rows = [row for row in _models(summary, "compute_matched") if "cm" in row[2]["arms"]]
    margin = summary["plan"]["margins"]["verdict_points"]
    return _deltas(rows, ("std", "ale", "cm"), names, "Compute-matched Aletheia", style, margin=margin)


def families(ledger: pd.DataFrame, summary: Summary, style: Style) -> Figure:
    """Figure 3: speedup by architecture family, of the headline models; of a family with one model, over its seeds."""
    title = "Training speedup by architecture family"
    with_speedup = [f for c in summary["campaigns"] for f in c["families"] if f["speedup_percent"]["n"]]
    if not with_speedup:
        return plot_style.empty(style, title, "No pair of runs of a headline model ended well.")
    with_speedup.sort(key=lambda family: -family["speedup_percent"]["mean"])
    colour = plot_style.colours(style, ["ale"])["ale"]
    figure, (axis,) = plot_style.canvas(style, len(with_speedup) * 1.15 + 0.3)
    labels = []
    for y, family in enumerate(with_speedup):
        plot_style.mark(axis, family["speedup_percent"], y, colour, filled=family["unit"] == "models")
        _percent_label(axis, family["speedup_percent"], y)
        n = family["speedup_percent"]["n"]
        count = f"{n} models" if family["unit"] == "models" else f"1 model, {n} seed{'' if n == 1 else 's'}"
        labels.append(f"{family['family']}\n{count}")
    plot_style.fit_labels(figure, [axis], labels)
    _room(axis, from_zero=True)
    axis.set_xlabel(SPEEDUP)
    note = "Headline models. Bars: 95 % t-interval; filled: over the family's models; open: one model, over its seeds."
    timed = _timed([m["speed"] for c in summary["campaigns"] if c["families"] for m in c["models"] if m["speed"]])
    plot_style.caption(figure, title, f"{timed}, the probe left out", note)
    return figure


def speed_quality(ledger: pd.DataFrame, summary: Summary, style: Style) -> Figure:
    """Figure 5: speedup against extra MMLU forgetting; without MMLU, against the extra held-out loss."""
    title, margin = "Speed against quality", summary["plan"]["margins"]["verdict_points"]
    frame, rows = pairs(reporting(ledger, "speed")), _models(summary, "speed")
    asked = bool(frame["mmlu_extra_pp"].notna().any())
    points = _trade_offs(frame, rows, "mmlu_extra_pp" if asked else "eval_loss_difference")
    if not points:
        return plot_style.empty(style, title, NOTHING)
    figure, (axis,) = plot_style.canvas(style, named_points.rows(points, style))
    axis.grid(axis="y", color=plot_style.FAINT, linewidth=0.8)
    if asked:
        axis.axhspan(-margin, margin, color=plot_style.BAND, linewidth=0, zorder=0)
    axis.axhline(0, color=plot_style.MUTED, linewidth=0.9, zorder=1)
    axis.margins(x=0.04, y=0.08)
    named_points.plot(axis, points, plot_style.colours(style, ["ale"])["ale"])
    axis.set_xlabel(SPEEDUP)
    axis.set_ylabel("Extra MMLU, ale − std (pp)" if asked else "Held-out loss, ale − std (nats)")
    figure.subplots_adjust(left=0.75 / style["width_inches"])
    if asked:
        tests = [model["extra"].get("ale", {}).get("mmlu") for *_, model in rows]
        telling = any(test and test["base_above_floor"] and not test["implausible_base"] for test in tests)
        nothing = "MMLU of every base model at the floor" + " or implausible" * any(
            t and t["implausible_base"] for t in tests
        )
        worse = "below 0: more forgetting than standard" if telling else nothing
    else:
        worse = "above 0: worse than standard; no MMLU in this study"
    seeds = [extra["n"] for _, _, extra in points]
    note = f"{_over_seeds(seeds)}, paired by seed."
    note += f" Grey band: ±{margin:g} points." if asked else ""
    note += " Speed taken in turns." if any("turns" in (model["speed"] or {}) for *_, model in rows) else ""
    note += f" {OUTSIDE}" if any(MARK in label for label, *_ in points) else ""
    note += notes_on(label for label, *_ in points)
    note = plot_style.fit_note(figure, note)
    plot_style.caption(figure, title, f"One point a model, {_seeds(seeds)}; {worse}", note)
    named_points.name(axis, points)
    return figure


def _trade_offs(
    frame: pd.DataFrame, rows: list[tuple[str, str, dict[str, Any]]], quality: str
) -> list[named_points.Point]:
    """Return the models that have both, with their speedup (%) and the mean over pairs of the column ``quality``."""
    points = []
    for label, campaign, model in rows:
        if not model["speed"]:
            continue
        test = model["extra"].get("ale", {}).get("mmlu") if quality == "mmlu_extra_pp" else None
        extra = estimate(_of(frame, campaign, model["model"])[quality])
        points.append((label + marks_of(test), model["speed"]["speedup_percent"], extra))
    return [point for point in points if point[1]["n"] and point[2]["n"]]


# The function of each figure; aletheia.study.report_contents says which a study has.
FIGURES = {
    "fig1": speedups,
    "fig2": benchmark_deltas,
    "fig3": families,
    "fig4": compute_matched_deltas,
    "fig5": speed_quality,
}
