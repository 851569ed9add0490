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
from typing import TYPE_CHECKING, Literal

from tiebench.comparison.blocks import average_blocks, count_tokens
from tiebench.comparison.sources import (
    CONFIDENCE,
    SeedDeviation,
    SeedRule,
    SeedVariance,
    combine_sources,
    count_free_blocks,
    sum_squares,
    vary_seeds,
)
from tiebench.comparison.student import find_t_chance, find_t_quantile
from tiebench.experiment.block import Block

if TYPE_CHECKING:
    import numpy as np

VariationSource = Literal["seeds", "text"]


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

    The headline, `total`, covers the sources that are not None in `seeds` and `text`, and is None where both are.
    Nothing is known of texts from less than two blocks, nor of training from one run per arm. The error of `total` is
    at least that of each source, and so is the width of its interval, but for one case: with two seeds in both arms
    Welch's interval of `seeds` alone may be the wider one.
    """

    difference: float
    total: Uncertainty | None
    seeds: Uncertainty | None
    text: Uncertainty | None
    seed_rule: SeedRule
    num_seeds: tuple[int, int]
    num_blocks: int

    @property
    def covers(self) -> tuple[VariationSource, ...]:
        """The sources of variation in the headline: `seeds`, `text`, both or neither."""
        parts: tuple[tuple[VariationSource, Uncertainty | None], ...] = (("seeds", self.seeds), ("text", self.text))
        return tuple(name for name, part in parts if part is not None)


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
    Give both arms the same number of seeds: Welch's interval covers 90 % where two seeds of an arm that varies twice
    as much meet five of the other, and this one inherits it.

    With one run per arm nothing is known of training: the interval is that of the text, and there is no p, for two
    runs of one and the same arm differ by more than the text explains. A `seed_deviation` of the recipe closes the
    gap: it is pooled with what the runs say themselves.

    Raises ValueError for arrays of other shapes, other numbers of tokens, values that are not finite, paired seeds of
    unequal number, and a `seed_deviation` of paired seeds.
    """
    _check_shapes(ours, baseline)
    first, second = (average_blocks(nats, starts=block_starts) for nats in (ours, baseline))
    weights = count_tokens(ours.shape[1], starts=block_starts) / ours.shape[1]
    return estimate_from_blocks(first, second, weights=weights, seed_rule=seed_rule, seed_deviation=seed_deviation)


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

    first, second = (np.asarray(values, dtype=np.float64).reshape(-1, 1) for values in (ours, baseline))
    return estimate_from_blocks(first, second, weights=np.ones(1), seed_rule=seed_rule, seed_deviation=seed_deviation)


def _check_shapes(ours: "np.ndarray", baseline: "np.ndarray") -> None:
    if ours.ndim != 2 or baseline.ndim != 2 or ours.shape[1] != baseline.shape[1] or not ours.size * baseline.size:
        raise ValueError(f"two arms need (seeds, tokens) of one text, found {ours.shape} and {baseline.shape}")


def _check(ours: "np.ndarray", baseline: "np.ndarray", rule: SeedRule, known: SeedDeviation | None) -> None:
    import numpy as np

    _check_shapes(ours, baseline)
    if not (np.isfinite(ours).all() and np.isfinite(baseline).all()):
        raise ValueError("a difference needs finite nats")
    if rule == "paired" and len(ours) != len(baseline):
        raise ValueError(f"paired seeds need as many of one arm as of the other, found {len(ours)} and {len(baseline)}")
    if rule == "paired" and known:
        raise ValueError("the deviation of a recipe says nothing of differences between paired seeds")


def estimate_from_blocks(
    ours: "np.ndarray",
    baseline: "np.ndarray",
    *,
    weights: "np.ndarray",
    seed_rule: SeedRule = "welch",
    seed_deviation: SeedDeviation | None = None,
) -> Estimate:
    """From means of blocks, shapes (seeds, blocks), and their shares in the tokens, shape (blocks,).

    Raises ValueError as `estimate_difference` does; a token that is not finite leaves its block's mean so.
    """
    _check(ours, baseline, seed_rule, seed_deviation)
    by_block = ours.mean(axis=0) - baseline.mean(axis=0)
    difference = float(by_block @ weights)
    by_seed = vary_seeds(ours, baseline, weights, seed_rule, seed_deviation)
    seeds = by_seed and describe_error(difference, math.sqrt(by_seed.variance), by_seed.degrees_of_freedom)
    text = total = None
    if len(weights) > 1:
        variance = sum_squares(by_block - difference, weights)
        freedom = count_free_blocks(weights)
        text = describe_error(difference, math.sqrt(variance), freedom, with_p=by_seed is not None)
        if by_seed:
            total = describe_total(difference, by_seed=by_seed, text=variance, text_freedom=freedom)
    return Estimate(
        difference=difference,
        total=total or seeds or text,
        seeds=seeds,
        text=text,
        seed_rule=seed_rule,
        num_seeds=(len(ours), len(baseline)),
        num_blocks=len(weights),
    )


def describe_total(difference: float, *, by_seed: SeedVariance, text: float, text_freedom: float) -> Uncertainty:
    """How sure a difference is over both sources, of which `text` is the variance of the text's part.

    Neither the interval nor p is more certain than one source alone would have it: the interval by its degrees of
    freedom (`combine_sources`), p by the larger one, since far out in the tails few degrees of freedom weigh more than
    at 95 %, and p is read there where it is adjusted over several arms.
    """
    error, freedom = combine_sources(by_seed, text, text_freedom)
    total = describe_error(difference, error, freedom)
    singles = (by_seed.variance, by_seed.bounding_freedom), (text, text_freedom)
    found = [total, *(describe_error(difference, math.sqrt(part), own) for part, own in singles)]
    return total.model_copy(update={"p": max(each.p or 0.0 for each in found)})


def describe_error(difference: float, error: float, degrees_of_freedom: float, *, with_p: bool = True) -> Uncertainty:
    """Interval and two-sided p of a difference whose standard error has so many degrees of freedom (Student 1908)."""
    reach = find_t_quantile((1 + CONFIDENCE) / 2, degrees_of_freedom) * error
    p = 2 * find_t_chance(-abs(difference) / error, degrees_of_freedom) if error else float(not difference)
    return Uncertainty(
        error=error,
        degrees_of_freedom=degrees_of_freedom,
        low=difference - reach,
        high=difference + reach,
        p=p if with_p else None,
    )
