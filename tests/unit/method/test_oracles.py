"""Every choice trained: regrets are measured against the best one, and the written file says no less."""

import json
import statistics

import pytest

import oracles
from conftest import ROOT

WRITTEN = json.loads((ROOT / "benchmarks" / "oracles.json").read_text(encoding="utf-8"))["models"]


@pytest.mark.slow
def test_a_regret_is_the_distance_to_the_best_of_all_choices():
    task = oracles.made_task(seed=1, layers=4, pretraining_steps=60, steps=12)
    found = oracles.regrets(task, seed=1)
    losses = found["losses"]
    assert len(losses) == found["choices"] == 6
    assert found["best_loss"] == min(losses.values()) == losses[" ".join(map(str, found["best"]))]
    assert found["random_regret"] == pytest.approx(statistics.mean(losses.values()) - found["best_loss"])
    assert found["worst_regret"] == max(losses.values()) - found["best_loss"] > 0
    for name, way in found["ways"].items():
        loss = losses[" ".join(map(str, way["layers"]))]
        assert way["regret"] == loss - found["best_loss"] >= 0, name
        assert way["rank"] == sorted(losses.values()).index(loss) + 1, name
    # A choice's own training repeats to the bit, so that a difference of two is theirs.
    assert oracles.loss_of(task, found["best"], seed=1) == found["best_loss"]


@pytest.mark.parametrize(("model", "choices"), [("glasslm", 6), ("made", 70)])
def test_the_written_regrets_are_of_every_choice_at_three_seeds(model, choices):
    assert [each["seed"] for each in WRITTEN[model]] == list(oracles.SEEDS)
    for each in WRITTEN[model]:
        assert len(each["losses"]) == each["choices"] == choices
        assert set(each["ways"]) == set(oracles.CHOICES)
        for way in each["ways"].values():
            assert each["losses"][" ".join(map(str, way["layers"]))] - each["best_loss"] == way["regret"]
