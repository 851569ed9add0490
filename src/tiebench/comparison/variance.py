"""How sure one difference is: training (seeds) and test text (blocks) are two sources of variation, and both count.

The nats of arm a at seed s on block b are modelled as `mean_a + seed_as + text_ab + rest_asb`. All runs are scored on
the same text, so it is always paired, token by token; the seeds of two arms are independent unless they are declared
to be paired. With w_b the share of a block in the tokens, the difference D = sum_b w_b (mean_s ours - mean_s baseline)
has three variances, each found from the same blocks:

    V_seed = var_ours / S_ours + var_baseline / S_baseline    of the runs' means over the text; holds seed + rest
    V_text = B / (B - 1) sum_b w_b^2 (d_b - D)^2               of the blocks' mean differences; holds text + rest
    V_rest = the same sum over residuals of runs and blocks, which both of them hold

    V = V_seed + V_text - V_rest, never below the larger of the first two

Paired, and with blocks of equal length, this is (MS_seed + MS_block - MS_rest) / (S B), the variance of a mean in a
crossed design with two random factors (Cornfield & Tukey 1956; Searle, Casella & McCulloch 1992, chapter 4).
"""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal, NamedTuple

from tiebench.comparison.blocks import average_blocks, count_tokens
from tiebench.experiment.schema import Block

if TYPE_CHECKING:
    import numpy as np

CONFIDENCE = 0.95
SeedRule = Literal["welch", "pooled", "paired"]


class SeedDeviation(NamedTuple):
    """The standard deviation over seeds of a recipe's nats per token, known from other records of it."""

    deviation: float
    degrees_of_freedom: float


class Uncertainty(Block):
    """How sure a difference is: standard error, 95 % interval `low` to `high`, two-sided p (None: no test is allowed).

    Of `seeds` alone it is about other seeds on this very text; of `text` alone about these very runs on other text.
    """

    error: float
    degrees_of_freedom: float
    low: float
    high: float
    p: float | None


class Estimate(Block):
    """A difference in nats per token (of ln perplexity), ours minus baseline, and how sure it is.

    The headline, `both`, covers the sources that are not None in `seeds` and `text`, and is None where both are.
    Nothing is known of texts from less than two blocks, nor of training from one run per arm. The error of `both` is
    at least that of each source; its interval may yet be narrower than Welch's of very few `seeds`, as an error that
    is partly the text's is known better than one that is all theirs.
    """

    difference: float
    both: Uncertainty | None
    seeds: Uncertainty | None
    text: Uncertainty | None
    seed_rule: SeedRule
    num_seeds: tuple[int, int]
    num_blocks: int

    @property
    def covers(self) -> tuple[str, ...]:
        """The sources of variation in the headline: `seeds`, `text`, both or neither."""
        return tuple(name for name in ("seeds", "text") if getattr(self, name) is not None)


class _SeedVariance(NamedTuple):
    """V_seed and V_rest. Welch's degrees of freedom are at `most` those of arms that vary alike."""

    variance: float
    rest: float
    degrees_of_freedom: float
    most_degrees_of_freedom: float


def estimate_difference(
    ours: "np.ndarray",
    baseline: "np.ndarray",
    *,
    block_starts: "np.ndarray",
    seed_rule: SeedRule = "welch",
    seed_deviation: SeedDeviation | None = None,
) -> Estimate:
    """The difference of two arms from the nats of their tokens, shapes (seeds, tokens), on the same text.

    `welch` lets the arms' variances over seeds differ (Welch 1947), `pooled` holds one for both, as may be declared
    for arms of one recipe, and `paired` takes differences seed by seed. To share a seed makes runs no more alike in
    our records, so pairing costs degrees of freedom for nothing; whatever is chosen must be chosen before looking.

    With one run per arm nothing is known of training: the interval is that of the text, and there is no p, for two
    runs of one and the same arm differ by more than the text explains. A `seed_deviation` of the recipe closes the
    gap: it is pooled with what the runs say themselves.

    Raises ValueError for arrays of other shapes, other numbers of tokens, values that are not finite, paired seeds of
    unequal number, and a `seed_deviation` of paired seeds.
    """
    _check(ours, baseline, seed_rule, seed_deviation)
    means = [average_blocks(nats, starts=block_starts) for nats in (ours, baseline)]
    weights = count_tokens(ours.shape[1], starts=block_starts) / ours.shape[1]
    return _estimate(*means, weights=weights, seed_rule=seed_rule, seed_deviation=seed_deviation)


