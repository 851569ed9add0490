"""Deciding while seeds are added: looking after every pair of runs, with errors that stay below 5 % all the same.

The model: x_i = m + d + noise (ours), y_j = m + noise (baseline), the noise normal with one deviation s for both arms.
Under H0 d = 0. Under H1 the standardised effect d / s has the prior N(0, g). The mean m and the deviation s get the
right-Haar prior dm ds / s under both; then the Bayes factor is a likelihood ratio of what does not depend on them and
a test martingale under every (m, s) of H0, so that its chance of ever reaching 1 / alpha is at most alpha (Ville 1939;
Lai 1976 for t; Grünwald, de Heide & Koolen 2024 for groups). It depends on the data only by the two-sample pooled t.
With n = n_x n_y / (n_x + n_y) and v = n_x + n_y - 2, t given d / s is noncentral t(v, sqrt(n) d / s). Over the normal
prior that noncentral t is sqrt(1 + n g) times a central one (sqrt(n) d / s + N(0, 1) is N(0, 1 + n g), divided by the
same independent chi), so the ratio of densities is closed:

    e = (1 + n g)^(-1/2) [ (1 + t^2 / v) / (1 + t^2 / (v (1 + n g))) ]^((v + 1) / 2)

Its inverse is closed too. A confidence sequence holds all d0 that, taken off the difference, leave e below 1 / alpha:

    |t| < c,   c^2 = v (K - 1) / (1 - K / (1 + n g)),   K = (sqrt(1 + n g) / alpha)^(2 / (v + 1))

with c infinite where K >= 1 + n g: so few runs exclude nothing yet.

A sum over any number of arms, w_1 mean_1 + w_2 mean_2 + ..., has the same e with n = 1 / (w_1^2 / n_1 + w_2^2 / n_2 +
...) and v = (n_1 - 1) + (n_2 - 1) + ...: what the means are beside the sum gets the flat prior of m, and t given d / s
is noncentral t(v, sqrt(n) d / s) as before.

**Scope.** More seeds show how training varies on this test text. The text stays the same, its part of the error never
shrinks, and no number of runs can decide about other text; so a decision is one on this text, and the estimate with
both sources stands beside it. `decide` widens by the reach of the text where the claim shall cover that as well.
"""

import math
from collections.abc import Sequence
from typing import Literal, NamedTuple

from tiebench.comparison.student import find_t_quantile
from tiebench.comparison.variance import Uncertainty
from tiebench.experiment.block import Block

ALPHA = 0.05
PRIOR_DEVIATION = 2.0
"""sqrt(g). An effect of 2 deviations between seeds is typical of tying. At 1 no three pairs could ever decide (e is at
most (1 + n g)^(v / 2)); at 4 effects of one deviation need more seeds."""

_MOST_LOG_EVIDENCE = 700.0  # e stays a float, and 1 / e above 0

Outcome = Literal["better", "worse", "equivalent", "undecided"]
Bounds = tuple[float, float]


class Samples(NamedTuple):
    """What the runs behind a t are worth: the estimate has the variance s^2 / `num_effective`, and s so many degrees of
    freedom (n and v above)."""

    num_effective: float
    degrees_of_freedom: float


def count_samples(num_ours: int, num_baseline: int) -> Samples:
    """Of the difference of two arms."""
    return Samples(num_ours * num_baseline / (num_ours + num_baseline), num_ours + num_baseline - 2)


class Look(Block):
    """What was seen after so many runs per arm: nats per token (of ln perplexity), ours minus baseline.

    `p` is anytime-valid, 1 / the largest e-value so far; `low` to `high` is the confidence sequence, all looks so far
    intersected, None where it is unbounded yet. Both hold however often one looks and whenever one stops.
    """

    num_ours: int
    num_baseline: int
    difference: float
    deviation: float
    e_value: float
    p: float
    low: float | None
    high: float | None

    @property
    def bounds(self) -> "Bounds | None":
        """`low` and `high`; None while they are unbounded."""
        return None if self.low is None or self.high is None else (self.low, self.high)


class Decision(Block):
    """The end of a comparison with every look that led to it.

    `better` and `worse` mean that the difference is not 0 (lower is better), `equivalent` that it lies within
    `margin`; `within_margin` says so too of a difference that is not 0. The interval and the number of runs are those
    of the look that decided, or of the last one. `covers` are the sources of variation that the decision is about.
    """

    outcome: Outcome
    within_margin: bool | None
    margin: float | None
    num_ours: int
    num_baseline: int
    difference: float
    p: float
    low: float | None
    high: float | None
    covers: tuple[Literal["seeds", "text"], ...]
    looks: tuple[Look, ...]


def compute_e_value(t: float, samples: Samples, *, prior_deviation: float = PRIOR_DEVIATION) -> float:
    """The evidence of a pooled t against no difference; `inf` is a t without any spread between seeds."""
    num_effective, freedom = samples
    if freedom < 1:
        return 1.0
    spread = 1 + num_effective * prior_deviation**2
    square = t * t / freedom
    ratio = math.log(spread) if math.isinf(square) else math.log1p(square) - math.log1p(square / spread)
    return math.exp(min(_MOST_LOG_EVIDENCE, ((freedom + 1) * ratio - math.log(spread)) / 2))


