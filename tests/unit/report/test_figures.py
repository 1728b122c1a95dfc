"""Figures: drawn for every shape of study, the same bytes each time, told what they show."""

import pytest

from aletheia.analysis.ledger import write_csv
from aletheia.errors import UserError
from aletheia.report import figures, plot_style
from aletheia.study import report_contents, schema
from ledgers import TEN_MODELS, TWO_MODELS, ledger_of, script
from reports import STYLE, draw, words

ONE = {"smollm2-135m": TWO_MODELS["smollm2-135m"]}


@pytest.mark.slow
@pytest.mark.parametrize("name", figures.FIGURES)
@pytest.mark.parametrize(
    ("models", "how"),
    [
        (TWO_MODELS, {}),
        (TEN_MODELS, {}),
        (ONE, {"seeds": (42,)}),
        (ONE, {"benchmarks": ("heldout",)}),
        (ONE, {"arms": ("std", "ale"), "benchmarks": ()}),
        (ONE, {"arms": ("ale",)}),
    ],
)
def test_every_figure_for_every_shape_of_study(name, models, how, tmp_path):
    figure = draw(name, ledger_of(models, **how))
    plot_style.save(figure, tmp_path / "x.png")
    assert (tmp_path / "x.png").stat().st_size > 2000


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
    assert script("stats.py", *table, "--stats-dir", tmp_path, "--tables-dir", tmp_path / "t").returncode == 0
    for out in ("a", "b"):
        done = script(
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
    assert script("stats.py", *table, "--stats-dir", tmp_path, "--tables-dir", tmp_path / "t").returncode == 0
    options = ("--stats", tmp_path / "summary.json", "--figure", "fig1", "--out-dir", tmp_path / "out")
    done = script("figures.py", *table, *options, "--set", "figures.palette=nope")
    assert done.returncode == 2
    assert done.stderr.strip().startswith("error: figures.palette 'nope'")
    assert not list((tmp_path / "out").glob("*.pdf"))


def test_reports_name_what_can_be_made():
    assert set(report_contents.figures_of(report_contents.REPORTS)) == set(figures.FIGURES)
    assert report_contents.figures_of(["compute_matched", "speed"]) == ["fig1", "fig3", "fig4", "fig5"]
    assert set(schema.schema("campaign")["properties"]["reports"]["items"]["enum"]) == set(report_contents.REPORTS)


def test_captions_exist_for_every_figure_and_table():
    from aletheia.provenance.lineage import ROOT

    further = ["tableS1", "figS4", "figS5", "arms", "curves"]
    for name in [*figures.FIGURES, *(f"table{n}" for n in range(1, 6)), *further]:
        assert (ROOT / "workflow" / "report" / f"{name}.rst").read_text().strip()