def estimate_from_totals(
    ours: Sequence[float],
    baseline: Sequence[float],
    *,
    seed_rule: SeedRule = "welch",
    seed_deviation: SeedDeviation | None = None,
) -> Estimate:
    """The difference from one figure per seed, nats per token of the whole text; it covers the seeds only.

    Raises ValueError as `estimate_difference` does.
    """
    import numpy as np

    means = [np.asarray(values, dtype=np.float64).reshape(-1, 1) for values in (ours, baseline)]
    _check(*means, seed_rule, seed_deviation)
    return _estimate(*means, weights=np.ones(1), seed_rule=seed_rule, seed_deviation=seed_deviation)


def _check(ours: "np.ndarray", baseline: "np.ndarray", rule: SeedRule, known: SeedDeviation | None) -> None:
    import numpy as np

    if ours.ndim != 2 or baseline.ndim != 2 or ours.shape[1] != baseline.shape[1] or not ours.size * baseline.size:
        raise ValueError(f"two arms need (seeds, tokens) of one text, found {ours.shape} and {baseline.shape}")
    if not (np.isfinite(ours).all() and np.isfinite(baseline).all()):
        raise ValueError("a difference needs finite nats")
    if rule == "paired" and len(ours) != len(baseline):
        raise ValueError(f"paired seeds need as many of one arm as of the other, found {len(ours)} and {len(baseline)}")
    if rule == "paired" and known:
        raise ValueError("the deviation of a recipe says nothing of differences between paired seeds")


def _estimate(
    ours: "np.ndarray",
    baseline: "np.ndarray",
    *,
    weights: "np.ndarray",
    seed_rule: SeedRule,
    seed_deviation: SeedDeviation | None,
) -> Estimate:
    """From means of blocks, shapes (seeds, blocks), and their shares in the tokens, shape (blocks,)."""
    by_block = ours.mean(axis=0) - baseline.mean(axis=0)
    difference = float(by_block @ weights)
    by_seed = _vary_seeds(ours, baseline, weights, seed_rule, seed_deviation)
    seeds = by_seed and describe_error(difference, math.sqrt(by_seed.variance), by_seed.degrees_of_freedom)
    text = both = None
    if len(weights) > 1:
        variance = _sum_squares(by_block - difference, weights)
        freedom = _count_free_blocks(weights)
        text = describe_error(difference, math.sqrt(variance), freedom, with_p=by_seed is not None)
        if by_seed:
            error, joint_freedom = _combine(by_seed, variance, freedom)
            both = describe_error(difference, error, joint_freedom)
    return Estimate(
        difference=difference,
        both=both or seeds or text,
        seeds=seeds,
        text=text,
        seed_rule=seed_rule,
        num_seeds=(len(ours), len(baseline)),
        num_blocks=len(weights),
    )


def describe_error(difference: float, error: float, degrees_of_freedom: float, *, with_p: bool = True) -> Uncertainty:
    """Interval and two-sided p of a difference whose standard error has so many degrees of freedom (Student 1908)."""
    from scipy.special import stdtr, stdtrit

    reach = float(stdtrit(degrees_of_freedom, (1 + CONFIDENCE) / 2)) * error
    p = 2 * float(stdtr(degrees_of_freedom, -abs(difference) / error)) if error else float(not difference)
    return Uncertainty(
        error=error,
        degrees_of_freedom=degrees_of_freedom,
        low=difference - reach,
        high=difference + reach,
        p=p if with_p else None,
    )


