"""Exact randomisation tests: one choice among random draws, and several such tests together, over plain arrays.

If the choice were one more random draw, each place among the R + 1 would be equally likely. So the test needs no
distribution of losses, and its p-value is exact: at most α in a share α of such cases, whatever R is.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Randomisation:
    """One choice among random draws.

    Attributes
    ----------
    draws
        R.
    rank
        Place of the choice among the R + 1, from 1 (the lowest value); draws with an equal value stand before it.
    p, smallest_p
        rank / (R + 1), and the smallest that R draws can give, 1 / (R + 1).
    """

    draws: int
    rank: int
    p: float
    smallest_p: float


@dataclass(frozen=True)
class CombinedRandomisation:
    """Several randomisation tests together.

    Attributes
    ----------
    n
        Number of tests.
    mean_normalised_rank
        Mean of rank / (R + 1); (R + 2) / (2R + 2), about one half, is expected of random draws.
    p, smallest_p
        Of a sum of normalised ranks as low as this one or lower, and of the lowest sum that there is.
    """

    n: int
    mean_normalised_rank: float
    p: float
    smallest_p: float


def randomisation_test(chosen: float, draws: Sequence[float]) -> Randomisation:
    """Test whether a choice has a lower value than random draws have; one-sided.

    p = (1 + #{draws ≤ chosen}) / (R + 1), Phipson and Smyth (2010), "Permutation p-values should never be zero", Stat.
    Appl. Genet. Mol. Biol. 9(1):39: the choice itself counts, and ties count against it.

    Parameters
    ----------
    chosen
        Its value, such as a held-out loss in nats.
    draws
        Those of R random draws.
    """
    if not draws or not all(map(math.isfinite, [chosen, *draws])):
        raise ValueError(f"expected finite values and one draw or more, found {chosen} and {list(draws)}")
    rank, places = 1 + sum(draw <= chosen for draw in draws), len(draws) + 1
    return Randomisation(draws=len(draws), rank=rank, p=rank / places, smallest_p=1 / places)


def combined_test(tests: Sequence[Randomisation]) -> CombinedRandomisation:
    """Combine independent tests by the sum of their normalised ranks, by its exact distribution.

    The sum of rank / (R + 1) is that of the p-values (Edgington 1972, "An additive method for combining probability
    values from independent experiments", J. Psychol. 80:351). His distribution is of continuous p-values; here each is
    uniform on 1/(R + 1) … 1, and the distribution of the sum is their convolution, counted in whole numbers.

    Parameters
    ----------
    tests
        Of different models; each may have another number of draws.
    """
    if not tests:
        raise ValueError("expected one test or more, found none")
    unit = math.lcm(*(test.draws + 1 for test in tests))
    ways = {0: 1}  # by sum, in 1 / unit
    for test in tests:
        step, longer = unit // (test.draws + 1), {}
        for total, count in ways.items():
            for rank in range(1, test.draws + 2):
                longer[total + rank * step] = longer.get(total + rank * step, 0) + count
        ways = longer
    seen = sum(test.rank * (unit // (test.draws + 1)) for test in tests)
    cases = math.prod(test.draws + 1 for test in tests)
    as_low = sum(count for total, count in ways.items() if total <= seen)
    return CombinedRandomisation(len(tests), seen / unit / len(tests), p=as_low / cases, smallest_p=1 / cases)
