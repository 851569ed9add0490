"""Tests for claims: an order by its one-sided bound, a value by two one-sided tests, families by Holm.

A quantity comes with its standard error and the degrees of freedom of that, as `comparison.variance` gives them.
"""

import math
from collections.abc import Sequence

from tiebench.comparison.sources import CONFIDENCE
from tiebench.comparison.student import find_t_chance, find_t_quantile
from tiebench.experiment.block import Block


class OrderTest(Block):
    """Whether a difference is below 0: `p_below` speaks for it when small, `p_above` for the opposite.

    `low` and `high` are one-sided 95 % bounds, each by itself: the order holds at 5 % when `high` is below 0.
    """

    p_below: float
    p_above: float
    low: float
    high: float


class ValueTest(Block):
    """Whether a quantity lies within a margin of a published one.

    `p_within` is that of two one-sided tests (Schuirmann 1987): small when the quantity is inside. `p_outside` is
    small when it is beyond the margin. Neither is small where the quantity is not known well enough to say.
    `low` to `high` is the 90 % interval that lies inside the margin exactly when `p_within` is below 5 %.
    """

    p_within: float
    p_outside: float
    low: float
    high: float


def check_order(difference: float, *, error: float, degrees_of_freedom: float) -> OrderTest:
    """One-sided t tests of a difference against 0, and its bounds. Raises ValueError for a negative error."""
    reach = _find_reach(error, degrees_of_freedom)
    return OrderTest(
        p_below=_upper_tail(-difference, error, degrees_of_freedom),
        p_above=_upper_tail(difference, error, degrees_of_freedom),
        low=difference - reach,
        high=difference + reach,
    )


def check_value(
    measured: float, *, published: float, margin: float, error: float, degrees_of_freedom: float
) -> ValueTest:
    """Test a value, or a difference, against a published one. All in the same unit.

    Raises ValueError for a margin that is not positive and a negative error.
    """
    if not margin > 0:
        raise ValueError(f"a margin must be positive, found {margin}")
    gap = measured - published
    reach = _find_reach(error, degrees_of_freedom)
    tails = [_upper_tail(inside, error, degrees_of_freedom) for inside in (margin - gap, margin + gap)]
    beyond = [_upper_tail(abs(gap) + side, error, degrees_of_freedom) for side in (-margin, margin)]
    return ValueTest(p_within=max(tails), p_outside=min(1.0, sum(beyond)), low=measured - reach, high=measured + reach)


def adjust_holm(p_values: Sequence[float]) -> list[float]:
    """Holm's step-down adjustment: reject where the adjusted p is below the level of the whole family (Holm 1979)."""
    adjusted, highest = [0.0] * len(p_values), 0.0
    order = sorted(range(len(p_values)), key=lambda index: p_values[index])
    for rank, index in enumerate(order):
        highest = max(highest, min(1.0, (len(p_values) - rank) * p_values[index]))
        adjusted[index] = highest
    return adjusted


def estimate_mean(values: Sequence[float]) -> tuple[float, float, int]:
    """Mean over seeds, its standard error, and its degrees of freedom. Raises ValueError for fewer than two values."""
    deviation = sample_deviation(values)
    return math.fsum(values) / len(values), deviation / math.sqrt(len(values)), len(values) - 1


def sample_deviation(values: Sequence[float]) -> float:
    """The standard deviation with n - 1. Raises ValueError for fewer than two values."""
    if len(values) < 2:
        raise ValueError("a sample deviation needs at least two values")
    mean = math.fsum(values) / len(values)
    return math.sqrt(math.fsum((value - mean) ** 2 for value in values) / (len(values) - 1))


def _find_reach(error: float, degrees_of_freedom: float) -> float:
    return find_t_quantile(CONFIDENCE, degrees_of_freedom) * error


def _upper_tail(distance: float, error: float, degrees_of_freedom: float) -> float:
    """P(T > distance / error). Where the error is 0, a distance above 0 is certain."""
    if error < 0:
        raise ValueError(f"a standard error is not negative, found {error}")
    if error == 0:
        return 1.0 if distance <= 0 else 0.0
    return find_t_chance(-distance / error, degrees_of_freedom)
