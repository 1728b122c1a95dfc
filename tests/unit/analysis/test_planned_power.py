"""What a campaign will be able to tell: from its own counts, on the cautious side, with what it would take instead."""

import copy
import math
from dataclasses import replace

import pytest
from scipy import stats

from aletheia.analysis.plan import load_plan
from aletheia.analysis.planned_power import planned_power
from aletheia.analysis.power_sentences import amount, amounts, assumptions, percents, sentence
from aletheia.errors import UserError
from aletheia.study.load import load_study
from aletheia.study.schema import read_yaml
from conftest import ROOT

STATED = """
margins: {points: [0.5, 1, 2], verdict_points: 2, nats: 0.01, time_percent: 5}
families: {primary: [time, heldout_loss, mmlu], false_discovery_rate: 0.05}
power:
  wanted: 0.8
  assumed:
    {seed_sd_points: 1.0, model_sd_points: 0.5, discordance: 0.10, seed_sd_nats: 0.005, model_sd_nats: 0.01,
     seed_sd_log_time: 0.05, model_sd_log_time: 0.05}
priors: {tau_over_margin: 1.0}
bootstrap: {draws: 2000, seed: 1}
"""


@pytest.fixture
def plan(tmp_path):
    (tmp_path / "analysis.yaml").write_text(STATED)
    return load_plan(tmp_path / "analysis.yaml")


@pytest.fixture(scope="module")
def studies():
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(ROOT)
        return {name: load_study(read_yaml(ROOT / f"config/{name}.yaml")) for name in ("paper", "config")}


@pytest.fixture
def paper(studies):
    return copy.deepcopy(studies["paper"])


@pytest.fixture
def default(studies):
    return copy.deepcopy(studies["config"])


def rows(study, plan, *, campaign):
    """By arms and measure."""
    return {(told.arms, told.measure): told for told in planned_power(study, plan) if told.campaign == campaign}


def of(study, plan, campaign, measure="mmlu", arms=("ale",)):
    return rows(study, plan, campaign=campaign)[arms, measure]


def with_assumed(plan, **changes):
    return replace(plan, power=replace(plan.power, assumed=replace(plan.power.assumed, **changes)))


def test_counts_are_the_campaigns(paper, plan):
    counts = {
        (told.campaign, told.arms, told.measure): (told.models, told.seeds, told.questions)
        for told in planned_power(paper, plan)
    }
    assert counts["campaign1", ("ale",), "time"] == (10, 3, None)
    assert counts["campaign1", ("ale",), "mmlu"] == (10, 3, 200)
    assert counts["campaign2", ("ale",), "humaneval"] == (7, 3, 164)
    assert counts["campaign2", ("cm",), "gsm8k"] == (3, 3, 200)
    assert counts["closeout", ("budget25", "budget75"), "heldout_loss"] == (1, 3, None)
    assert len(counts) == 26


def test_a_mean_over_models_has_the_standard_error_of_the_formula(paper, plan):
    """Through the detectable effect: close to (t(0.975) + t(0.8))·SE where degrees of freedom are many."""
    told = of(paper, plan, "campaign1")
    question = 100**2 * 0.10 / 200
    quantiles = stats.t.isf(0.025, 9) + stats.t.isf(0.2, 9)
    own = (0.5**2 + 1.0**2 / 3) / 10
    assert told.detectable == pytest.approx(quantiles * math.sqrt(own + question), rel=0.002)
    assert told.detectable_at_best == pytest.approx(quantiles * math.sqrt(own + question / 10), rel=0.002)
    time = of(paper, plan, "campaign1", "time")
    assert time.margin == pytest.approx(math.log(1.05))
    assert time.detectable == pytest.approx(quantiles * math.sqrt((0.05**2 + 0.05**2 / 3) / 10), rel=0.002)


def test_the_cautious_side_is_never_the_better_one(paper, plan):
    for told in planned_power(paper, plan):
        assert told.power <= told.power_at_best
        assert told.detectable >= told.detectable_at_best
        if told.models < 3 or not told.questions:
            assert told.power == told.power_at_best


def test_as_many_questions_as_are_needed_suffice(paper, plan):
    told = of(paper, plan, "campaign1")
    assert told.power < told.power_at_best < 0.8
    paper.data["mmlu-200"]["rows"] = told.questions_needed
    enough = of(paper, plan, "campaign1")
    assert enough.power >= 0.8
    assert enough.questions_needed is None
    assert sentence(enough, 0.8) is None
    paper.data["mmlu-200"]["rows"] = told.questions_needed_at_best
    at_best = of(paper, plan, "campaign1")
    assert at_best.power < 0.8 <= at_best.power_at_best
    assert sentence(at_best, 0.8).startswith(
        "campaign1 (ale) shows equivalence within ±2 points on MMLU only where models change on questions of their own"
    )


def test_as_many_seeds_as_are_needed_suffice(paper, plan):
    plan = with_assumed(plan, model_sd_nats=0.005, seed_sd_nats=0.02)
    told = of(paper, plan, "campaign1", "heldout_loss")
    assert told.power < 0.8
    paper.campaigns[0]["seeds"] = list(range(told.seeds_needed_at_best))
    # The runs of new seeds are the old ones': only their number counts here.
    for (model, arm, _), run in list(paper.runs.items()):
        paper.runs |= {(model, arm, seed): run for seed in paper.campaigns[0]["seeds"]}
    assert of(paper, plan, "campaign1", "heldout_loss").power >= 0.8


