"""What follows from rows: how many are set apart, how long a sequence may be, what a step is."""

import pytest

from aletheia.errors import UserError
from aletheia.fit.choices import choose
from surveyed_rows import options, surveyed


@pytest.mark.parametrize(("rows", "held_out"), [(20, 4), (50, 10), (300, 45), (1_000, 100), (5_000, 128)])
def test_a_fifth_to_a_tenth_of_the_rows_is_held_out_and_at_most_128(rows, held_out):
    none, quick = (choose(options(search=search), surveyed(rows)) for search in ("none", "quick"))
    assert (none.held_out, none.test, none.train_rows) == (held_out, None, rows - held_out)
    assert (quick.held_out, quick.test, quick.train_rows) == (held_out, held_out, rows - 2 * held_out)


@pytest.mark.parametrize("rows", [20, 45, 90, 300, 2_000])
def test_an_epoch_has_some_steps_and_a_run_a_warm_up_shorter_than_itself(rows):
    found = choose(options(), surveyed(rows))
    size = found.batch_size * found.accumulation
    assert found.steps == found.train_rows // size
    assert found.steps >= 16 or size == 2
    assert 0 <= found.warmup_steps < found.steps
    assert found.timing_warmup_steps < found.steps
    assert found.curve_every is None or found.curve_every < found.steps


def test_fewer_than_one_row_in_twenty_is_cut():
    found = surveyed(lengths=tuple(range(1, 401)))
    limit = choose(options(), found).max_tokens
    assert limit % 32 == 0
    assert found.cut(limit) < 0.05 <= found.cut(limit - 32)


@pytest.mark.parametrize(("context", "limit"), [(None, 1024), (4096, 1024), (128, 128)])
def test_long_rows_are_cut_at_a_bound_or_where_the_model_ends(context, limit):
    long = surveyed(lengths=(5_000,) * 10)
    found = choose(options(), type(long)(long.rows, long.prompt, long.lengths, context))
    assert found.max_tokens == limit
    assert "100.0% are cut" in found.reasons["max_tokens"]


def test_unknown_lengths_take_the_default():
    assert choose(options(), surveyed(lengths=None)).max_tokens == 512


def test_a_short_run_has_the_higher_rate_and_a_long_one_the_papers():
    assert choose(options(), surveyed(300)).rates == (1e-3,)
    assert choose(options(epochs=10), surveyed(300)).rates == (5e-4,)


def test_too_few_rows_to_train_on_are_one_sentence():
    with pytest.raises(UserError, match=r"rows\.jsonl: expected at least 8 rows to train on, found 4 of 24 once 20"):
        choose(options(held_out=20), surveyed(24))


def test_rows_that_are_all_the_same_cannot_be_held_out():
    twins = surveyed(100)
    same = type(twins)([twins.rows[0]] * 100, twins.prompt, twins.lengths, None)
    with pytest.raises(UserError, match=r"rows\.jsonl: held_out: 15 asks for more rows than can be held out"):
        choose(options(), same)


def test_a_run_of_fewer_steps_than_say_anything_is_refused_with_what_would_do():
    with pytest.raises(UserError, match=r"--epochs: expected at least 4 steps, found 3: 0\.02 of 255 ") as said:
        choose(options(epochs=0.02), surveyed(300))
    enough = float(str(said.value).rpartition("give ")[2].split()[0])
    assert choose(options(epochs=enough), surveyed(300)).steps >= 4
