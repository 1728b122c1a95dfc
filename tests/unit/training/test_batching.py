"""One plan of batches for every arm: the same examples in the same order, and little padding."""

import pytest

from aletheia.errors import UserError
from aletheia.seeded_order import seeded_order
from aletheia.study.arms import PLAN_LENGTH_FACTOR, plan_needs
from aletheia.study.run_length import EPOCHS, STEPS, steps_of, steps_of_plan_section
from aletheia.training.batch_plan import (
    batches_payload,
    draw_order,
    first_batches,
    plan_batches,
    split_into_micro_batches,
)
from aletheia.training.encoded_rows import EncodedRows

LENGTHS = [(7 * i) % 23 + 1 for i in range(40)]


def plan(lengths=LENGTHS, steps=5, batch_size=3, accumulation=2, seed=42):
    return plan_batches(lengths, steps=steps, batch_size=batch_size, accumulation=accumulation, seed=seed)


def test_a_longer_plan_begins_with_the_shorter_one():
    assert plan(steps=11)[: len(plan())] == plan()


# Examples, batch size, accumulation: with and without a remainder, one step an epoch, micro-batches of one.
SHAPES = [(40, 3, 2), (40, 2, 2), (10, 3, 3), (9, 1, 4), (23, 4, 1), (7, 7, 1), (16, 1, 1), (31, 5, 3)]


@pytest.mark.parametrize(("examples", "batch_size", "accumulation"), SHAPES)
def test_a_later_epoch_has_the_micro_batches_of_the_first_in_another_order_of_steps(examples, batch_size, accumulation):
    steps = examples // (batch_size * accumulation)
    found = plan(LENGTHS[:examples], steps=4 * steps, batch_size=batch_size, accumulation=accumulation)
    of_steps = [tuple(map(tuple, found[at : at + accumulation])) for at in range(0, len(found), accumulation)]
    epochs = [of_steps[at : at + steps] for at in range(0, len(of_steps), steps)]
    assert [len(epoch) for epoch in epochs] == [steps] * 4
    assert {micro for step in of_steps for micro in step} == {micro for step in epochs[0] for micro in step}
    assert all(sorted(epoch) == sorted(epochs[0]) for epoch in epochs)
    # Of few steps two epochs may have one order by chance.
    assert steps < 5 or len({tuple(epoch) for epoch in epochs}) == 4
    drawn = [example for step in epochs[0] for micro in step for example in micro]
    assert len(set(drawn)) == len(drawn) == steps * batch_size * accumulation


