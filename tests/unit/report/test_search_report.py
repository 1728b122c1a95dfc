"""What the report of a search says: the verdict with its three ratios, every recipe, the path of the decision."""

import re

import pytest

from aletheia.analysis.search_summary import summarise_searches
from aletheia.report import plot_style
from aletheia.report.search_figure import search_figure
from aletheia.report.search_table import search_table
from aletheia.report.search_text import search_text
from searched_study import Searched, fitting


@pytest.fixture(scope="module")
def summary():
    rungs = Searched({"good": -0.04, "bad": 0.03}, costs={"good": 0.5, "good__paper": 0.5}).run()
    return fitting("search", summarise_searches({"small": rungs}))


def test_the_verdict_has_all_three_ratios_and_what_the_search_cost(summary):
    line = search_text(summary).splitlines()[2]
    for name, ratio in summary["models"][0]["decision"]["ratios"].items():
        assert re.search(rf"\({name}\) {ratio['value']:.2f} \[", line)
    assert f"{summary['models'][0]['decision']['spent']['total']:.0f} s by the measured costs" in line
    assert f"is repaid after {summary['models'][0]['decision']['repaid_after_runs']:.1f} later runs" in line


def test_every_recipe_has_a_row_that_says_what_became_of_it(summary):
    table = search_table(summary)
    told = dict(zip(table.display["Recipe"], table.display["What became of it"], strict=True))
    assert told["bad"].startswith("scan: dropped")
    assert told["good"].startswith("push: kept")
    assert told["good__paper"] == "a cell of the confirmation"
    assert len(table.numbers) == len(summary["models"][0]["rows"])


def test_a_search_that_found_nothing_is_told_too():
    rungs = Searched({"good": None, "bad": None}, std={"extras": {}}).run()
    summary = fitting("search", summarise_searches({"small": rungs}))
    text = search_text(summary)
    assert "No winner" in text
    assert "no run of it ended with a loss" in text
    assert "It saves nothing that would repay it." in text
    assert len(search_table(summary).display) == 3


def test_the_pareto_set_is_of_the_search_alone_and_no_run_beats_it(summary):
    (model,) = summary["models"]
    rows = {(row["arm"], row["seed"]): row for row in model["rows"]}
    best = [rows[each["arm"], each["seed"]] for each in model["pareto"]]
    assert [row["loss"] for row in best] == sorted((row["loss"] for row in best), reverse=True)
    assert {row["rung"] for row in best} <= {"floor", "scan", "full", "push"}


def test_the_figure_has_every_run_of_the_search_and_the_path(summary):
    figure = search_figure(summary, plot_style.checked_style({}))
    gids = [line.get_gid() for axis in figure.axes for line in axis.lines]
    (model,) = summary["models"]
    shown = [row for row in model["rows"] if row["rung"] in ("floor", "scan", "full", "push") and row["loss"]]
    assert len([gid for gid in gids if gid not in ("pareto", "path")]) == len(shown)
    assert {"pareto", "path"} <= set(gids)
    words = [text.get_text() for text in figure.axes[0].texts]
    assert {"std as the paper has it: std", "std tuned: std", "leader of full, leader of push: good"} <= set(words)


def test_without_any_run_the_figure_says_so():
    assert search_figure({"models": []}, plot_style.checked_style({})).axes
