"""How far an arm stands from the baseline on one split, and how sure that is."""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Literal, TypeVar

from pydantic import computed_field

from tiebench.comparison.blocks import BlockMeans, CutText, cut_text
from tiebench.comparison.bounds import adjust_holm, check_value
from tiebench.comparison.estimate_error import StudentError
from tiebench.comparison.recipes import find_seed_deviation, square_deviations
from tiebench.comparison.sequential import Outcome
from tiebench.comparison.sources import SeedDeviation, SeedRule
from tiebench.comparison.variance import (
    Estimate,
    Uncertainty,
    VariationSource,
    estimate_from_blocks,
    estimate_from_totals,
)
from tiebench.experiment.block import Block
from tiebench.results.record import Evaluation, Record

if TYPE_CHECKING:
    import numpy as np

SIGNIFICANCE = 0.05
Unit = Literal["token", "byte"]
Name = TypeVar("Name", str, int)
TokenNLL = Callable[[Record], "np.ndarray | None"]
TokenDecades = Callable[[Record], "np.ndarray | None"]
ArmMeans = Mapping[str, BlockMeans | None]
"""By arm the means of the blocks of the test text; None where a run did not keep the nats of its tokens."""


class Difference(Block):
    """The nll of an arm minus that of the baseline on one split: in nats per token, which is ln of the ratio of their
    perplexities, or in nats per byte where the arms have different vocabularies.

    `low` to `high` is the 95 % interval and p its test; they cover the sources of variation in `covers`, each of which
    stands by itself in `seeds` and `text`. No p is given from one run per arm, unless the `deviation` between seeds
    was known from `num_borrowed` other runs. `p_within` is that of an equivalence, where a margin was given (two
    one-sided tests, Schuirmann 1987). `adjusted_p` and `adjusted_p_within` are Holm's, each over the arms compared
    with the baseline. `reference` is the baseline's nll in the same unit. `of_articles` says that
    the blocks of text are whole articles.
    """

    split: str
    unit: Unit
    ln_ratio: float
    reference: float
    low: float | None = None
    high: float | None = None
    error: float | None = None
    degrees_of_freedom: float | None = None
    p: float | None = None
    adjusted_p: float | None = None
    p_within: float | None = None
    adjusted_p_within: float | None = None
    covers: tuple[VariationSource, ...] = ()
    seeds: Uncertainty | None = None
    text: Uncertainty | None = None
    seed_rule: SeedRule
    num_seeds: tuple[int, int]
    num_blocks: int = 0
    num_tokens: int = 0
    of_articles: bool = False
    deviation: float | None = None
    num_borrowed: int = 0

    @computed_field
    @property
    def percent(self) -> float:
        """By how many percent the arm's perplexity, or its bits per byte, is higher; negative is lower, so better."""
        return self.in_percent(self.ln_ratio)

    @computed_field
    @property
    def percent_interval(self) -> tuple[float, float] | None:
        """The 95 % interval of `percent`, the end of the lower perplexity first."""
        if self.low is None or self.high is None:
            return None
        return self.in_percent(self.low), self.in_percent(self.high)

    def in_percent(self, nats: float) -> float:
        """A difference in nats as a change in percent; the baseline's bits per byte are taken as known."""
        return math.expm1(nats) * 100 if self.unit == "token" else nats / self.reference * 100

    def in_nats(self, percent: float) -> float:
        """A change in percent as a difference in nats."""
        return math.log1p(percent / 100) if self.unit == "token" else percent / 100 * self.reference

    def find_p_within(self, margin: float | None) -> float | None:
        """The p of the equivalence within `margin` percent, not adjusted; None without a margin or a p.

        As p, it is never smaller than one source alone would have it (`comparison.variance.describe_total`).
        """
        if margin is None or self.p is None or self.error is None or self.degrees_of_freedom is None:
            return None
        parts = [StudentError(self.error, self.degrees_of_freedom)]
        parts += [StudentError(each.error, each.degrees_of_freedom) for each in (self.seeds, self.text) if each]
        nats = self.in_nats(margin)
        return max(check_value(self.ln_ratio, published=0.0, margin=nats, error=part).p_within for part in parts)

    @property
    def is_within(self) -> bool:
        """Whether the difference is surely smaller than the margin; False without one."""
        return self.adjusted_p_within is not None and self.adjusted_p_within < SIGNIFICANCE

    @property
    def outcome(self) -> Outcome:
        """`better` or `worse` where the sign is sure, `equivalent` where only the margin is, else `undecided`."""
        if self.adjusted_p is not None and self.adjusted_p < SIGNIFICANCE:
            return "better" if self.ln_ratio < 0 else "worse"
        return "equivalent" if self.is_within else "undecided"


