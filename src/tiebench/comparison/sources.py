"""The parts of a difference's variance: what the seeds give, what the text gives, and both together."""

import math
from typing import TYPE_CHECKING, Literal, NamedTuple

from tiebench.comparison.student import find_t_freedom, find_t_quantile

if TYPE_CHECKING:
    import numpy as np

CONFIDENCE = 0.95
SeedRule = Literal["welch", "pooled", "paired"]


class SeedDeviation(NamedTuple):
    """The standard deviation over seeds of a recipe's nats per token, known from other records of it."""

    deviation: float
    degrees_of_freedom: float


class SeedVariance(NamedTuple):
    """V_seed and V_rest; `bounding_freedom` is what bounds the headline, see `combine_sources`."""

    variance: float
    rest: float
    degrees_of_freedom: float
    bounding_freedom: float


def combine_sources(by_seed: SeedVariance, text: float, text_freedom: float) -> tuple[float, float]:
    """The error from both sources, and its degrees of freedom: Satterthwaite's (1946), but never so many that the
    interval gets narrower than that of one source alone.

    Satterthwaite takes the estimated shares of the sources for the true ones. With two seeds, a large share of the
    seeds is often estimated as a small one; the many blocks of the text then give too many degrees of freedom, and the
    95 % interval covers 92 to 93 % where the sources are equally large. With the bound it covers 94 to 97 % (the tests
    show every cell). From five seeds on the bound hardly ever matters. Welch's interval of two seeds in each arm covers
    97.7 % by itself, at 1 to 2 degrees of freedom; there the bound is the one of arms that vary alike, at 2.

    The interval of seeds alone keeps Welch's degrees of freedom, though it covers 97.7 % at two seeds of arms that vary
    alike: where one arm varies ten times as much as the other it covers 93.7 %, so that it cannot be narrower. There
    Welch's other estimate (1947), with f + 2 for f and 2 taken off, covers 91.6 %, and 2 degrees of freedom 87.6 %
    (200,000 simulations of each). `pooled` covers 95 % where arms are declared to vary alike.
    """
    variance = max(by_seed.variance + text - by_seed.rest, by_seed.variance, text)
    if not variance:
        return 0.0, by_seed.degrees_of_freedom
    share = by_seed.variance / variance
    freedom = 1 / (share**2 / by_seed.degrees_of_freedom + (1 - share) ** 2 / text_freedom)
    level = (1 + CONFIDENCE) / 2
    singles = (share, by_seed.bounding_freedom), (text / variance, text_freedom)
    least = max(math.sqrt(part) * find_t_quantile(level, own) for part, own in singles)
    if least > find_t_quantile(level, freedom):
        freedom = find_t_freedom(level, least)
    return math.sqrt(variance), freedom


def vary_seeds(
    ours: "np.ndarray", baseline: "np.ndarray", weights: "np.ndarray", rule: SeedRule, known: SeedDeviation | None
) -> SeedVariance | None:
    """V_seed, V_rest and the degrees of freedom of V_seed; None where nothing is known of the variation of training."""
    if rule == "paired":
        return _vary_arm(ours - baseline, weights)
    if rule == "welch" and not known:
        first, second = (_vary_arm(arm, weights) for arm in (ours, baseline))
        return _add_arms(first, second) if first and second else None
    sums = [_square_seeds(arm, weights) for arm in (ours, baseline)]
    own_freedom = len(ours) + len(baseline) - 2
    known = known or SeedDeviation(0.0, 0)
    freedom = own_freedom + known.degrees_of_freedom
    if not freedom:
        return None
    of_seeds, of_rest = (sum(values) for values in zip(*sums, strict=True))
    per_run = 1 / len(ours) + 1 / len(baseline)
    variance = (of_seeds + known.deviation**2 * known.degrees_of_freedom) / freedom * per_run
    return SeedVariance(variance, of_rest / own_freedom * per_run if own_freedom else 0.0, freedom, freedom)


def _vary_arm(values: "np.ndarray", weights: "np.ndarray") -> SeedVariance | None:
    """What the seeds of one arm give to the variance of its mean."""
    num_seeds = len(values)
    if num_seeds < 2:
        return None
    of_seeds, of_rest = (square / (num_seeds - 1) / num_seeds for square in _square_seeds(values, weights))
    return SeedVariance(of_seeds, of_rest, num_seeds - 1, num_seeds - 1)


def _add_arms(first: SeedVariance, second: SeedVariance) -> SeedVariance:
    """Independent arms, with Welch's degrees of freedom."""
    variance = first.variance + second.variance
    squares = sum(arm.variance**2 / arm.degrees_of_freedom for arm in (first, second))
    most = first.degrees_of_freedom + second.degrees_of_freedom
    freedom = variance**2 / squares if squares else most
    two_seeds_each = first.degrees_of_freedom == second.degrees_of_freedom == 1
    return SeedVariance(variance, first.rest + second.rest, freedom, most if two_seeds_each else freedom)


def _square_seeds(values: "np.ndarray", weights: "np.ndarray") -> tuple[float, float]:
    """Sums of squares of the seeds' means over the text, and of what is left of the blocks once these are taken out."""
    residuals = values - values.mean(axis=0)
    by_seed = residuals @ weights
    of_rest = sum_squares(residuals - by_seed[:, None], weights) if len(weights) > 1 else 0.0
    return float(by_seed @ by_seed), of_rest


def sum_squares(deviations: "np.ndarray", weights: "np.ndarray") -> float:
    """B / (B - 1) sum w^2 x^2: the variance of a weighted mean of blocks, for one row the usual one of a ratio."""
    num_blocks = len(weights)
    return float(((deviations * weights) ** 2).sum()) * num_blocks / (num_blocks - 1)


def count_free_blocks(weights: "np.ndarray") -> float:
    """Degrees of freedom of the text's variance: blocks less one if they are equally long, else fewer, at least 1."""
    squares = weights**2
    return max(1.0, float(squares.sum() ** 2 / (squares**2).sum()) - 1)