@pytest.mark.parametrize(("examples", "batch_size", "accumulation"), SHAPES)
def test_the_first_epoch_is_one_permutation_without_the_rows_that_fill_no_step(examples, batch_size, accumulation):
    step_rows = batch_size * accumulation
    whole = examples // step_rows * step_rows
    found = draw_order(examples, 3 * whole, step_rows=step_rows, seed=42)
    assert found[:whole] == seeded_order(range(examples), seed="42:epoch0")[:whole]
    assert draw_order(examples, whole // 2, step_rows=step_rows, seed=42) == found[: whole // 2]
    assert draw_order(examples, whole + 1, step_rows=step_rows, seed=42) == found[: whole + 1]
    assert draw_order(examples, 2 * whole, step_rows=step_rows, seed=7) != found[: 2 * whole]


@pytest.mark.parametrize(("batch_size", "accumulation"), [(2, 2), (1, 2), (2, 1), (1, 1), (4, 1), (1, 4)])
def test_micro_batches_of_an_arm_whose_step_divides_the_plans_repeat_too(batch_size, accumulation):
    order = draw_order(40, 3 * 40, step_rows=8, seed=42)
    mine = split_into_micro_batches(order, LENGTHS, batch_size=batch_size, accumulation=accumulation)
    epochs = [sorted(mine[at : at + len(mine) // 3]) for at in range(0, len(mine), len(mine) // 3)]
    assert epochs == [epochs[0]] * 3


def test_a_plan_depends_on_its_seed_and_on_lengths_only_within_a_step():
    def by_step(found):
        return [sorted(i for micro in found[s : s + 2] for i in micro) for s in range(0, len(found), 2)]

    assert plan() == plan()
    assert plan(seed=1) != plan(seed=2)
    assert by_step(plan()) == by_step(plan([1] * 40))


def test_a_steps_examples_are_dealt_by_length():
    def padding(found):
        return sum(max(LENGTHS[i] for i in micro) - LENGTHS[j] for micro in found for j in micro)

    found = plan(steps=6)
    for step in range(0, 12, 2):
        assert max(LENGTHS[i] for i in found[step]) <= min(LENGTHS[i] for i in found[step + 1])
    assert padding(found) < 0.7 * padding(plan([1] * 40, steps=6))


def test_too_few_rows_for_an_optimiser_step_is_one_sentence():
    says = r"has 5 usable rows, fewer than an optimiser step needs \(.*batch_size · .*accumulation = 6\); lower one"
    with pytest.raises(UserError, match=says):
        plan(LENGTHS[:5])


@pytest.mark.parametrize(
    ("arm", "steps"),
    [
        ({}, PLAN_LENGTH_FACTOR * 200),
        ({"extra_steps_percent": 25}, PLAN_LENGTH_FACTOR * 200),
        ({"extra_steps_percent": 400}, 1000),
    ],
)
def test_the_plan_has_room_for_arms_that_come_later(arm, steps):
    shape = {"steps": 200, "epochs": None, "batch_size": 4, "accumulation": 2}
    assert plan_needs(shape, shape, arm) == {"steps": steps}


@pytest.mark.parametrize("examples", [24, 25, 31, 40, 97])
@pytest.mark.parametrize("base", [{STEPS: 5, EPOCHS: None}, {STEPS: None, EPOCHS: 0.4}])
@pytest.mark.parametrize("percent", [None, 30, 1000])
@pytest.mark.parametrize("epochs", [0.1, 0.5, 2, 2.5, 7])
def test_a_plan_is_long_enough_for_an_arm_of_epochs_in_any_shape(examples, base, percent, epochs):
    """By the slow way: the arm's own steps in its own shape, as its training counts them."""
    shape = {"batch_size": 4, "accumulation": 2}
    for batch_size, accumulation in ((4, 2), (1, 1), (3, 1), (2, 7), (3, 8)):
        own = {STEPS: None, EPOCHS: epochs, "batch_size": batch_size, "accumulation": accumulation}
        needs = plan_needs({**base, **shape}, own, {"extra_steps_percent": percent})
        steps = round(steps_of(own, examples) * (1 + (percent or 0) / 100))
        rows = steps_of_plan_section({**needs, **shape}, examples) * 8
        assert rows >= steps * batch_size * accumulation, (batch_size, accumulation)


@pytest.mark.parametrize(("epochs", "steps"), [(1, 5), (2, 10), (0.5, 2), (2.5, 12), (0.01, 1), (0.1, 1)])
def test_epochs_are_steps_of_the_rows_that_fill_one(epochs, steps):
    settings = {STEPS: None, EPOCHS: epochs, "batch_size": 4, "accumulation": 2}
    assert steps_of(settings, 47) == steps
    assert steps_of(settings, None) is None
    assert steps_of({**settings, STEPS: 3, EPOCHS: None}, None) == 3


def payload(steps=4):
    examples = [{"input_ids": [0] * n, "labels": [0] * n, "row": 2 * i} for i, n in enumerate(LENGTHS)]
    encoded = EncodedRows.from_examples(examples, [length for n in LENGTHS for length in (n, 0)], [])
    settings = {"batch_size": 2, "accumulation": 2}
    return batches_payload(encoded, model="tiny", seed=7, steps=steps, settings=settings)


def test_a_plan_names_rows_of_the_file_and_counts_its_tokens():
    found = payload()
    rows = [row for micro in found["rows"] for row in micro]
    assert all(row % 2 == 0 for row in rows)
    assert found["tokens"] == sum(LENGTHS[row // 2] for row in rows)
    assert found["tokens"] < found["padded_tokens"] < 1.5 * found["tokens"]
    assert (found["examples"], found["steps_an_epoch"]) == (40, 10)


def test_an_arm_reads_the_beginning_and_no_more_than_there_is():
    own = {"seed": 7, "settings": {"batch_size": 2, "accumulation": 2}}
    assert first_batches(payload(), steps=3, **own) == payload()["rows"][:6]
    with pytest.raises(UserError, match="expected a plan of at least 5 steps, found 4"):
        first_batches(payload(), steps=5, **own)


def test_a_plan_of_another_seed_is_one_sentence():
    with pytest.raises(UserError, match="expected a plan with seed 8, found 7; draw one anew"):
        first_batches(payload(), steps=3, seed=8, settings={"batch_size": 2, "accumulation": 2})


@pytest.mark.parametrize("shape", [(1, 1), (1, 2), (4, 2), (2, 1), (8, 1)])
def test_an_arm_of_another_shape_cuts_the_same_order_of_rows_otherwise(shape):
    batch_size, accumulation = shape
    settings = {"batch_size": batch_size, "accumulation": accumulation}
    size, plan = batch_size * accumulation, payload(steps=6)
    lengths = {2 * i: n for i, n in enumerate(LENGTHS)}
    (order,) = first_batches(plan, steps=24 // size, seed=7, settings=settings)
    assert order == plan["order"]
    micro = split_into_micro_batches(order, lengths, **settings)
    assert {len(rows) for rows in micro} == {batch_size}
    for step in range(24 // size):
        mine = [row for rows in micro[step * accumulation : (step + 1) * accumulation] for row in rows]
        assert sorted(mine) == sorted(plan["order"][step * size : (step + 1) * size])
        assert [lengths[row] for row in mine] == sorted(lengths[row] for row in mine)
    with pytest.raises(UserError, match=f"of at least {24 // size + 1} steps, found {24 // size}; "):
        first_batches(plan, steps=24 // size + 1, seed=7, settings=settings)


def test_the_plans_own_shape_is_its_order_cut():
    plan, lengths = payload(steps=6), {2 * i: n for i, n in enumerate(LENGTHS)}
    assert split_into_micro_batches(plan["order"], lengths, batch_size=2, accumulation=2) == plan["rows"]


def test_a_plan_of_an_earlier_version_serves_arms_of_its_shape_alone():
    plan = {key: value for key, value in payload().items() if key != "order"}
    assert first_batches(plan, steps=3, seed=7, settings={"batch_size": 2, "accumulation": 2}) == plan["rows"][:6]
    with pytest.raises(UserError, match="found an earlier one; draw it anew"):
        first_batches(plan, steps=3, seed=7, settings={"batch_size": 4, "accumulation": 1})
