"""One plan of batches for every arm: the same examples in the same order, and little padding."""

import pytest

from aletheia.errors import UserError
from aletheia.study.arms import PLAN_LENGTH_FACTOR, steps_of_plan
from aletheia.training.batch_plan import batches_payload, first_batches, plan_batches, split_into_micro_batches
from aletheia.training.encoded_rows import EncodedRows

LENGTHS = [(7 * i) % 23 + 1 for i in range(40)]


def plan(lengths=LENGTHS, steps=5, batch_size=3, accumulation=2, seed=42):
    return plan_batches(lengths, steps=steps, batch_size=batch_size, accumulation=accumulation, seed=seed)


def test_a_longer_plan_begins_with_the_shorter_one():
    assert plan(steps=11)[: len(plan())] == plan()


def test_a_plan_has_whole_micro_batches_and_repeats_nothing_within_an_epoch():
    found = plan(LENGTHS[:10], steps=9, accumulation=3)  # 10 examples give three micro-batches of 3, one step, an epoch
    assert len(found) == 27
    assert {len(micro) for micro in found} == {3}
    epochs = [{i for micro in found[start : start + 3] for i in micro} for start in range(0, 27, 3)]
    assert {len(epoch) for epoch in epochs} == {9}
    assert found[:3] != found[3:6]


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


def test_too_few_rows_for_a_batch_is_one_sentence():
    with pytest.raises(UserError, match=r"has 2 usable rows, fewer than training\.batch_size=3"):
        plan([1, 2])


@pytest.mark.parametrize(
    ("arm", "steps"),
    [
        ({}, PLAN_LENGTH_FACTOR * 200),
        ({"extra_steps_percent": 25}, PLAN_LENGTH_FACTOR * 200),
        ({"extra_steps_percent": 400}, 1000),
    ],
)
def test_the_plan_has_room_for_arms_that_come_later(arm, steps):
    shape = {"steps": 200, "batch_size": 4, "accumulation": 2}
    assert steps_of_plan(shape, shape, arm) == steps


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
    assert found["examples"] == 40


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
