"""Randomisation tests: p by hand, their size under exchangeability, and several of them by going through all cases."""

import itertools

import numpy as np
import pytest

from aletheia.inference.randomisation import Randomisation, combined_test, randomisation_test


def test_the_best_of_twenty_draws_has_one_in_twenty_one():
    found = randomisation_test(1.0, [1.1 + i / 100 for i in range(20)])
    assert (found.rank, found.draws) == (1, 20)
    assert found.p == found.smallest_p == 1 / 21


def test_the_worst_has_one():
    assert randomisation_test(9.0, [float(i) for i in range(5)]).p == 1.0


def test_an_equal_draw_counts_against_the_choice():
    found = randomisation_test(1.0, [1.0, 2.0, 3.0])
    assert (found.p, found.p_worse) == (2 / 4, 4 / 4)


@pytest.mark.parametrize("draws", [[], [1.0, float("nan")]])
def test_missing_values_are_refused(draws):
    with pytest.raises(ValueError, match="finite values and one draw"):
        randomisation_test(1.0, draws)


@pytest.mark.parametrize("rounded", [None, 1])
def test_exchangeable_choices_are_called_better_at_most_in_a_share_alpha(rounded):
    """With ties (rounded losses) less often; without them each place is equally likely, so p is exactly uniform."""
    generator = np.random.default_rng(1)
    losses = generator.normal(size=(4000, 20))
    losses = losses if rounded is None else losses.round(rounded)
    p = np.array([randomisation_test(row[0], row[1:].tolist()).p for row in losses])
    for alpha in (0.05, 0.1, 0.5):
        assert (p <= alpha).mean() <= alpha + 3 * (alpha * (1 - alpha) / len(p)) ** 0.5
    if rounded is None:
        assert (p <= 0.5).mean() == pytest.approx(0.5, abs=0.03)


def _test(rank: int, draws: int) -> Randomisation:
    return Randomisation(draws, rank, draws + 2 - rank)


@pytest.mark.parametrize("ranks", [(1, 1, 1), (1, 3, 2), (4, 5, 7), (2, 2, 6)])
def test_several_models_together_are_counted_case_by_case(ranks):
    sizes = (3, 4, 6)  # draws of each model
    seen = sum(rank / (size + 1) for rank, size in zip(ranks, sizes, strict=True))
    cases = list(itertools.product(*(range(1, size + 2) for size in sizes)))
    as_low = sum(sum(r / (n + 1) for r, n in zip(case, sizes, strict=True)) <= seen + 1e-12 for case in cases)
    found = combined_test([_test(rank, size) for rank, size in zip(ranks, sizes, strict=True)])
    assert found.p == pytest.approx(as_low / len(cases), abs=1e-15)
    as_high = sum(sum(r / (n + 1) for r, n in zip(case, sizes, strict=True)) >= seen - 1e-12 for case in cases)
    assert found.p_worse == pytest.approx(as_high / len(cases), abs=1e-15)
    assert found.smallest_p == 1 / len(cases)
    assert found.mean_normalised_rank == pytest.approx(seen / 3)


def test_one_model_together_is_itself():
    assert combined_test([_test(3, 20)]).p == 3 / 21


@pytest.mark.slow
def test_fourteen_models_with_different_numbers_of_draws_are_combined():
    found = combined_test([_test(1 + i % 3, 20 - i % 4) for i in range(14)])
    assert 0 < found.smallest_p < found.p < 1e-6