def test_the_model_that_is_asked_least_rules(paper, plan):
    before = of(paper, plan, "campaign1")
    name = paper.shared["qwen2.5-7b"]["evaluation"]["mmlu"]["questions"]
    paper.data["fewer"] = {**paper.data[name], "rows": 50}
    paper.shared["qwen2.5-7b"] = copy.deepcopy(paper.shared["qwen2.5-7b"])
    paper.shared["qwen2.5-7b"]["evaluation"]["mmlu"]["questions"] = "fewer"
    after = of(paper, plan, "campaign1")
    assert (before.questions, after.questions) == (200, 50)
    assert after.detectable == pytest.approx(2 * before.detectable, rel=0.02)


def test_models_that_are_no_headline_do_not_count(paper, plan):
    campaign = paper.campaigns[0]
    campaign["overrides"]["qwen2.5-0.5b"] = {"headline": False}
    assert of(paper, plan, "campaign1").models == 9
    campaign["headline"] = False
    campaign["overrides"] = {}
    assert rows(paper, plan, campaign="campaign1") == {}


def test_two_models_are_told_one_by_one(paper, plan):
    single = of(paper, plan, "closeout", arms=("budget25", "budget75"))
    closeout = next(campaign for campaign in paper.campaigns if campaign["name"] == "closeout")
    for model in closeout["models"][2:]:
        closeout["overrides"][model] = {"headline": False}
    pair = of(paper, plan, "closeout")
    assert (single.models, pair.models) == (1, 2)
    assert (pair.power, pair.detectable) == (single.power, single.detectable)
    assert "on MMLU for any one model: power 0 %" in sentence(pair, 0.8)
    assert pair.models_needed_at_best is None


def test_an_arm_has_the_measures_that_it_is_asked(default, plan):
    found = rows(default, plan, campaign="default")
    every = ("ale", "cm", "last50", "random50")
    assert set(found) == {
        (every, "time"), (every, "heldout_loss"), (("ale",), "mmlu"), (("ale",), "piqa"), (every, "retention_loss")
    }  # fmt: skip


def test_time_in_turns_has_the_seeds_that_are_timed(default, plan):
    arms = ("ale", "cm", "last50", "random50")
    told = of(default, plan, "default", "time", arms)
    assert (told.models, told.seeds, told.power, told.detectable) == (1, 1, None, None)
    assert sentence(told, 0.8) == (
        "default (ale, cm, last50, random50) says nothing of seeds to come on time: one seed of one model shows no "
        "spread."
    )
    default.campaigns[0]["interleaving"]["seeds"] = None
    assert of(default, plan, "default", "time", arms).seeds == 3


def test_what_a_campaign_cannot_tell_is_one_sentence(paper, plan):
    told = {(row.campaign, row.arms, row.measure): sentence(row, 0.8) for row in planned_power(paper, plan)}
    assert told["campaign1", ("ale",), "mmlu"] == (
        "campaign1 (ale) cannot show equivalence within ±2 points on MMLU: power 0 to 59 %; it would take 296 to 2,960 "
        "questions or at best 14 models."
    )
    assert told["campaign2", ("ale",), "humaneval"].endswith(
        "514 to 3,594 questions (it has 164) or at best 16 models."
    )
    assert told["campaign1", ("ale",), "heldout_loss"] == (
        "campaign1 (ale) cannot show equivalence within ±0.01 nats on held-out loss: power 75 %; it would take 11 "
        "models."
    )
    assert told["closeout", ("budget25", "budget75"), "mmlu"].endswith(
        "power 0 %; more questions or seeds alone would not do."
    )
    # Of a time it is asked whether it differs.
    assert told["campaign1", ("ale",), "time"] == "campaign1 (ale) may miss a difference below 5.9 % of time."


def test_a_campaign_that_can_tell_is_told_nothing(paper, plan):
    plan = with_assumed(
        plan,
        **dict.fromkeys(("seed_sd_points", "model_sd_points", "seed_sd_nats", "model_sd_nats"), 0.001),
        **dict.fromkeys(("seed_sd_log_time", "model_sd_log_time"), 0.001),
        discordance=0.0001,
    )
    assert [sentence(told, 0.8) for told in rows(paper, plan, campaign="campaign1").values()] == [None, None, None]


def test_a_power_that_a_test_of_nothing_has_is_refused(tmp_path):
    (tmp_path / "analysis.yaml").write_text(STATED.replace("wanted: 0.8", "wanted: 0.05"))
    with pytest.raises(UserError, match=r"power\.wanted: expected more than 0\.05"):
        load_plan(tmp_path / "analysis.yaml")


def test_numbers_come_with_their_unit(plan):
    assert amount(1.0, "points") == "1 point"
    assert amount(0.0123, "nats") == "0.012 nats"
    assert amount(math.log(1.05), "log_ratio") == "5 % of time"
    assert amount(120.4, "points") == "120 points"
    assert amounts(2.35, 7.08, "points") == "2.4 to 7.1 points"
    assert amounts(0.5, 0.5, "points") == "0.5 points"
    # What is not yet the power that is wanted does not look like it.
    assert percents(0.7999, 0.7999) == "79 %"
    assert percents(0.001, 0.596) == "0 to 59 %"
    said = assumptions(plan)
    assert "80 % power" in said
    assert "seeds 1 point, 0.005 nats and 0.05 of the logarithm of time; over models 0.5 points" in said
    assert "10 % of questions" in said