def estimate_differences(
    arms: dict[str, list[Record]],
    *,
    split: str,
    unit: Unit,
    text: CutText | None,
    arm_means: ArmMeans,
    seed_rule: SeedRule,
    others: Iterable[Record],
    margin: float | None = None,
) -> dict[str, Difference]:
    """Every arm but the first against the first, by name, with p values adjusted over these arms (Holm 1979); those of
    an equivalence within `margin` percent too.

    `text` and `arm_means` are of the test split, whichever `split` is; `others` are records that may tell how much
    seeds of the recipe vary; they are used only where an arm has one run.
    """
    if split != "test" or unit != "token":
        text = None
    baseline, *names = arms
    found = {}
    for arm in names:
        pair = {name: arms[name] for name in (arm, baseline)}
        means = (arm_means[arm], arm_means[baseline])
        found[arm] = _estimate(pair, text, means, split=split, unit=unit, seed_rule=seed_rule, others=others)
    p_values = {arm: each.p for arm, each in found.items()}
    p_within = {arm: each.find_p_within(margin) for arm, each in found.items()}
    adjusted, adjusted_within = _adjust(p_values), _adjust(p_within)
    return {
        arm: each.model_copy(
            update={
                "adjusted_p": adjusted.get(arm),
                "p_within": p_within[arm],
                "adjusted_p_within": adjusted_within.get(arm),
            }
        )
        for arm, each in found.items()
    }


def _adjust(p_values: Mapping[str, float | None]) -> dict[str, float]:
    """The known ones, adjusted as one family."""
    known = {arm: p for arm, p in p_values.items() if p is not None}
    return dict(zip(known, adjust_holm(list(known.values())), strict=True))


def read_nll(evaluation: Evaluation, *, unit: Unit) -> float:
    """The nll of a run per token or per byte."""
    return evaluation.nll / (evaluation.tokens if unit == "token" else evaluation.bytes)


def _estimate(
    pair: dict[str, list[Record]],
    text: CutText | None,
    means: tuple[BlockMeans | None, BlockMeans | None],
    *,
    split: str,
    unit: Unit,
    seed_rule: SeedRule,
    others: Iterable[Record],
) -> Difference:
    ours, baseline = ([read_nll(record.evaluations[split], unit=unit) for record in arm] for arm in pair.values())
    known, num_borrowed = None, 0
    if seed_rule != "paired" and min(len(ours), len(baseline)) == 1:
        known, num_borrowed = find_seed_deviation(
            pair, others=others, read=lambda record: read_nll(record.evaluations[split], unit=unit), split=split
        )
        if known or max(len(ours), len(baseline)) > 1:
            seed_rule = "pooled"
    first, second = means
    if text is not None and first is not None and second is not None:
        estimate = estimate_from_blocks(
            first.blocks, second.blocks, weights=text.weights, seed_rule=seed_rule, seed_deviation=known
        )
    else:
        estimate = estimate_from_totals(ours, baseline, seed_rule=seed_rule, seed_deviation=known)
    total = estimate.total
    return Difference(
        split=split,
        unit=unit,
        ln_ratio=math.fsum(ours) / len(ours) - math.fsum(baseline) / len(baseline),
        reference=math.fsum(baseline) / len(baseline),
        **({} if total is None else total.model_dump()),
        covers=estimate.covers,
        seeds=estimate.seeds,
        text=estimate.text,
        seed_rule=seed_rule,
        num_seeds=(len(ours), len(baseline)),
        num_blocks=_count_blocks(estimate),
        num_tokens=next(iter(pair.values()))[0].evaluations[split].tokens,
        of_articles=text is not None and text.of_articles,
        deviation=_pool_deviation([ours, baseline], known),
        num_borrowed=num_borrowed,
    )


def _count_blocks(estimate: Estimate) -> int:
    return estimate.num_blocks if estimate.text is not None else 0


def _pool_deviation(arms: Sequence[Sequence[float]], known: SeedDeviation | None) -> float | None:
    """The deviation between seeds, one for both arms; None where every arm has one run and nothing else is known."""
    squares = math.fsum(square_deviations(values) for values in arms)
    freedom: float = sum(len(values) - 1 for values in arms)
    if known:
        squares += known.deviation**2 * known.degrees_of_freedom
        freedom += known.degrees_of_freedom
    return math.sqrt(squares / freedom) if freedom else None


def read_block_means(
    arms: Mapping[Name, Sequence[Record]], *, token_nll: TokenNLL, decades: TokenDecades = lambda record: None
) -> tuple[CutText | None, dict[Name, BlockMeans | None]]:
    """How the test text is cut, by what the first run says of its decades, and the means of every arm. Blocks are
    articles where a record says where these begin: all runs are on one text.

    The nats of a run are read, averaged and forgotten, so that memory does not grow with the number of runs. Raises
    ValueError for runs on texts of other lengths.
    """
    runs = (record for records in arms.values() for record in records)
    articles = next((run.corpus.test_articles for run in runs if run.corpus.test_articles), None)
    text: CutText | None = None
    found: dict[Name, BlockMeans | None] = {}
    for arm, records in arms.items():
        sums = []
        for record in records:
            nats = token_nll(record)
            if nats is None:
                break
            if text is None:
                first_decades = None if found else decades(record)
                text = cut_text(len(nats), decades=first_decades, article_starts=articles)
            sums.append(text.add_up(nats))
        found[arm] = text.average(sums) if text is not None and len(sums) == len(records) else None
    return text, found
