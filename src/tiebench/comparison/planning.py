"""How many seeds it takes: the power to settle a comparison, from the deviation between seeds seen so far."""

from typing import TYPE_CHECKING, Literal

from tiebench.comparison.sequential import ALPHA, PRIOR_DEVIATION, count_samples, find_critical_t
from tiebench.comparison.student import find_t_quantile
from tiebench.experiment.block import Block

if TYPE_CHECKING:
    import numpy as np

POWER = 0.8
MOST_PLANNED_SEEDS = 100
_NODES = 400

StoppingRule = Literal["sequential", "fixed"]


class SeedPlan(Block):
    """Seeds per arm, beyond those there are, that settle a comparison with a power of 80 %.

    `sign` settles the sign, if the true difference is the one seen so far; `equivalence`, on the same condition,
    settles that it lies within the margin. None: not within 100 seeds per arm, or (equivalence) no margin was given. 0:
    the seeds there are should have settled it.
    """

    sign: int | None
    equivalence: int | None


def plan_seeds(
    difference: float,
    *,
    deviation: float,
    num_seeds: int,
    margin: float | None = None,
    rule: StoppingRule = "sequential",
    text_reach: float = 0.0,
    power: float = POWER,
    alpha: float = ALPHA,
    most_seeds: int = MOST_PLANNED_SEEDS,
) -> SeedPlan:
    """Plan a comparison of two arms with `num_seeds` each: difference, deviation between seeds, margin in one unit.

    `sequential` asks when the confidence sequence of `comparison.sequential` decides, `fixed` when a t test that looks
    once does. `text_reach` widens both, as it does in `decide`; a smaller difference is settled by no number of seeds.
    The deviation is taken as it was seen: from two or three seeds per arm it is a rough guess, and so is the plan.

    Raises ValueError for a deviation that is negative and a margin that is not positive.
    """
    if deviation < 0 or (margin is not None and margin <= 0):
        raise ValueError(f"a plan needs a deviation >= 0 and a margin > 0, found {deviation} and {margin}")
    settings = {"deviation": deviation, "text_reach": text_reach, "rule": rule, "alpha": alpha}
    candidates = range(2, most_seeds + 1)

    def find_first(margin: float | None) -> int | None:
        powers = (compute_power(difference, num_seeds=n, margin=margin, **settings) for n in candidates)
        enough = next((n for n, found in zip(candidates, powers, strict=False) if found >= power), None)
        return None if enough is None else max(0, enough - num_seeds)

    return SeedPlan(sign=find_first(None), equivalence=None if margin is None else find_first(margin))


def compute_power(
    difference: float,
    *,
    deviation: float,
    num_seeds: int,
    margin: float | None = None,
    rule: StoppingRule = "sequential",
    text_reach: float = 0.0,
    alpha: float = ALPHA,
) -> float:
    """The chance that `num_seeds` per arm settle the sign, or with a margin the equivalence, at that number of seeds.

    The chance of noncentral t, and for the equivalence that both of its t are beyond their critical values at once
    (Owen 1965): a normal chance given the deviation found, averaged over that deviation's chi distribution. Looks at
    fewer seeds may have settled it before, so for the sequential rule this is a lower bound.
    """
    import numpy as np
    from scipy.special import ndtr

    critical = _find_critical(num_seeds, rule=rule, alpha=alpha, one_sided=margin is not None)
    if not np.isfinite(critical):
        return 0.0
    error = deviation * np.sqrt(2 / num_seeds)
    reach = critical * error * _quantile_nodes(2 * num_seeds - 2) + text_reach
    if margin is None:
        beyond = abs(difference) - reach
        return float(np.mean(ndtr(beyond / error) if error else beyond > 0))
    room = margin - reach
    if not error:
        return float(np.mean(room > abs(difference)))
    inside = ndtr((room - difference) / error) - ndtr((-room - difference) / error)
    return float(np.mean(np.where(room > 0, inside, 0.0)))


def _find_critical(num_seeds: int, *, rule: StoppingRule, alpha: float, one_sided: bool) -> float:
    """The t to reach. Looking once, an equivalence takes two one-sided tests; while looking, the same interval."""
    if rule == "sequential":
        return find_critical_t(count_samples(num_seeds, num_seeds), alpha=alpha, prior_deviation=PRIOR_DEVIATION)
    return find_t_quantile(1 - (alpha if one_sided else alpha / 2), 2 * num_seeds - 2)


def _quantile_nodes(degrees_of_freedom: int) -> "np.ndarray":
    """Deviations found over true ones, shape (nodes,): the middles of 400 equally likely slices."""
    import numpy as np
    from scipy.special import gammaincinv

    middles = (np.arange(_NODES) + 0.5) / _NODES
    return np.sqrt(2 * gammaincinv(degrees_of_freedom / 2, middles) / degrees_of_freedom)
