"""Figures of many models can be read: no text covers another or leaves the page, and no legend hides data."""

import functools
import itertools

import matplotlib as mpl
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.legend import Legend
from matplotlib.text import Text

from aletheia.analysis.curves import curve_table
from aletheia.analysis.ledger import build_ledger
from aletheia.report import arm_figures, figures, named_points, plot_style
from ledgers import study
from reports import summarise

STYLE = dict(plot_style.STYLE)
SMALLEST_POINTS = 6
ARMS = ("std", "ale", "cm")
# Of the length that models' names have.
NAMES = (
    *("qwen2.5-0.5b-instruct", "qwen2.5-3b", "qwen2.5-7b", "qwen2.5-14b-instruct", "smollm2-135m", "smollm2-1.7b"),
    *("tinyllama-1.1b", "llama-3.2-3b-instruct", "mistral-7b-v0.3", "gemma-2-2b", "phi-3.5-mini-instruct"),
    *("pythia-1.4b", "gpt-neox-20b", "stablelm-2-1.6b"),
)
NUMBERS = (1, 3, 10, 14)
# The first that comes pays for its models' statistics.
pytestmark = pytest.mark.slow


@functools.cache
def inputs(number):
    """Return the ledger, the summary and the curves of ``number`` models, whose points lie near each other."""
    models = {
        name: {
            "family": name.split("-")[0].rstrip("0123456789."),
            "std": 900.0 * (i + 1),
            "ale": 900.0 * (i + 1) * (0.70 + 0.013 * (i * 5 % 14)),
            "headline": i != 4,
        }
        for i, name in enumerate(NAMES[:number])
    }
    # All panels at ten models; of other numbers, what figure 5 shows.
    arms, asked = (ARMS, ("gsm8k", "humaneval")) if number == 10 else (("std", "ale"), ())
    campaigns, runs, evaluations = study(models, arms=arms, benchmarks=("heldout", "mmlu", *asked))
    for (model, arm, _, benchmark), envelope in evaluations.items():
        if arm == "ale" and benchmark == "mmlu":
            i = NAMES.index(model)
            # Four values, of which each is that of several models.
            envelope["payload"]["score"] += 0.004 * (i * 3 % 4) - 0.006
            envelope["payload"]["n_correct"] = round(envelope["payload"]["score"] * 200)
    for (_, _, seed), envelope in runs.items():
        seconds = envelope["observed"]["time"]["training_seconds"]
        curve = [{"step": 20 * i, "heldout_loss": 3.0 - i / 2 + seed / 1e4} for i in range(3)]
        envelope["payload"]["curve"] = curve
        envelope["observed"]["curve_seconds"] = [0.0, seconds / 2, seconds]
    ledger = build_ledger(campaigns, runs, evaluations)
    return ledger, summarise(ledger), curve_table(campaigns, runs)


def plotted(name, number):
    """Return a figure as it is printed, with its renderer."""
    ledger, summary, curves = inputs(number)
    with mpl.rc_context(plot_style.rc(STYLE)):
        if name == "figS4":
            figure = arm_figures.frontier(summary, STYLE)
        elif name == "figS5":
            figure = arm_figures.loss_curves(curves, STYLE)
        else:
            figure = figures.FIGURES[name](ledger, summary, STYLE)
        renderer = FigureCanvasAgg(figure).get_renderer()
        figure.draw(renderer)
    return figure, renderer


def texts(figure, renderer):
    """Return each text that is printed, with its box; of an annotation without its line."""
    found = [*figure.texts]
    for axis in figure.axes:
        found += [*axis.texts, axis.xaxis.label, axis.yaxis.label, axis.title, axis._left_title]
        for ticks, limits in ((axis.xaxis, axis.get_xlim()), (axis.yaxis, axis.get_ylim())):
            low, high = sorted(limits)
            # Those beyond its ends are there, and not printed.
            found += [tick.label1 for tick in ticks.get_major_ticks() if low <= tick.get_loc() <= high]
    for legend in figure.findobj(Legend):
        found += legend.get_texts()
    shown = [text for text in found if text.get_visible() and text.get_text().strip()]
    return [(text, Text.get_window_extent(text, renderer)) for text in shown]


def overlap(a, b):
    """Return by how many pixels two boxes overlap, in the direction in which they do least."""
    return min(min(a.x1, b.x1) - max(a.x0, b.x0), min(a.y1, b.y1) - max(a.y0, b.y0))


@pytest.mark.parametrize(
    ("name", "number"),
    [*((name, 10) for name in [*figures.FIGURES, "figS4", "figS5"]), *(("fig5", number) for number in (1, 3, 14))],
)
def test_no_text_covers_another_or_leaves_the_page(name, number):
    figure, renderer = plotted(name, number)
    found = texts(figure, renderer)
    assert len(found) > 8
    covered = [
        (a.get_text(), b.get_text())
        for (a, box), (b, other) in itertools.combinations(found, 2)
        if overlap(box, other) > 1
    ]
    assert not covered
    page = figure.bbox
    cut = [
        text.get_text()
        for text, box in found
        if box.x0 < page.x0 or box.x1 > page.x1 or box.y0 < page.y0 or box.y1 > page.y1
    ]
    assert not cut
    assert min(text.get_fontsize() for text, _ in found) >= SMALLEST_POINTS
    for legend in figure.findobj(Legend):
        own = legend.get_window_extent(renderer)
        assert all(overlap(own, axis.get_window_extent(renderer)) <= 1 for axis in figure.axes), "a legend over data"
        others = [(text, box) for text, box in found if text not in legend.get_texts()]
        assert all(overlap(own, box) <= 1 for _, box in others), "a legend over text"


@pytest.mark.parametrize("number", NUMBERS)
def test_figure_5_names_each_model_once_and_beside_the_data(number):
    figure, renderer = plotted("fig5", number)
    (axis,) = figure.axes
    frame, found = axis.get_window_extent(renderer), texts(figure, renderer)
    for name in NAMES[:number]:
        ((text, box),) = [(text, box) for text, box in found if text.get_text().rstrip("†‡") == name]
        assert box.x0 > frame.x1
        # Its line leads to the model's own point.
        row = inputs(number)[0].query("model == @name")
        extra = row[row["arm"] == "ale"]["mmlu"].mean() - row[row["arm"] == "std"]["mmlu"].mean()
        assert text.xy[1] == pytest.approx(100 * extra)
        assert text.arrow_patch.get_visible()
    if number == 1:
        assert text.get_position()[1] == pytest.approx(
            axis.transAxes.inverted().transform(axis.transData.transform(text.xy))[1]
        )


def test_figure_5_grows_with_its_models():
    heights = {number: plotted("fig5", number)[0].get_figheight() for number in (1, 10, 14)}
    assert heights[1] <= heights[10] <= heights[14]
    with mpl.rc_context(plot_style.rc(STYLE)):
        assert named_points.rows([("m", {}, {})] * 40, STYLE) > named_points.rows([("m", {}, {})] * 14, STYLE)
