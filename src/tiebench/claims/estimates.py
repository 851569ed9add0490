"""A sum of things measured at several seeds, and how sure it is."""

import math
from collections.abc import Mapping
from typing import NamedTuple

from tiebench.claims.contrasts import SignedArms
from tiebench.comparison.bounds import estimate_mean
from tiebench.comparison.estimate_error import EstimateError, LookingError, StudentError
from tiebench.comparison.recipes import square_deviations
from tiebench.comparison.sequential import Samples

NUM_GROUPS = 50  # of words, each left out once (`analysis.jackknife`): one degree of freedom less


class SumEstimate(NamedTuple):
    """A sum of means over seeds and its error, None from one seed."""

    value: float
    error: EstimateError | None


def estimate_sum(
    contrast: SignedArms,
    found: Mapping[str, Mapping[int, float]],
    *,
    paired: bool = False,
    sampling_error: float | None = None,
    while_looking: bool = False,
) -> SumEstimate:
    """The weighted sum of means over seeds. `found` is name to seed to figure, and no name may lack one.

    The seeds of two arms are independent runs: variances add up, with Welch's degrees of freedom (Welch 1947). `paired`
    is for figures from the same runs at each seed, such as two pairs of the same embeddings: the sum is taken
    seed by seed. `sampling_error` is the standard error that other words would give; all seeds share the words, so more
    seeds do not lower it. `while_looking` says that runs were added because of what others showed: the error is then
    one that holds all the same, for which the deviation of all arms is pooled.
    """
    if paired:
        seeds = sorted(set.intersection(*(set(values) for values in found.values())))
        sums = [math.fsum(weight * found[name][seed] for name, weight in contrast.items()) for seed in seeds]
        found, contrast = {"sum": dict(zip(seeds, sums, strict=True))}, {"sum": 1}
    contrast = {name: weight for name, weight in contrast.items() if weight}
    value = math.fsum(weight * _average(found[name]) for name, weight in contrast.items())
    if any(len(found[name]) < 2 for name in contrast):
        return SumEstimate(value, None)
    words = None if sampling_error is None else StudentError(sampling_error, NUM_GROUPS - 1.0)
    if while_looking:
        return SumEstimate(value, _find_looking_error(contrast, found, words))
    parts = []
    for name, weight in contrast.items():
        _, error, freedom = estimate_mean(list(found[name].values()))
        parts.append(StudentError(abs(weight) * error, freedom))
    parts += [words] if words else []
    variance = sum(part.error**2 for part in parts)
    squares = sum(part.error**4 / part.degrees_of_freedom for part in parts)
    freedom = variance**2 / squares if squares else sum(part.degrees_of_freedom for part in parts)
    return SumEstimate(value, StudentError(math.sqrt(variance), freedom))


def _find_looking_error(
    contrast: SignedArms, found: Mapping[str, Mapping[int, float]], words: StudentError | None
) -> LookingError:
    runs = {name: list(found[name].values()) for name in contrast}
    freedom = sum(len(values) - 1 for values in runs.values())
    per_run = sum(weight**2 / len(runs[name]) for name, weight in contrast.items())
    squares = math.fsum(square_deviations(values) for values in runs.values())
    return LookingError(math.sqrt(squares / freedom * per_run), Samples(1 / per_run, freedom), beside=words)


def _average(values: Mapping[int, float]) -> float:
    return math.fsum(values.values()) / len(values)