def find_critical_t(samples: Samples, *, alpha: float = ALPHA, prior_deviation: float = PRIOR_DEVIATION) -> float:
    """The |t| at which the e-value reaches 1 / alpha; `inf` where no t is enough with so few runs."""
    num_effective, freedom = samples
    if freedom < 1:
        return math.inf
    spread = 1 + num_effective * prior_deviation**2
    ratio = (math.sqrt(spread) / alpha) ** (2 / (freedom + 1))
    return math.sqrt(freedom * (ratio - 1) / (1 - ratio / spread)) if ratio < spread else math.inf


def take_look(
    ours: Sequence[float],
    baseline: Sequence[float],
    *,
    earlier: Sequence[Look] = (),
    alpha: float = ALPHA,
    prior_deviation: float = PRIOR_DEVIATION,
) -> Look:
    """Look at the nats per token of all runs so far, after `earlier` looks at the first of them.

    Raises ValueError for fewer than two runs in an arm.
    """
    sizes = {"num_ours": len(ours), "num_baseline": len(baseline)}
    samples = count_samples(**sizes)
    if min(sizes.values()) < 2:
        raise ValueError("a look needs two runs of each arm")
    means = [math.fsum(values) / len(values) for values in (ours, baseline)]
    squares = sum((value - mean) ** 2 for values, mean in zip((ours, baseline), means, strict=True) for value in values)
    difference, deviation = means[0] - means[1], math.sqrt(squares / samples.degrees_of_freedom)
    error = deviation / math.sqrt(samples.num_effective)
    t = difference / error if error else math.copysign(math.inf, difference) if difference else 0.0
    e_value = compute_e_value(t, samples, prior_deviation=prior_deviation)
    critical = find_critical_t(samples, alpha=alpha, prior_deviation=prior_deviation)
    bounds = None
    if math.isfinite(critical):
        bounds = difference - critical * error, difference + critical * error
    low, high = _intersect(bounds, earlier) or (None, None)
    p = min([1.0, 1 / e_value, *(look.p for look in earlier[-1:])])
    return Look(**sizes, difference=difference, deviation=deviation, e_value=e_value, p=p, low=low, high=high)


def replay_looks(
    ours: Sequence[float],
    baseline: Sequence[float],
    *,
    alpha: float = ALPHA,
    prior_deviation: float = PRIOR_DEVIATION,
) -> list[Look]:
    """The looks after each pair of runs from the second on, given the nats per token in the order of the seeds.

    From records, this gives the decision again that was taken while they were made. Runs beyond the shorter arm are not
    looked at.
    """
    looks: list[Look] = []
    for num_pairs in range(2, min(len(ours), len(baseline)) + 1):
        seen = ours[:num_pairs], baseline[:num_pairs]
        looks.append(take_look(*seen, earlier=looks, alpha=alpha, prior_deviation=prior_deviation))
    return looks


def decide(looks: Sequence[Look], *, margin: float | None = None, text_reach: float = 0.0) -> Decision:
    """The first look at which the confidence sequence left 0 out, or lay between -margin and +margin, decides.

    `margin` is in nats per token: ln(1.01) for 1 % of the perplexity. A claim beyond this test text takes its looks
    at half the alpha and gives the other half to the text: its `text_reach`, from `find_text_reach`, widens the
    interval on both sides, and the two together err at most as often as alpha says (Bonferroni). `p` is always that
    of the seeds.

    Raises ValueError without looks, for a margin that is not positive and a negative reach.
    """
    if not looks:
        raise ValueError("a decision needs at least one look")
    if (margin is not None and margin <= 0) or text_reach < 0:
        raise ValueError(f"a margin must be positive and a reach not negative, found {margin} and {text_reach}")
    judged = [(look, *_judge(look, margin=margin, text_reach=text_reach)) for look in looks]
    look, bounds, outcome, within = next((found for found in judged if found[2] != "undecided"), judged[-1])
    low, high = bounds or (None, None)
    return Decision(
        outcome=outcome,
        within_margin=within,
        margin=margin,
        num_ours=look.num_ours,
        num_baseline=look.num_baseline,
        difference=look.difference,
        p=look.p,
        low=low,
        high=high,
        covers=("seeds", "text") if text_reach else ("seeds",),
        looks=tuple(looks),
    )


def find_text_reach(text: Uncertainty, *, alpha: float = ALPHA / 2) -> float:
    """How far the text's 1 - alpha interval reaches to either side, from the `text` part of an estimate."""
    return find_t_quantile(1 - alpha / 2, text.degrees_of_freedom) * text.error


def _intersect(bounds: Bounds | None, earlier: Sequence[Look]) -> Bounds | None:
    """The bounds within those of the last look, which lie within all earlier ones. Where the two have nothing in common
    (the earlier one had decided), the new bounds."""
    before = earlier[-1].bounds if earlier else None
    if before is None or bounds is None:
        return bounds or before
    low, high = max(bounds[0], before[0]), min(bounds[1], before[1])
    return (low, high) if low <= high else bounds


def _judge(look: Look, *, margin: float | None, text_reach: float) -> tuple[Bounds | None, Outcome, bool | None]:
    """The bounds, widened by what the text may add, what they say, and whether they lie within the margin."""
    if look.bounds is None:
        return None, "undecided", None if margin is None else False
    low, high = look.bounds[0] - text_reach, look.bounds[1] + text_reach
    within = None if margin is None else -margin < low and high < margin
    outcome: Outcome = "equivalent" if within else "undecided"
    if high < 0 or low > 0:
        outcome = "better" if high < 0 else "worse"
    return (low, high), outcome, within
