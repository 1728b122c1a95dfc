"""Which layers are selected, and what share of the gradient they hold."""

import collections
import hashlib

import pytest

import aletheia
from aletheia.errors import UserError
from aletheia.method.selection import BY_HIGHEST, choose_layers, gradient_shares, select_layers, selection_payload
from aletheia.study.selectors import SELECTORS

SCORES = [5.0, 1.0, 4.0, 2.0, 3.0]


@pytest.mark.parametrize(
    ("budget", "layers"),
    [(50, [0, 2]), (100, [0, 1, 2, 3, 4]), (60, [0, 2, 4]), (1, [0]), (59.9, [0, 2])],
)
def test_top_share_rounded_down_but_at_least_one(budget, layers):
    assert select_layers(SCORES, budget) == layers


def test_of_equal_scores_the_lower_layer_is_taken():
    assert select_layers([1.0, 1.0, 1.0, 1.0], 50) == [0, 1]


@pytest.mark.parametrize(
    ("budget", "sentence"), [(0, "$"), (-1, "$"), (101, "$"), (0.5, r"; write 50 \(one half is 50\)$")]
)
def test_budget_out_of_range(budget, sentence):
    with pytest.raises(UserError, match=f"expected at least 1 and at most 100{sentence}"):
        select_layers(SCORES, budget)


def test_scores_must_be_finite():
    with pytest.raises(UserError, match="finite"):
        select_layers([1.0, float("nan")], 50)


@pytest.mark.parametrize(
    ("wanted", "layers"),
    [
        ("all", [0, 1, 2, 3, 4]),
        *((name, [0, 2]) for name in BY_HIGHEST),
        ("bottom", [1, 3]),
        ("every_other", [0, 2]),
        ("first", [0, 1]),
        ("last", [3, 4]),
        ([4, 1], [1, 4]),
    ],
)
def test_arms_and_controls(wanted, layers):
    assert choose_layers(5, {"layers": wanted, "budget_percent": 50}, seed=42, scores=SCORES) == layers


def test_random_controls_have_the_budget_and_follow_seed_and_draw():
    arm = {"layers": "random", "budget_percent": 50, "draw": 0}
    first = choose_layers(30, arm, seed=42)
    assert len(first) == 15
    assert first == choose_layers(30, arm, seed=42)
    assert first != choose_layers(30, arm, seed=43)
    assert first != choose_layers(30, {**arm, "draw": 1}, seed=42)
    assert first != choose_layers(30, {**arm, "draw": 2}, seed=42)


def test_random_controls_are_the_same_on_every_python_and_nest():
    def chosen(budget, depth=12):
        return choose_layers(depth, {"layers": "random", "budget_percent": budget, "draw": 1}, seed=42)

    # By hand: the order of sha256("42:draw1:LAYER").
    by_hash = sorted(range(12), key=lambda layer: hashlib.sha256(f"42:draw1:{layer}".encode()).hexdigest())
    assert by_hash == [8, 11, 10, 9, 0, 4, 1, 5, 2, 3, 7, 6]
    assert chosen(50) == sorted(by_hash[:6])
    # More budget adds layers and drops none.
    assert set(chosen(25)) < set(chosen(50)) < set(chosen(75))


def test_random_controls_favour_no_layer():
    arm = {"layers": "random", "budget_percent": 50}
    counts = collections.Counter(layer for seed in range(400) for layer in choose_layers(8, arm, seed=seed))
    assert all(abs(counts[layer] - 200) < 50 for layer in range(8))  # 5 standard deviations


@pytest.mark.parametrize(
    ("depth", "budget", "layers"),
    [(8, 50, [0, 2, 4, 6]), (7, 50, [0, 2, 4]), (10, 30, [0, 3, 6]), (5, 80, [0, 1, 2, 3]), (5, 1, [0])],
)
def test_every_other_spreads_layers_evenly_from_layer_0(depth, budget, layers):
    assert choose_layers(depth, {"layers": "every_other", "budget_percent": budget}, seed=1) == layers


def test_random_with_the_same_lowest_layer_draws_only_what_lies_above_it():
    # The three highest are 1, 4 and 9, so every draw has layer 1, and two of the other eight above it.
    scores = [0.1, 5.0, 0.2, 0.3, 4.0, 0.2, 0.1, 0.3, 0.2, 6.0]
    arm = {"layers": "random_same_lowest", "budget_percent": 30}
    counts = collections.Counter()
    for draw in range(400):
        layers = choose_layers(10, {**arm, "draw": draw}, seed=42, scores=scores)
        assert (layers[0], len(layers)) == (1, 3)
        counts.update(layers[1:])
    assert set(counts) == set(range(2, 10))
    assert all(abs(counts[layer] - 100) < 45 for layer in counts)  # 5 standard deviations
    drawn = [choose_layers(10, {**arm, "draw": draw}, seed=7, scores=scores) for draw in (0, 1, 2)]
    assert drawn[0] != drawn[1] or drawn[1] != drawn[2]
    assert choose_layers(10, arm, seed=7, scores=scores) == drawn[0]


