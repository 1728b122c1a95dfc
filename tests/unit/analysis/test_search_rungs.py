"""A search from its runs to its decision: what each rung asks of the next, what it costs, and what comes out."""

import pytest
import yaml

from aletheia.analysis.search_summary import summarise_searches
from aletheia.report.search_recipe import recipe_text
from aletheia.search.equal_time import step_cost
from aletheia.timing.equal_time import ratio_in_turns
from aletheia.timing.in_turns import step_seconds_by_round
from searched_study import Searched


@pytest.fixture(scope="module")
def won():
    """A search in which ``good`` is better than tuned std, by more than the noise."""
    return Searched({"good": -0.04, "bad": 0.03}, costs={"good": 0.5, "good__paper": 0.5}).run()


def test_a_better_recipe_is_kept_confirmed_and_recommended(won):
    assert [verdict["recipe"] for verdict in won["scan"]["kept"]] == ["good", "std_extras"]
    assert {verdict["recipe"] for verdict in won["scan"]["dropped"]} == {"bad"}
    assert won["decision"]["decision"]["better_than_std"]
    assert won["decision"]["recommended"]["recipe"].startswith("good")
    assert won["decision"]["ratios"]["b"]["value"] > 1


def test_what_a_rung_asks_is_declared_and_at_the_best_rates(won):
    full = {(each["recipe"], each["rate"]) for each in won["scan"]["asked"]}
    assert {("std", 1e-3), ("std_extras", 1e-3), ("good", 1e-3)} <= full
    assert not any(recipe == "bad" for recipe, _ in full)
    seeds = {each["seed"] for each in won["push"]["asked"]}
    assert seeds == {101, 102, 103, 104, 105, 106}
    assert {cell["name"] for cell in won["push"]["cells"]} >= {"std", "winner", "choice alone", "shape alone"}


def test_seconds_are_steps_times_the_measured_costs(won):
    (row,) = (row for row in won["scan"]["rows"] if (row["recipe"], row["rate"]) == ("good", 1e-3))
    assert row["steps"] == 48
    cost = won["cost"]["costs"]["good"]["cost"]["value"]
    assert row["seconds"] == pytest.approx(48 * cost * won["cost"]["std_seconds"])
    spent = won["decision"]["spent"]
    assert spent["runs"] == sum(len(won[rung]["rows"]) for rung in ("floor", "scan", "full", "push"))
    assert spent["total"] == pytest.approx(spent["seconds"] + spent["measuring"])


def test_a_trial_takes_as_many_steps_as_the_cost_of_its_recipe_says(won, tmp_path):
    """The steps of training and the seconds of the decisions follow from one and the same measurement."""
    pair = Searched({"good": -0.04, "bad": 0.03}, costs={"good": 0.5})._pair("good")
    own, std = step_seconds_by_round(pair)
    assert ratio_of(pair, tmp_path) == pytest.approx(1 / step_cost(own, std).value)


def ratio_of(pair, folder):
    from aletheia.provenance.artifacts import Artifact

    artifact = Artifact(folder / "pair.json", "", {"schema": "paired", "payload": pair, "observed": {}})
    return ratio_in_turns(artifact).value


def test_a_search_is_repaid_by_the_seconds_that_each_later_run_saves(won):
    decision = won["decision"]
    std = max(row["seconds"] for row in won["factorial"]["rows"] if row["recipe"] == "std")
    saved = std * (1 - 1 / decision["ratios"]["b"]["value"])
    assert decision["repaid_after_runs"] == pytest.approx(decision["spent"]["total"] / saved)


def test_a_search_without_a_better_recipe_has_no_winner_and_recommends_tuned_std():
    rungs = Searched({"good": 0.02, "bad": 0.03}, std={"extras": {}}).run()
    assert rungs["decision"]["decision"]["winner"] is None
    assert rungs["decision"]["recommended"]["recipe"] == "std"
    assert rungs["decision"]["repaid_after_runs"] is None
    text = recipe_text(rungs["decision"])
    assert "There is no winner: this is std at its own best rate." in text
    assert yaml.safe_load(text)["learning_rate"] == 1e-3


def test_runs_that_all_fail_are_rows_and_end_in_no_winner():
    rungs = Searched({"good": None, "bad": None}, std={"extras": {}}).run()
    assert {row["status"] for row in rungs["scan"]["rows"] if row["recipe"] != "std"} == {"diverged"}
    assert rungs["scan"]["kept"] == []
    assert rungs["push"]["asked"] == []
    decision = rungs["decision"]
    assert decision["decision"]["winner"] is None
    assert decision["recommended"] is None
    assert yaml.safe_load(recipe_text(decision)) == {"layers": "all"}
    summarise_searches({"small": rungs})


def test_a_budget_takes_the_last_wishes_and_says_which():
    rungs = Searched({"good": -0.04, "bad": 0.03}, budget={"runs": 14}).run()
    assert len(rungs["scan"]["asked"]) == 3
    assert rungs["scan"]["spent"]["left"] == 3
    assert rungs["scan"]["beyond_budget"]
    assert rungs["decision"]["spent"]["runs"] <= 14


def test_a_budget_of_seconds_is_spent_by_the_measured_costs():
    few = Searched({"good": -0.04, "bad": 0.03}, budget={"seconds": 1300.0}).run()
    spent = few["scan"]["spent"]
    assert spent["left"] == pytest.approx(1300 - spent["total"])
    assert len(few["scan"]["asked"]) == int(spent["left"] // (64 * few["cost"]["std_seconds"]))


def test_a_recipe_over_the_bound_of_retention_is_not_recommended():
    gaps = {"good": -0.04, "bad": 0.03}
    rungs = Searched(gaps, retention={"good": 0.5, "bad": 0.0}, retention_bound=0.1).run()
    (over,) = (verdict for verdict in rungs["full"]["dropped"] if verdict["recipe"] == "good")
    assert over["outcome"] == "over the bound"


def test_the_recipe_is_an_arm_that_names_its_adapter(won):
    text = recipe_text(won["decision"])
    keys = yaml.safe_load(text)
    assert keys["layers"] == "last"
    assert keys["learning_rate"] == 1e-3
    assert keys["steps"] == won["decision"]["recommended"]["keys"]["steps"]
    assert f"seed{won['decision']['recommended']['seed']}/adapter" in text
    assert all(len(line) <= 120 for line in text.splitlines())
