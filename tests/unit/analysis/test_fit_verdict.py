"""Was an arm worth it, and which adapter follows: the rules, by the words that the statistics have reached."""

import itertools

import pytest

from aletheia.analysis.effects import HELDOUT_LOSS, RETENTION_LOSS, TIME_WITH_PROBE
from aletheia.analysis.fit_verdict import NOT_WORTH_IT, WORTH_IT, worth_it
from aletheia.analysis.verdicts import BETTER, CANNOT_TELL, EQUIVALENT, ONE_RUN, WORSE
from fitted_study import BASE_LOSS, fitted

WORDS = (EQUIVALENT, BETTER, WORSE, CANNOT_TELL)


def words(loss, time, retention=EQUIVALENT, reason=None):
    told = {HELDOUT_LOSS: loss, TIME_WITH_PROBE: time, RETENTION_LOSS: retention}
    return {measure: {"verdict": word, "reason": reason} for measure, word in told.items()}


@pytest.mark.parametrize(
    ("loss", "time", "expected"),
    [
        (EQUIVALENT, BETTER, WORTH_IT),
        (EQUIVALENT, EQUIVALENT, NOT_WORTH_IT),
        (EQUIVALENT, WORSE, NOT_WORTH_IT),
        (EQUIVALENT, CANNOT_TELL, CANNOT_TELL),
        (BETTER, BETTER, WORTH_IT),
        (BETTER, EQUIVALENT, WORTH_IT),
        (BETTER, CANNOT_TELL, WORTH_IT),
        (BETTER, WORSE, CANNOT_TELL),
        *((WORSE, time, NOT_WORTH_IT) for time in WORDS),
        *((CANNOT_TELL, time, CANNOT_TELL) for time in WORDS),
    ],
)
def test_the_verdict_follows_from_loss_and_time(loss, time, expected):
    assert worth_it(words(loss, time))[0] == expected


def test_more_forgetting_makes_nothing_worth_it_and_what_is_not_known_is_said():
    for loss, time in itertools.product(WORDS, WORDS):
        assert worth_it(words(loss, time, WORSE))[0] == NOT_WORTH_IT
    assert worth_it(words(EQUIVALENT, BETTER, WORSE))[1] == "its loss on general text is higher"
    for retention in (CANNOT_TELL, None):
        word, why = worth_it(words(EQUIVALENT, BETTER, retention))
        assert (word, why.partition("; ")[2]) == (WORTH_IT, "whether it unlearns more general text cannot be told")


def test_what_hinders_a_verdict_is_said():
    assert worth_it(words(CANNOT_TELL, BETTER, reason=ONE_RUN))[1].endswith("(one seed says nothing of others)")
    assert worth_it({}) == (CANNOT_TELL, "there is no std to hold it against")
    assert worth_it(words(None, None))[1] == "no seed has a run of it and of std that both ended well"


def test_the_arm_that_was_worth_it_is_recommended_by_its_best_seed_on_rows_that_judge_nothing():
    summary = fitted({"std": 0.5, "last": 0.5, "half": 0.4}, seconds={"last": 70.0, "half": 60.0}, row_noise=0.005)
    assert summary["verdict"]["worth_it"] == {"last": WORTH_IT, "half": NOT_WORTH_IT}
    found = summary["recommended"]
    assert found["arm"] == "last"
    assert found["adapter"] == f"results/train/model/last/seed{found['seed']}/adapter"
    assert found["files"] == {"adapter_model.safetensors": f"last{found['seed']}"}
    assert found["chosen_by"] == "held-out rows, which judge nothing here"
    assert summary["verdict"]["helped"] == {"arm": "last", "verdict": BETTER}


def test_of_several_that_were_worth_it_the_lowest_loss_is_taken():
    arms = {"std": 0.5, "one": 0.6, "two": 0.7}
    summary = fitted(arms, seconds=dict.fromkeys(("one", "two"), 70.0), row_noise=0.005)
    assert set(summary["verdict"]["worth_it"].values()) == {WORTH_IT}
    assert summary["recommended"]["arm"] == "two"
    assert summary["why_recommended"] == "of the 2 that were worth it the one with the lowest loss"


