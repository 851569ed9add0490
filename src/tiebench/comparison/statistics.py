"""How sure a difference is: intervals and p values, always on paired differences of nats per token."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np

CONFIDENCE = 0.95
BLOCK_TOKENS = 200
NUM_RESAMPLES = 10_000
_RESAMPLES_AT_ONCE = 500


@dataclass(frozen=True)
class Estimate:
    """A difference with its 95 % interval and its two-sided p value."""

    difference: float
    low: float
    high: float
    p: float


def estimate_over_seeds(differences: Sequence[float]) -> Estimate:
    """Paired t interval and test over seeds, n - 1 degrees of freedom (Student 1908).

    Raises ValueError for fewer than two differences.
    """
    from scipy.special import stdtr, stdtrit

    num_seeds = len(differences)
    if num_seeds < 2:
        raise ValueError("a paired t test needs at least two seeds")
    mean = math.fsum(differences) / num_seeds
    error = sample_deviation(differences) / math.sqrt(num_seeds)
    reach = float(stdtrit(num_seeds - 1, (1 + CONFIDENCE) / 2)) * error
    p = 2 * float(stdtr(num_seeds - 1, -abs(mean) / error)) if error else _p_without_spread(mean)
    return Estimate(mean, mean - reach, mean + reach, p)


def estimate_over_text(difference: float, *, differences_by_token: "np.ndarray") -> Estimate:
    """Normal interval and test around a difference, with the standard error of a circular block bootstrap.

    Neighbouring tokens are not independent, so whole blocks are drawn (Politis & Romano 1992). Deterministic: the
    same differences, shape (tokens,), give the same interval.
    """
    from scipy.special import ndtr, ndtri

    error = bootstrap_error(differences_by_token)
    reach = float(ndtri((1 + CONFIDENCE) / 2)) * error
    p = 2 * float(ndtr(-abs(difference) / error)) if error else _p_without_spread(difference)
    return Estimate(difference, difference - reach, difference + reach, p)


def choose_block_tokens(num_tokens: int) -> int:
    """200 tokens, or a twentieth of a short text."""
    return max(1, min(BLOCK_TOKENS, num_tokens // 20))


def bootstrap_error(values: "np.ndarray") -> float:
    """The standard error of the mean of a series, shape (tokens,), by the circular block bootstrap.

    10,000 resamples; a block that runs past the end goes on at the beginning, so every token counts alike.
    """
    import numpy as np

    num_tokens = len(values)
    block_tokens = choose_block_tokens(num_tokens)
    num_blocks = math.ceil(num_tokens / block_tokens)
    block_means = _circular_means(np.asarray(values, dtype=np.float64), window=block_tokens)
    random = np.random.default_rng(0)
    means = [
        block_means[random.integers(num_tokens, size=(_RESAMPLES_AT_ONCE, num_blocks))].mean(axis=1)
        for _ in range(NUM_RESAMPLES // _RESAMPLES_AT_ONCE)
    ]
    return float(np.concatenate(means).std(ddof=1))


def adjust_holm(p_values: Sequence[float]) -> list[float]:
    """Holm's step-down adjustment: reject where the adjusted p is below the level of the whole family (Holm 1979)."""
    adjusted, highest = [0.0] * len(p_values), 0.0
    order = sorted(range(len(p_values)), key=lambda index: p_values[index])
    for rank, index in enumerate(order):
        highest = max(highest, min(1.0, (len(p_values) - rank) * p_values[index]))
        adjusted[index] = highest
    return adjusted


def sample_deviation(values: Sequence[float]) -> float:
    """The standard deviation with n - 1. Raises ValueError for fewer than two values."""
    if len(values) < 2:
        raise ValueError("a sample deviation needs at least two values")
    mean = math.fsum(values) / len(values)
    return math.sqrt(math.fsum((value - mean) ** 2 for value in values) / (len(values) - 1))


def _circular_means(values: "np.ndarray", *, window: int) -> "np.ndarray":
    import numpy as np

    sums = np.concatenate([[0.0], np.cumsum(np.concatenate([values, values[: window - 1]]))])
    return (sums[window:] - sums[:-window]) / window


def _p_without_spread(difference: float) -> float:
    """Without any spread a difference is certain, and its absence too."""
    return 0.0 if difference else 1.0
