"""Figures: drawn for every shape of study, the same bytes each time, told what they show."""

import functools

import pytest

from aletheia.analysis.ledger import write_csv
from aletheia.errors import UserError
from aletheia.report import figures, plot_style
from aletheia.study import report_contents, schema
from conftest import run_script
from ledgers import TEN_MODELS, TWO_MODELS, ledger_of
from reports import STYLE, draw, words

ONE = {"smollm2-135m": TWO_MODELS["smollm2-135m"]}


# By shape of study: for each figure its panels, and the marks of a mean in each of them.
SHAPES = {
    "two models": (TWO_MODELS, {}, {"fig1": [4], "fig2": [4, 4], "fig3": [1], "fig4": [6, 6], "fig5": [2]}),
    # Ten models of four families, and their overall.
    "ten models": (TEN_MODELS, {}, {"fig1": [22], "fig2": [20, 20], "fig3": [4], "fig4": [30, 30], "fig5": [10]}),
    "one seed": (ONE, {"seeds": (42,)}, {"fig1": [2], "fig2": [2, 2], "fig3": [1], "fig4": [3, 3], "fig5": [1]}),
    "no questions": (
        ONE,
        {"benchmarks": ("heldout",)},
        {"fig1": [2], "fig2": [2], "fig3": [1], "fig4": [3], "fig5": [1]},
    ),
    "no evaluation": (
        ONE,
        {"arms": ("std", "ale"), "benchmarks": ()},
        {"fig1": [2], "fig2": None, "fig3": [1], "fig4": None, "fig5": [1]},
    ),
    "no pair": (ONE, {"arms": ("ale",)}, {"fig1": None, "fig2": [1, 1], "fig3": None, "fig4": None, "fig5": None}),
}
EMPTY = {
    "fig2": "No benchmark was measured on a base model and its fine-tuned runs.",
    "fig3": "No pair of runs of a headline model ended well.",
    "fig4": "No benchmark was measured on a base model and its fine-tuned runs.",
}


@functools.cache
def ledger_of_shape(shape):
    models, how, _ = SHAPES[shape]
    return ledger_of(models, **how)


def means(axis):
    """Return the marks of a mean: filled or open, a model's or the overall one."""
    return [line for line in axis.lines if line.get_marker() in ("o", "D")]


def assert_within(axis):
    """What is drawn at data's places lies within the limits of both axes."""
    for line in axis.lines:
        if line.get_transform() is axis.transData and len(line.get_xdata()):
            for values, limits in ((line.get_xdata(), axis.get_xlim()), (line.get_ydata(), axis.get_ylim())):
                assert min(limits) <= min(values) <= max(values) <= max(limits)


@pytest.mark.parametrize("name", figures.FIGURES)
@pytest.mark.parametrize("shape", [pytest.param(n, marks=[pytest.mark.slow] * (n == "ten models")) for n in SHAPES])
def test_every_figure_for_every_shape_of_study(name, shape):
    models, _, expected = SHAPES[shape]
    figure = draw(name, ledger_of_shape(shape))
    said = words(figure).replace("\n", " ")
    if expected[name] is None:
        assert EMPTY.get(name, figures.NOTHING) in said
        assert not any(axis.lines for axis in figure.axes)
        return
    assert [len(means(axis)) for axis in figure.axes] == expected[name]
    for axis in figure.axes:
        assert_within(axis)
        assert axis.get_xlabel()
    named = {law["family"] for law in models.values() if law.get("headline", True)} if name == "fig3" else models
    assert [each for each in named if each not in said] == []


def test_speedups_say_what_the_bars_and_n_are():
    said = words(draw("fig1", ledger_of()))
    assert "19.8 %" in said
    assert "n = 3 seeds" in said
    assert "95 % t-interval over seeds" in said
    assert "glasslm†" in said
    assert "no part of the overall" in said
    assert "Overall" not in said.split("|", 3)[-1]  # one headline model has no overall of its own
    assert "Overall, 10 models" in words(draw("fig1", ledger_of(TEN_MODELS)))


def test_one_seed_claims_no_interval():
    said = words(draw("fig1", ledger_of(ONE, seeds=(42,))))
    assert "no interval" in said
    assert "Bars" not in said


def test_benchmarks_name_questions_and_margin():
    said = words(draw("fig2", ledger_of()))
    assert "MMLU, 200 questions" in said
    assert "±2 points" in said


def test_without_mmlu_quality_is_the_held_out_loss():
    said = words(draw("fig5", ledger_of(benchmarks=("heldout",))))
    assert "nats" in said
    assert "no MMLU" in said


