"""Tests for claims: an order by its one-sided bound, a value by two one-sided tests, families by Holm.

A quantity comes with its error (`comparison.estimate_error`): of one look, or what holds however often one looks.
"""

import math
from collections.abc import Sequence

from tiebench.comparison.estimate_error import EstimateError
from tiebench.comparison.sources import CONFIDENCE
from tiebench.experiment.block import Block


class OrderTest(Block):
    """Whether a difference is below 0: `p_below` speaks for it when small, `p_above` for the opposite.

    `low` and `high` are one-sided 95 % bounds, each by itself: the order holds at 5 % when `high` is below 0. They are
    None where so few runs exclude nothing.
    """

    p_below: float
    p_above: float
    low: float | None
    high: float | None


class ValueTest(Block):
    """Whether a quantity lies within a margin of a published one.

    `p_within` is that of two one-sided tests (Schuirmann 1987): small when the quantity is inside. `p_outside` is
    small when it is beyond the margin. Neither is small where the quantity is not known well enough to say.
    `low` to `high`, each end a one-sided 95 % bound, lies inside the margin exactly when `p_within` is below 5 %,
    and is None where so few runs exclude nothing.
    """

    p_within: float
    p_outside: float
    low: float | None
    high: float | None


def check_order(difference: float, *, error: EstimateError) -> OrderTest:
    """One-sided tests of a difference against 0, and its bounds. Raises ValueError for a negative error."""
    low, high = _find_bounds(difference, error)
    return OrderTest(p_below=error.find_p(-difference), p_above=error.find_p(difference), low=low, high=high)


def check_value(measured: float, *, published: float, margin: float, error: EstimateError) -> ValueTest:
    """Test a value, or a difference, against a published one. All in the same unit.

    Raises ValueError for a margin that is not positive and a negative error.
    """
    if not margin > 0:
        raise ValueError(f"a margin must be positive, found {margin}")
    gap = measured - published
    low, high = _find_bounds(measured, error)
    tails = [error.find_p(inside) for inside in (margin - gap, margin + gap)]
    beyond = [error.find_p(abs(gap) + side) for side in (-margin, margin)]
    return ValueTest(p_within=max(tails), p_outside=min(1.0, sum(beyond)), low=low, high=high)


def _find_bounds(value: float, error: EstimateError) -> tuple[float | None, float | None]:
    reach = error.find_reach(1 - CONFIDENCE)
    return (value - reach, value + reach) if math.isfinite(reach) else (None, None)


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
