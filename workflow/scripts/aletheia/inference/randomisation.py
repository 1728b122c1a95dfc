"""Exact randomisation tests: one choice among random draws, and several such tests together, over plain arrays.

If the choice were one more random draw, each place among the R + 1 would be equally likely. So the test needs no
distribution of losses, and its p-value is exact: at most α in a share α of such cases, whatever R is.
"""

from __future__ import annotations

import math
import operator
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
    rank_from_worst
        The same from the highest value, where equal draws count the other way.
    """

    draws: int
    rank: int
    rank_from_worst: int

    @property
    def p(self) -> float:
        """The share of places as low as this one, rank / (R + 1): a draw more would have one of them so often."""
        return self.rank / (self.draws + 1)

    @property
    def p_worse(self) -> float:
        """The share of places as high as this one."""
        return self.rank_from_worst / (self.draws + 1)

    @property
    def smallest_p(self) -> float:
        """The smallest p that R draws can give, 1 / (R + 1)."""
        return 1 / (self.draws + 1)


@dataclass(frozen=True)
class CombinedRandomisation:
    """Several randomisation tests together.

    Attributes
    ----------
    n
        Number of tests.
    mean_normalised_rank
        Mean of rank / (R + 1); (R + 2) / (2R + 2), about one half, is expected of random draws.
    p, p_worse, smallest_p
        Of a sum of normalised ranks as low as this one or lower, of one as high or higher, and of the lowest sum that
        there is.
    """

    n: int
    mean_normalised_rank: float
    p: float
    p_worse: float
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
    lower, higher = (sum(compare(draw, chosen) for draw in draws) for compare in (operator.le, operator.ge))
    return Randomisation(draws=len(draws), rank=1 + lower, rank_from_worst=1 + higher)


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
    places = [test.draws + 1 for test in tests]
    mean = sum(test.p for test in tests) / len(tests)
    tails = [_tail(ranks, places) for ranks in zip(*((t.rank, t.rank_from_worst) for t in tests), strict=True)]
    return CombinedRandomisation(len(tests), mean, *tails, smallest_p=1 / math.prod(places))


def _tail(ranks: Sequence[int], places: Sequence[int]) -> float:
    """Return the chance that the sum of uniform ranks, each over its number of places, is at most the one seen."""
    unit = math.lcm(*places)
    ways = {0: 1}  # by sum, in 1 / unit
    for own in places:
        longer: dict[int, int] = {}
        for total, count in ways.items():
            for rank in range(1, own + 1):
                reached = total + rank * (unit // own)
                longer[reached] = longer.get(reached, 0) + count
        ways = longer
    seen = sum(rank * (unit // own) for rank, own in zip(ranks, places, strict=True))
    return sum(count for total, count in ways.items() if total <= seen) / math.prod(places)
