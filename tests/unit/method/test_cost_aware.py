"""The cost-aware choice against all subsets, and a selection beside the costs of a step."""

import itertools
import math
import random

import pytest

from aletheia.errors import UserError
from aletheia.method.cost_aware import StepCosts, cost_aware_layers
from aletheia.method.selection import choose_layers, selection_payload

ADAPTER = {"rank": 4, "alpha": 8}
ARM = {"layers": "cost_aware", "time_percent": 60}


def best_subset(scores, seconds, limit):
    """The highest sum of scores of any set of layers that fits, and None where none does."""
    layers = range(len(scores))
    sets = itertools.chain.from_iterable(itertools.combinations(layers, n) for n in range(1, len(scores) + 1))
    return max((sum(scores[i] for i in s) for s in sets if seconds(min(s), len(s)) <= limit), default=None)


@pytest.mark.parametrize("kind", ["linear", "any"])
def test_no_set_of_layers_that_fits_has_more_score(kind):
    """Over costs as of the cost model, and over costs that follow no order at all."""
    draw = random.Random(3)
    unfit = 0
    for _ in range(150):
        depth = draw.randint(1, 8)
        scores = [draw.choice([0.0, 1.0, draw.expovariate(1)]) for _ in range(depth)]
        table = {(low, n): draw.random() for low in range(depth) for n in range(1, depth + 1)}
        fixed, backward, adapters = draw.random(), draw.random(), draw.random()
        if kind == "linear":
            table = {(low, n): fixed + (depth - low) * backward + n * adapters for low, n in table}
        limit = draw.uniform(0.1, 1.1) * table[0, depth]
        best = best_subset(scores, lambda low, n, t=table: t[low, n], limit)
        if best is None:
            unfit += 1
            with pytest.raises(
                UserError, match=r"^time_percent: expected room for one layer, whose step takes at least"
            ):
                cost_aware_layers(scores, lambda low, n, t=table: t[low, n], limit)
            continue
        chosen = cost_aware_layers(scores, lambda low, n, t=table: t[low, n], limit)
        assert chosen == sorted(set(chosen))
        assert table[min(chosen), len(chosen)] <= limit
        assert sum(scores[i] for i in chosen) == pytest.approx(best)
    assert 5 < unfit < 145


def test_a_deep_layer_that_is_cheap_is_taken_before_a_low_one_that_is_not():
    # Layer 0 has the highest score, and takes the whole backward pass along.
    scores = [5.0, 1.0, 3.0, 4.0]
    costs = StepCosts("ok", None, 4, lambda low, n, rank: 10 + 10 * (4 - low) + n)
    chosen = {
        percent: choose_layers(
            4, {**ARM, "time_percent": percent}, seed=0, scores=scores, seconds=lambda low, n: costs.seconds(low, n, 1)
        )
        for percent in (40, 60, 95, 100)
    }
    # Of 54 s: 21 s buy layer 3, 32 s layers 2 and 3, 43 s all but layer 0 (51 s layer 0 alone), 54 s everything.
    assert chosen == {40: [3], 60: [2, 3], 95: [1, 2, 3], 100: [0, 1, 2, 3]}


def test_a_score_that_is_not_finite_is_refused():
    with pytest.raises(UserError, match="finite"):
        cost_aware_layers([1.0, math.nan], lambda low, n: 1.0, 2.0)


def probe(depth=4, **changes):
    names = [
        {"attention": [f"model.layers.{i}.self_attn.q_proj"], "mlp": [f"model.layers.{i}.mlp.up_proj"], "experts": []}
        for i in range(depth)
    ]
    scores = {"l2": [5.0, 1.0, 3.0, 4.0], "relative": [1.0, 1.0, 9.0, 1.0]}
    per_module = [{f"{n}.weight": 1.0 + i for i, layer in enumerate(names) for k in layer.values() for n in k}]
    payload = {"status": "ok", "reason": None, "layers_total": depth, "scores": scores, "adaptable": names}
    return {**payload, "per_module": per_module, "weight_norms": dict.fromkeys(per_module[0], 1.0), **changes}


