"""A sum of things measured at several seeds, and how sure it is."""

import math
from collections.abc import Mapping
from typing import NamedTuple

from tiebench.claims.contrasts import SignedArms
from tiebench.comparison.bounds import estimate_mean

NUM_GROUPS = 50  # of words, each left out once (`analysis.jackknife`): one degree of freedom less


class SumEstimate(NamedTuple):
    """A mean over seeds, its standard error and degrees of freedom; both None from one seed."""

    value: float
    error: float | None
    freedom: float | None


def estimate_sum(
    contrast: SignedArms,
    found: Mapping[str, Mapping[int, float]],
    *,
    paired: bool = False,
    sampling_error: float | None = None,
) -> SumEstimate:
    """The weighted sum of means over seeds. `found` is name to seed to figure, and no name may lack one.

    The seeds of two arms are independent runs: variances add up, with Welch's degrees of freedom (Welch 1947). `paired`
    is for figures from the same runs at each seed, such as two pairs of the same embeddings: the sum is taken
    seed by seed. `sampling_error` is the standard error that other words would give; all seeds share the words, so more
    seeds do not lower it.
    """
    if paired:
        seeds = sorted(set.intersection(*(set(values) for values in found.values())))
        sums = [math.fsum(weight * found[name][seed] for name, weight in contrast.items()) for seed in seeds]
        found, contrast = {"sum": dict(zip(seeds, sums, strict=True))}, {"sum": 1}
    contrast = {name: weight for name, weight in contrast.items() if weight}
    value = math.fsum(weight * _average(found[name]) for name, weight in contrast.items())
    if any(len(found[name]) < 2 for name in contrast):
        return SumEstimate(value, None, None)
    parts = []
    for name, weight in contrast.items():
        _, error, freedom = estimate_mean(list(found[name].values()))
        parts.append(((weight * error) ** 2, float(freedom)))
    if sampling_error is not None:
        parts.append((sampling_error**2, NUM_GROUPS - 1.0))
    variance, squares = sum(part for part, _ in parts), sum(part**2 / freedom for part, freedom in parts)
    return SumEstimate(value, math.sqrt(variance), variance**2 / squares if squares else sum(free for _, free in parts))


def _average(values: Mapping[int, float]) -> float:
    return math.fsum(values.values()) / len(values)
