"""A rate that is chosen: by the held-out loss of the trials, and by nothing else that stands beside it."""

from __future__ import annotations

import json

import pytest

from aletheia.errors import UserError
from aletheia.training.chosen_rate import ChosenRate, chosen_rate
from evaluations import run_json

SETTINGS = {"learning_rate": 0.5}


@pytest.fixture
def trials(tmp_path):
    """Return a function that writes runs, each as ``arm=(rate, held-out loss, status)``, and returns their paths."""

    def written(**runs):
        for arm in runs:
            (tmp_path / arm).mkdir(exist_ok=True)
        keys = ("learning_rate", "eval_loss", "status")
        facts = {arm: dict(zip(keys, values, strict=True)) for arm, values in runs.items()}
        return [run_json(tmp_path / arm, **{**each, "arm": arm}) for arm, each in facts.items()]

    return written


def best_of(*names):
    return {"layers": "all", "learning_rate": {"best_of": list(names)}}


@pytest.mark.parametrize(
    ("runs", "rate"),
    [
        ({"a": (0.1, 2.0, "ok"), "b": (0.2, 1.0, "ok"), "c": (0.3, 1.5, "ok")}, 0.2),
        # A run that failed loses, whatever loss it has; of equal losses the lower rate wins, wherever it stands.
        ({"a": (0.1, 2.0, "ok"), "b": (0.2, 1.0, "timeout"), "c": (0.3, None, "diverged")}, 0.1),
        ({"a": (0.3, 1.0, "ok"), "b": (0.1, 1.0, "ok"), "c": (0.2, 1.0, "ok")}, 0.1),
    ],
)
def test_the_lowest_held_out_loss_chooses(trials, runs, rate):
    chosen = chosen_rate(best_of("a", "b", "c"), SETTINGS, trials(**runs))
    assert (chosen.value, chosen.reason) == (rate, None)
    table = {arm: dict(zip(("learning_rate", "eval_loss", "status"), run, strict=True)) for arm, run in runs.items()}
    assert chosen.trials == table


def test_rows_that_judge_do_not_choose(trials):
    """Beside each run lies an evaluation over the test rows, by which the other would win; it may even be none."""
    runs = {"a": (0.1, 2.0, "ok"), "b": (0.2, 1.0, "ok")}
    paths = trials(**runs)
    before = chosen_rate(best_of("a", "b"), SETTINGS, paths)
    for path, loss in zip(paths, (0.5, 9.0), strict=True):
        (path.parent / "heldout.json").write_text(json.dumps({"payload": {"split": "test", "loss": loss}}))
    assert chosen_rate(best_of("a", "b"), SETTINGS, paths) == before
    assert before.value == 0.2


def test_where_every_trial_failed_the_reason_names_each(trials):
    chosen = chosen_rate(best_of("a", "b"), SETTINGS, trials(a=(0.1, None, "diverged"), b=(0.2, 1.0, "timeout")))
    assert (chosen.value, sorted(chosen.trials)) == (None, ["a", "b"])
    assert chosen.reason == "learning_rate: best_of, and none of its arms ended well: a as diverged, b as timeout"


def test_a_stated_rate_needs_no_trial():
    assert chosen_rate({"layers": "all"}, SETTINGS, []) == ChosenRate(0.5)


@pytest.mark.parametrize(
    ("arm", "says"),
    [
        (
            best_of("a", "c"),
            r"expected run.json of a, c \(learning_rate.best_of\), found that of a, b; name just these",
        ),
        ({"layers": "all"}, r"expected run.json of none \(learning_rate.best_of\), found that of a, b"),
    ],
)
def test_other_trials_than_the_arm_names_are_refused(trials, arm, says):
    given = trials(a=(0.1, 1.0, "ok"), b=(0.2, 1.0, "ok"))
    with pytest.raises(UserError, match=says):
        chosen_rate(arm, SETTINGS, given)