def test_random_with_the_same_lowest_layer_is_the_same_on_every_python():
    by_hash = sorted(range(1, 8), key=lambda layer: hashlib.sha256(f"42:lowest3:{layer}".encode()).hexdigest())
    arm = {"layers": "random_same_lowest", "budget_percent": 50, "draw": 3}
    scores = [9.0, 1, 2, 3, 4, 5, 6, 7]
    assert choose_layers(8, arm, seed=42, scores=scores) == [0, *sorted(by_hash[:3])]
    # Where the highest scores are the last layers, there is one draw.
    assert choose_layers(8, arm, seed=42, scores=[0.0, *scores[1:]]) == [4, 5, 6, 7]


def test_every_way_to_choose_has_layers():
    arm = {"budget_percent": 40, "time_percent": 100}
    for name in SELECTORS:
        layers = choose_layers(5, {**arm, "layers": name}, seed=1, scores=SCORES, seconds=lambda lowest, count: count)
        assert len(layers) == (5 if name == "cost_aware" else 2), name
        assert layers == sorted(set(layers)), name


def test_an_unknown_way_to_choose_is_named():
    with pytest.raises(UserError, match=r"^layers: expected a known way to choose, found middle$"):
        choose_layers(5, {"layers": "middle", "budget_percent": 50}, seed=1)


def test_the_package_names_every_way_to_choose():
    assert aletheia.selectors() == SELECTORS


def test_held_shares_by_hand():
    shares = gradient_shares(SCORES, [0, 2])
    assert shares["held_norm_share"] == pytest.approx(9 / 15)
    assert shares["held_squared_share"] == pytest.approx(41 / 55)
    assert shares["margin_at_cut"] == pytest.approx((4 - 3) / 4)


RANKS = {"rank": 16, "alpha": 32}
HALF = {"layers": "gradient", "budget_percent": 50}


def probe_artifact(**changes):
    names = [
        {
            "attention": [f"model.layers.{i}.self_attn.q_proj"],
            "mlp": [f"model.layers.{i}.mlp.up_proj"],
            "experts": [],
        }
        for i in range(5)
    ]
    scores = dict.fromkeys(("l2", "sum_of_norms", "relative", "normalized"), SCORES)
    return {
        "status": "ok",
        "reason": None,
        "layers_total": 5,
        "scores": scores,
        "adaptable": names,
        **changes,
    }


def test_the_arm_overrides_the_ranks():
    arm = {"layers": "gradient", "budget_percent": 50, "rank": {"attention": 4, "mlp": 8}}
    payload = selection_payload(arm, RANKS, seed=0, probe=probe_artifact())
    assert payload["layers"] == [0, 2]
    assert payload["rank_pattern"]["model.layers.2.self_attn.q_proj"] == 4
    assert payload["rank_pattern"]["model.layers.2.mlp.up_proj"] == 8
    assert set(payload["alpha_pattern"].values()) == {32}


def test_a_probe_that_diverged_passes_its_status_on():
    failed = probe_artifact(status="diverged", reason="batch 0: loss is not finite")
    payload = selection_payload(HALF, RANKS, seed=0, probe=failed)
    assert payload["status"] == "diverged"
    assert payload["layers"] == []


@pytest.mark.parametrize("wanted", ["first", "last", "random", [4, 1]])
def test_a_control_needs_no_probe(wanted):
    """It has the layers that it has beside one, and no share of scores that nobody measured."""
    arm = {"layers": wanted, "budget_percent": 50}
    probe = probe_artifact()
    alone = selection_payload(arm, RANKS, seed=7, adaptable=probe["adaptable"])
    beside = selection_payload(arm, RANKS, seed=7, probe=probe)
    unknown = {"score", "held_norm_share", "held_squared_share", "margin_at_cut"}
    assert {key for key in alone if alone[key] != beside[key]} == unknown
    assert {alone[key] for key in unknown} == {None}
    assert len(alone["layers"]) == 2


@pytest.mark.parametrize("wanted", ["gradient", "bottom"])
def test_layers_chosen_by_scores_need_a_probe(wanted):
    arm = {"layers": wanted, "budget_percent": 50}
    with pytest.raises(UserError, match=f"^layers: {wanted}: expected a probe.*give --probe$"):
        selection_payload(arm, RANKS, seed=7, adaptable=probe_artifact()["adaptable"])
