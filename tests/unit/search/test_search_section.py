"""A section ``search`` becomes a space, or one sentence that says what to do; a space declares every trial."""

import re
from itertools import product

import pytest

from aletheia.errors import UserError
from aletheia.search.presets import MOVES, PRESETS, moved, preset
from aletheia.search.section import read_space
from aletheia.search.space import STD, STD_EXTRAS, Recipe
from aletheia.search.trials import CONFIRM, FLOOR, FULL, PUSH, SCAN, SHORT, declared, trial_name
from aletheia.study.recipes import with_recipes
from aletheia.study.schema import schema, validate
from search_spaces import LEGAL, SETTINGS, say, section, space

EXTRAS = {"extras": {"accumulation": 1, "schedule": "linear"}}
ARM_NAME = re.compile(schema("campaign")["properties"]["arms"]["propertyNames"]["pattern"].replace(r"(?!\n)", ""))


def seeds(**changes):
    return {"floor": [1, 2, 3], "search": 42, "confirm": [101, 102, 103], **changes}


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"presets": [], "recipes": {}}, "recipes: expected at least 2 recipes with the presets, found none"),
        ({"presets": ["mlp"]}, "recipes: expected at least 2 recipes with the presets, found mlp"),
        ({"presets": ["mlp", "last_fifth"]}, "presets: found 'last_fifth'; known are last_half"),
        ({"recipes": {"mine": {"rang": 8}}}, "recipes.mine.rang: no arm may state this key"),
        ({"recipes": {"mine": {"learning_rate": 1e-3}}}, "recipes.mine.learning_rate: each recipe gets its own"),
        ({"recipes": {"mine": {"steps": 10}}}, "recipes.mine.steps: each recipe gets as many as take the seconds"),
        ({"recipes": {"std": {"rank": 8}}}, "recipes.std: expected another name than std and std_extras"),
        ({"recipes": {"a__b": {"rank": 8}}}, "recipes.a__b: expected another name"),
        ({"recipes": {"mlp": {"rank": 8}}}, "recipes.mlp: found a preset's name beside that preset"),
        ({"recipes": {"mine": {"rank": 16}}}, "recipes.mine: mine runs as std does"),
        ({"recipes": {"mine": {"modules": "mlp"}}}, "recipes.mine: mine runs as mlp does"),
        ({"presets": ["linear", "mlp"], "std": {"extras": {"schedule": "linear"}}}, "presets: linear runs as std_extr"),
        ({"std": {"extras": {"rank": 8}}}, "std.extras.rank: expected keys of training"),
        ({"std": {"extras": {"pace": 8}}}, "std.extras.pace: no arm may state this key"),
        ({"std": {"extras": {"accumulation": 2}}}, "std.extras.accumulation: found 2, which the campaign says anyway"),
        ({"moves": ["rank x3"]}, "moves: found 'rank x3'; known are rate x2"),
        ({"rates": [1e-3]}, "rates: expected at least 2 rates, found 1"),
        ({"rates": [2e-3, 1e-3]}, "rates: expected each to be above the one before, found 0.001 after 0.002"),
        ({"steps": {"scan": 64, "full": 64}}, "steps.scan: expected less than steps.full (64), found 64"),
        ({"seeds": seeds(floor=[1, 2])}, "seeds.floor: expected at least 3 seeds, found 1, 2"),
        ({"seeds": seeds(confirm=[7, 7, 8])}, "seeds.confirm: expected each seed once, found 7, 7, 8"),
        ({"seeds": seeds(confirm=[3, 42, 8])}, "seeds.confirm: found 3, 42, by which the search chooses"),
        ({"budget": {"runs": 2}}, "budget.runs: expected at least 41 (3 of the floor, 36 of the scan"),
        ({"budget": {"runs": 40}}, "budget.runs: expected at least 41"),
    ],
)
def test_a_space_that_cannot_be_searched_is_one_sentence(changes, sentence):
    with pytest.raises(UserError) as error:
        space(**changes)
    assert str(error.value).startswith(f"search.{sentence}")
    assert "\n" not in str(error.value)


def test_every_preset_is_an_arm_of_the_schema_and_states_nothing_that_std_has():
    root = with_recipes("campaign", schema("campaign"))
    found = space(presets=list(PRESETS), budget={"runs": 100})
    assert list(found.recipes) == list(PRESETS)
    for recipe in found.recipes.values():
        arm = {"layers": "all", **{key: value for key, value in recipe.keys.items() if key != "extras"}}
        validate(
            arm,
            {**root["$defs"]["recipe"], "$defs": root["$defs"], "properties": root["$defs"]["recipe"]["properties"]},
            "arm",
        )
    assert found.recipes["std_half_rank"].keys == {"layers": "all", "rank": 8, "alpha": 16}
    assert set(found.recipes["v_o_down"].keys["modules"]) == {"v_proj", "o_proj", "down_proj"}


def test_a_recipe_has_the_extras_under_its_own_keys_unless_it_refuses_them():
    found = space(
        std=EXTRAS,
        presets=["mlp", "accumulation_1"],
        recipes={
            "own": {"rank": 8, "accumulation": 4},
            "plain": {"rank": 4, "extras": False},
            "back": {"rank": 2, "alpha": 32, "accumulation": 2},
        },
    )
    assert found.recipes["mlp"].shape == EXTRAS["extras"]
    assert found.recipes["own"].shape == {"accumulation": 4, "schedule": "linear"}
    assert found.recipes["plain"].shape == {}
    assert found.recipes["back"].keys == {"layers": "all", "rank": 2, "schedule": "linear"}
    assert found.recipes["accumulation_1"].shape == {"accumulation": 1}