def _combine(by_seed: _SeedVariance, text: float, text_freedom: float) -> tuple[float, float]:
    """The error from both sources, and its degrees of freedom: Satterthwaite's (1946), but never so many that the
    interval gets narrower than that of one source with all of its own.

    Satterthwaite takes the estimated shares of the sources for the true ones. With two seeds a large share is often
    mistaken for a small one, which is certain by the many blocks of the text, and the 95 % interval covers 92 to 93 %
    where the sources are equally large; with the bound it covers 94 to 97 % (the tests show every cell). With five
    seeds the bound no longer matters.
    """
    from scipy.special import stdtridf, stdtrit

    variance = max(by_seed.variance + text - by_seed.rest, by_seed.variance, text)
    if not variance:
        return 0.0, by_seed.degrees_of_freedom
    share = by_seed.variance / variance
    freedom = 1 / (share**2 / by_seed.degrees_of_freedom + (1 - share) ** 2 / text_freedom)
    level = (1 + CONFIDENCE) / 2
    singles = (share, by_seed.most_degrees_of_freedom), (text / variance, text_freedom)
    least = max(math.sqrt(part) * float(stdtrit(own, level)) for part, own in singles)
    if least > float(stdtrit(freedom, level)):
        freedom = float(stdtridf(level, least))
    return math.sqrt(variance), freedom


def _vary_seeds(
    ours: "np.ndarray", baseline: "np.ndarray", weights: "np.ndarray", rule: SeedRule, known: SeedDeviation | None
) -> _SeedVariance | None:
    """V_seed, V_rest and the degrees of freedom of V_seed; None where nothing is known of the variation of training."""
    if rule == "paired":
        return _vary_arm(ours - baseline, weights)
    if rule == "welch" and not known:
        arms = [_vary_arm(arm, weights) for arm in (ours, baseline)]
        return None if None in arms else _add_arms(*arms)
    sums = [_square_seeds(arm, weights) for arm in (ours, baseline)]
    own_freedom = len(ours) + len(baseline) - 2
    known = known or SeedDeviation(0.0, 0)
    freedom = own_freedom + known.degrees_of_freedom
    if not freedom:
        return None
    of_seeds, of_rest = (sum(values) for values in zip(*sums, strict=True))
    per_run = 1 / len(ours) + 1 / len(baseline)
    variance = (of_seeds + known.deviation**2 * known.degrees_of_freedom) / freedom * per_run
    return _SeedVariance(variance, of_rest / own_freedom * per_run if own_freedom else 0.0, freedom, freedom)


def _vary_arm(values: "np.ndarray", weights: "np.ndarray") -> _SeedVariance | None:
    """What the seeds of one arm give to the variance of its mean."""
    num_seeds = len(values)
    if num_seeds < 2:
        return None
    of_seeds, of_rest = (square / (num_seeds - 1) / num_seeds for square in _square_seeds(values, weights))
    return _SeedVariance(of_seeds, of_rest, num_seeds - 1, num_seeds - 1)


def _add_arms(first: _SeedVariance, second: _SeedVariance) -> _SeedVariance:
    """Independent arms, with Welch's degrees of freedom."""
    variance = first.variance + second.variance
    squares = sum(arm.variance**2 / arm.degrees_of_freedom for arm in (first, second))
    most = first.degrees_of_freedom + second.degrees_of_freedom
    freedom = variance**2 / squares if squares else most
    return _SeedVariance(variance, first.rest + second.rest, freedom, most)


def _square_seeds(values: "np.ndarray", weights: "np.ndarray") -> tuple[float, float]:
    """Sums of squares of the seeds' means over the text, and of what is left of the blocks once these are taken out."""
    residuals = values - values.mean(axis=0)
    by_seed = residuals @ weights
    of_rest = _sum_squares(residuals - by_seed[:, None], weights) if len(weights) > 1 else 0.0
    return float(by_seed @ by_seed), of_rest


def _sum_squares(deviations: "np.ndarray", weights: "np.ndarray") -> float:
    """B / (B - 1) sum w^2 x^2: the variance of a weighted mean of blocks, for one row the usual one of a ratio."""
    num_blocks = len(weights)
    return float(((deviations * weights) ** 2).sum()) * num_blocks / (num_blocks - 1)


def _count_free_blocks(weights: "np.ndarray") -> float:
    """Blocks less one; long blocks count for more where they are not equal, as if all varied alike, at least 1."""
    squares = weights**2
    return max(1.0, float(squares.sum() ** 2 / (squares**2).sum()) - 1)