def costs(**changes):
    # A step of all four layers: 10 + 40 + 4·r.
    return StepCosts(
        **{
            "status": "ok",
            "reason": None,
            "layers_total": 4,
            "seconds": lambda low, n, rank: 10 + 10 * (4 - low) + n * rank,
            **changes,
        }
    )


def test_a_selection_says_what_share_of_the_time_its_step_is_predicted_to_take():
    def percent(arm, **more):
        return selection_payload(arm, ADAPTER, seed=0, probe=probe(), costs=costs(), **more)["predicted_step_percent"]

    assert percent({"layers": "all"}) == 100
    assert percent({"layers": "last", "budget_percent": 50}) == pytest.approx(100 * (10 + 20 + 2 * 4) / 66)
    assert percent({"layers": [0]}) == pytest.approx(100 * (10 + 40 + 4) / 66)
    # One of two modules of a layer is half a layer; of equal numbers of both kinds, each two.
    by_module = {"layers": "gradient", "budget_percent": 50, "unit": "module"}
    assert percent(by_module) == pytest.approx(100 * (10 + 20 + 2 * 4) / 66)
    assert selection_payload({"layers": "all"}, ADAPTER, seed=0, probe=probe())["predicted_step_percent"] is None


def test_a_cost_aware_selection_keeps_its_limit_and_follows_its_score():
    chosen = selection_payload(ARM, ADAPTER, seed=0, probe=probe(), costs=costs())
    assert (chosen["status"], chosen["reads"], chosen["score"]) == ("ok", "costs", "l2")
    assert chosen["layers"] == [2, 3]
    assert chosen["predicted_step_percent"] == pytest.approx(100 * 38 / 66)
    assert chosen["held_norm_share"] == pytest.approx(7 / 13)
    relative = {**ARM, "time_percent": 52, "score": "relative"}
    chosen = selection_payload(relative, ADAPTER, seed=0, probe=probe(), costs=costs())
    assert (chosen["layers"], chosen["score"]) == ([2], "relative")
    with pytest.raises(UserError, match=r"^time_percent: expected room for one layer"):
        selection_payload({**ARM, "time_percent": 20}, ADAPTER, seed=0, probe=probe(), costs=costs())


def test_costs_that_could_not_be_measured_fail_only_the_arm_that_reads_them():
    failed = costs(status="out_of_memory", reason="attribution: all: out of memory", seconds=None)
    chosen = selection_payload(ARM, ADAPTER, seed=0, probe=probe(), costs=failed)
    assert (chosen["status"], chosen["reason"]) == ("out_of_memory", "attribution: all: out of memory")
    assert (chosen["layers"], chosen["rank_pattern"], chosen["lowest_layer"]) == ([], {}, None)
    other = selection_payload({"layers": "last", "budget_percent": 50}, ADAPTER, seed=0, probe=probe(), costs=failed)
    assert (other["status"], other["layers"], other["predicted_step_percent"]) == ("ok", [2, 3], None)
    diverged = probe(status="diverged", reason="batch 0: loss is not finite")
    assert selection_payload(ARM, ADAPTER, seed=0, probe=diverged, costs=failed)["status"] == "diverged"


def test_what_a_cost_aware_choice_lacks_is_named():
    with pytest.raises(
        UserError, match=r"^layers: cost_aware: expected the costs of a step, found none; give --costs$"
    ):
        selection_payload(ARM, ADAPTER, seed=0, probe=probe())
    with pytest.raises(UserError, match=r"^layers: cost_aware: expected a probe, .*give --probe$"):
        selection_payload(ARM, ADAPTER, seed=0, adaptable=probe()["adaptable"], costs=costs())
    with pytest.raises(
        UserError, match=r"^costs: expected those of a model of 4 layers, found 30; give the attribution"
    ):
        selection_payload(ARM, ADAPTER, seed=0, probe=probe(), costs=costs(layers_total=30))