def test_each_shape_has_a_recipe_that_chooses_nothing_and_is_tuned_like_the_others():
    found = space(
        std=EXTRAS,
        presets=["mlp", "linear"],
        recipes={"own": {"rank": 8, "accumulation": 4}, "line": {"rank": 8, "schedule": "linear", "extras": False}},
    )
    std_of = {name: recipe.std for name, recipe in found.recipes.items()}
    assert std_of == {"mlp": STD_EXTRAS, "linear": "linear", "own": "std__own", "line": "linear"}
    assert set(found.stds) == {STD, STD_EXTRAS, "std__own", "linear"}
    for recipe in found.recipes.values():
        std = found.recipe(recipe.std)
        assert (std.shape, std.chooses) == (recipe.shape, False)
    scanned = {trial.recipe for trial in declared(found) if trial.rung == SCAN}
    assert scanned == {*found.stds, *found.recipes}


@pytest.mark.parametrize(
    ("keys", "move", "changed"),
    [
        ({"layers": "all"}, "rank x2", {"rank": 32, "alpha": 64}),
        (
            {"layers": "all", "rank": {"attention": 4, "mlp": 8}},
            "rank /2",
            {"rank": {"attention": 2, "mlp": 4}, "alpha": 16},
        ),
        ({"layers": "last", "budget_percent": 50}, "more layers", {"budget_percent": 75}),
        ({"layers": "last"}, "fewer layers", {"budget_percent": 33.3}),
        ({"layers": "cost_aware", "time_percent": 60}, "more layers", {"time_percent": 90}),
    ],
)
def test_a_move_changes_rank_and_alpha_together_or_the_share_of_layers(keys, move, changed):
    assert moved(keys, move, SETTINGS["adapter"]) == {**keys, **changed}


@pytest.mark.parametrize(
    ("keys", "move", "why"),
    [
        ({"layers": "all", "rank": 1}, "rank /2", "rank 1 has no whole number"),
        ({"layers": "all", "rank": 1024}, "rank x2", "rank 1024 has no whole number"),
        ({"layers": "all", "rank": 8, "alpha": 3}, "rank /2", "alpha 3 has no"),
        ({"layers": "all"}, "more layers", "all layers are adapted"),
        ({"layers": [0, 1]}, "fewer layers", "its layers are a list"),
        ({"layers": "last", "budget_percent": 80}, "more layers", "budget_percent would be 120"),
    ],
)
def test_a_move_that_leads_nowhere_says_why(keys, move, why):
    assert moved(keys, move, SETTINGS["adapter"]).startswith(why)


def test_a_preset_that_the_campaign_has_no_rank_for_is_refused():
    assert preset("std_half_rank", {"rank": 1, "alpha": 2}).startswith("rank 1 has no")
    settings = {**SETTINGS, "adapter": {"rank": 1, "alpha": 2, "modules": "all"}}
    with pytest.raises(UserError, match="presets: found std_half_rank, and rank 1 has no whole number"):
        read_space(section(presets=["mlp", "std_half_rank"]), settings=settings, legal_keys=LEGAL, say=say)


def test_a_move_to_a_recipe_that_is_tried_anyway_is_no_trial():
    found = space(presets=["mlp", "std_half_rank"])
    assert found.moves["std_half_rank", "rank x2"] == "it leads to std, which is tried anyway"
    assert isinstance(found.moves["std_half_rank", "rank /2"], Recipe)


def test_names_of_trials_are_names_of_arms_and_tell_rates_apart():
    assert trial_name(SCAN, "last_half", 2e-3) == "s_last_half_r2em3"
    assert trial_name(CONFIRM, "mlp", 1.5e-4) == "c_mlp_r1p5em4"
    assert trial_name(FULL, "mlp", 1.0) == "f_mlp_r1e0"
    assert trial_name(FULL, "mlp", 0.00052) != trial_name(FULL, "mlp", 0.00053)


def test_what_is_declared_is_each_arm_and_seed_once_with_whole_settings():
    found = space(std=EXTRAS, presets=list(PRESETS), budget={"runs": 100})
    trials = declared(found)
    assert len({(trial.arm_name, trial.seed) for trial in trials}) == len(trials)
    settings = {trial.arm_name: dict(trial.arm_settings) for trial in trials}
    assert all(settings[trial.arm_name] == trial.arm_settings for trial in trials)
    assert all(ARM_NAME.search(name) and len(name) <= 100 for name in settings)
    assert all(set(keys) <= {*LEGAL, "learning_rate"} and "layers" in keys for keys in settings.values())
    assert {trial.seed for trial in trials if trial.rung in (CONFIRM, SHORT)} == set(found.confirm_seeds)
    assert {trial.seed for trial in trials if trial.rung in (SCAN, FULL, PUSH)} == {found.search_seed}
    assert [(t.arm_name, t.seed) for t in trials if t.rung == FLOOR] == [("n_std_r5em4", seed) for seed in (1, 2, 3)]
    steps = {trial.rung: trial.std_steps for trial in trials}
    assert steps == {FLOOR: 64, SCAN: 24, FULL: 64, PUSH: 64, CONFIRM: 64, SHORT: 24}
    scanned = {(trial.recipe, trial.rate) for trial in trials if trial.rung == SCAN}
    assert scanned == set(product(found.scanned, found.rates))


def test_moves_of_layers_and_ranks_are_declared_only_where_the_section_allows_them():
    found = space(moves=["rate x2"])
    assert not found.moves
    pushed = [trial for trial in declared(found) if trial.rung == PUSH]
    assert {trial.rate for trial in pushed} == {1e-3, 2e-3, 4e-3, 8e-3}
    assert not [trial for trial in declared(space(moves=[])) if trial.rung == PUSH]
    assert set(MOVES) >= {move for _, move in space().moves}