def test_without_pairs_the_figure_says_so():
    assert figures.NOTHING in words(draw("fig1", ledger_of(arms=("ale",))))


@pytest.mark.slow
def test_scripts_draw_the_same_bytes_twice(tmp_path):
    ledger = ledger_of()
    write_csv(ledger, tmp_path / "ledger.csv")
    table = ("--ledger", tmp_path / "ledger.csv")
    assert run_script("stats.py", *table, "--stats-dir", tmp_path, "--tables-dir", tmp_path / "t").returncode == 0
    for out in ("a", "b"):
        done = run_script(
            "figures.py",
            *table,
            "--stats",
            tmp_path / "summary.json",
            "--figure",
            "fig1",
            "fig5",
            "--out-dir",
            tmp_path / out,
            "--lineage",
            'config:figures={"width_inches":5.0,"dots_per_inch":100}',
        )
        assert done.returncode == 0, done.stderr
    names = sorted(p.name for p in (tmp_path / "a").iterdir() if p.suffix != ".json")
    assert names == [f"fig{n}.{suffix}" for n in (1, 5) for suffix in ("pdf", "png", "svg")]
    for name in names:
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes(), name
        assert (tmp_path / "a" / f"{name}.lineage.json").is_file()


def test_an_interval_without_width_is_a_cap_with_its_mark():
    _, (axis,) = plot_style.canvas(STYLE, 2)
    drawn = {}
    for name, low, high in (("none", None, None), ("cap", 0.3, 0.3 + 1e-16), ("bar", 0.2, 0.4)):
        before = len(axis.lines)
        plot_style.mark(axis, {"mean": 0.3, "low": low, "high": high}, 1.0, "black")
        drawn[name] = [(line.get_marker(), len(line.get_xdata())) for line in axis.lines[before:]]
    assert drawn == {"none": [("o", 1)], "cap": [("|", 1), ("o", 1)], "bar": [("None", 2), ("o", 1)]}
    cap, point = axis.lines[1:3]
    assert cap.get_markersize() > point.get_markersize()
    assert (list(cap.get_xdata()), list(cap.get_ydata())) == ([0.3], [1.0])


def test_caps_are_explained_where_there_are_some():
    assert figures.CAPS not in words(draw("fig2", ledger_of(ONE)))
    said = words(draw("fig2", ledger_of(ONE).assign(mmlu=0.41)))
    assert figures.CAPS in said.replace("\n", " ")


@pytest.mark.parametrize("palette", ["nope", "light:nope", "ch:turns=2", ""])
def test_an_unknown_palette_is_said_in_one_sentence(palette):
    with pytest.raises(UserError, match=r"figures\.palette .*: expected the name of a seaborn palette") as caught:
        plot_style.checked_style({"palette": palette})
    assert repr(palette) in str(caught.value)


def test_the_style_is_the_default_with_the_study_s_changes():
    assert plot_style.checked_style({"palette": "Set2"}) == {**plot_style.STYLE, "palette": "Set2"}


@pytest.mark.slow
def test_the_script_ends_with_the_palette_s_sentence(tmp_path):
    write_csv(ledger_of(), tmp_path / "ledger.csv")
    table = ("--ledger", tmp_path / "ledger.csv")
    assert run_script("stats.py", *table, "--stats-dir", tmp_path, "--tables-dir", tmp_path / "t").returncode == 0
    options = ("--stats", tmp_path / "summary.json", "--figure", "fig1", "--out-dir", tmp_path / "out")
    done = run_script("figures.py", *table, *options, "--set", "figures.palette=nope")
    assert done.returncode == 2
    assert done.stderr.strip().startswith("error: figures.palette 'nope'")
    assert not list((tmp_path / "out").glob("*.pdf"))


def test_reports_name_what_can_be_made():
    assert set(report_contents.figures_of(report_contents.REPORTS)) == set(figures.FIGURES)
    assert report_contents.figures_of(["compute_matched", "speed"]) == ["fig1", "fig3", "fig4", "fig5"]
    assert set(schema.schema("campaign")["properties"]["reports"]["items"]["enum"]) == set(report_contents.REPORTS)


def test_captions_exist_for_every_figure_and_table():
    from aletheia.provenance.lineage import ROOT

    further = ["tableS1", "tableS2", "figS4", "figS5", "figS6", "CONTROLS", "arms", "curves"]
    for name in [*figures.FIGURES, *(f"table{n}" for n in range(1, 6)), *further]:
        assert (ROOT / "workflow" / "report" / f"{name}.rst").read_text().strip()
