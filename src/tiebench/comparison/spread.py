"""A mean over seeds, and how far they stand apart."""

import math
from collections.abc import Iterable

from tiebench.comparison.bounds import sample_deviation
from tiebench.experiment.block import Block


class Spread(Block):
    """A mean over seeds and the sample standard deviation (None with one seed)."""

    mean: float
    deviation: float | None
    num_seeds: int


def measure_spread(values: Iterable[float | None]) -> Spread | None:
    """The mean over seeds; None when a seed has no value, for a mean over fewer seeds would be another figure."""
    asked = list(values)
    found = [value for value in asked if value is not None]
    if not found or len(found) < len(asked):
        return None
    deviation = sample_deviation(found) if len(found) > 1 else None
    return Spread(mean=math.fsum(found) / len(found), deviation=deviation, num_seeds=len(found))