@pytest.mark.parametrize(
    ("gains", "why"),
    [
        ({"std": 0.5, "ale": 0.4}, "no other arm is worth it"),
        ({"std": 0.5, "ale": 0.495}, "no other arm is shown to be worth it"),
        ({"std": 0.5}, "nothing else was trained"),
    ],
)
def test_else_std_is_recommended_with_the_reason(gains, why):
    summary = fitted(gains, noise=0.004)
    assert (summary["recommended"]["arm"], summary["why_recommended"]) == ("std", why)


def test_no_adapter_is_recommended_that_is_worse_than_the_base_model():
    summary = fitted({"std": -0.3, "ale": -0.4})
    assert summary["recommended"] is None
    assert summary["why_recommended"] == "std, which would be, has a higher held-out loss than the base model"
    assert summary["verdict"]["helped"] == {"arm": "std", "verdict": WORSE}


def test_no_run_that_ended_well_leaves_nothing_to_recommend():
    failed = {arm: {"status": "crashed", "reason": "it failed", "eval_loss": None} for arm in ("std", "ale")}
    summary = fitted({"std": 0.5, "ale": 0.5}, changes=failed)
    assert (summary["recommended"], summary["why_recommended"]) == (None, "no run ended well")
    assert summary["verdict"]["helped"] == {"arm": None, "verdict": None}


def test_where_std_failed_the_lowest_loss_of_the_others_is_taken():
    failed = {"std": {"status": "diverged", "reason": "not finite", "eval_loss": None}}
    summary = fitted({"std": 0.5, "ale": 0.4, "last": 0.5}, changes=failed)
    assert summary["recommended"]["arm"] == "last"
    assert summary["verdict"]["worth_it"] == {"ale": CANNOT_TELL, "last": CANNOT_TELL}
    assert summary["arms"]["std"]["failures"] == ["seed 42: diverged", "seed 123: diverged", "seed 999: diverged"]


def test_the_difference_from_the_base_model_is_paired_over_rows():
    """Rows differ by 0.5 nats, their differences from the base model by 0.02."""
    found = fitted({"std": 0.5}, seeds=(42,), row_noise=0.02, noise=0.0)["arms"]["std"]["heldout_from_base"]
    assert (found["n"], found["seeds"], found["verdict"]) == (64, 1, BETTER)
    assert found["mean"] == pytest.approx(-0.5, abs=0.01)
    assert found["high"] - found["low"] == pytest.approx(4 * 0.02 / 64**0.5, rel=0.3)


def test_one_seed_tells_of_the_base_model_and_not_of_arms():
    summary = fitted({"std": 0.5, "ale": 0.4}, seeds=(42,))
    assert summary["verdict"]["helped"]["verdict"] == BETTER
    assert summary["verdict"]["worth_it"] == {"ale": CANNOT_TELL}
    assert summary["recommended"]["arm"] == "std"


def rate(value, loss, status="ok"):
    return {"learning_rate": value, "eval_loss": loss, "status": status}


def test_a_rate_at_the_edge_and_those_within_the_noise_floor_are_told():
    tried = {"std": {"slow": rate(1e-3, 2.6), "middle": rate(2e-3, 2.51), "fast": rate(4e-3, 2.5)}}
    found = fitted({"std": 0.5}, rates=tried, noise=0.02)
    own, floor = found["arms"]["std"]["rate"], found["floor"]
    assert floor["n"] == 3
    assert floor["delta"] == max(0.01, 2 * floor["sd"])
    assert (own["value"], own["edge"], own["as_good"]) == (4e-3, "highest", [2e-3])
    assert [each["learning_rate"] for each in own["tried"]] == [1e-3, 2e-3, 4e-3]


def test_a_rate_in_the_middle_or_below_one_that_diverged_is_at_no_edge():
    tried = {"std": {"slow": rate(1e-3, 2.6), "middle": rate(2e-3, 2.4), "fast": rate(4e-3, None, "diverged")}}
    assert fitted({"std": 0.5}, rates=tried)["arms"]["std"]["rate"]["edge"] is None
    assert fitted({"std": 0.5}, seeds=(1,))["floor"] is None


def test_where_held_out_rows_judge_they_choose_the_seed_too():
    summary = fitted({"std": 0.5}, split="heldout")
    losses = summary["recommended"]["heldout_loss"]
    assert summary["recommended"]["chosen_by"] == "the rows that judge"
    assert losses <= summary["arms"]["std"]["heldout"]["mean"] < BASE_LOSS
