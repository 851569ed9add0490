"""Who gains? Two arms by how often the target stood in the training text, in bins of a decade.

The bins are those parts of one paired difference that belong to their tokens, so their errors are found as that of the
whole is (`comparison.variance`): over seeds, and over the blocks of the text in which a bin has tokens.
"""

from pydantic import computed_field

from tiebench.comparison.blocks import BlockMeans, CutText
from tiebench.comparison.sources import SeedRule
from tiebench.comparison.variance import VariationSource, estimate_from_blocks
from tiebench.experiment.block import Block


class FrequencyBin(Block):
    """The test tokens whose word stood `10**(decade - 1)` to `10**decade - 1` times in the training text (0: never).

    `baseline` is that arm's nats per token here, `difference` the arm's minus these, with its 95 % interval `low` to
    `high` by itself, over the sources in `covers`. `part` is what the bin adds to the difference over the whole text.
    """

    decade: int
    num_tokens: int
    share: float
    baseline: float
    difference: float
    low: float | None = None
    high: float | None = None
    error: float | None = None
    covers: tuple[VariationSource, ...] = ()

    @computed_field
    @property
    def seen(self) -> str:
        """`never`, `1-9`, `10-99`, `1,000-9,999`."""
        return name_decade(self.decade)

    @computed_field
    @property
    def part(self) -> float:
        """Share times difference, in nats per token of the whole text: the parts of all bins add up to the whole."""
        return self.share * self.difference


def name_decade(decade: int) -> str:
    """`never`, `1-9`, `10-99`, `1,000-9,999`."""
    return "never" if decade == 0 else f"{10 ** (decade - 1):,}-{10**decade - 1:,}"


def estimate_by_frequency(
    ours: BlockMeans, baseline: BlockMeans, *, text: CutText, seed_rule: SeedRule
) -> list[FrequencyBin]:
    """A bin for each decade that has test tokens, rarest first; none where the text was cut without decades.

    Raises ValueError as `estimate_from_blocks` does.
    """
    bins = []
    for decade, num_tokens, cells, weights in text.bins:
        first, second = (arm.cells[:, cells] for arm in (ours, baseline))
        found = estimate_from_blocks(first, second, weights=weights, seed_rule=seed_rule)
        total = found.total
        bins.append(
            FrequencyBin(
                decade=decade,
                num_tokens=num_tokens,
                share=num_tokens / text.num_tokens,
                baseline=float(second.mean(axis=0) @ weights),
                difference=found.difference,
                low=total and total.low,
                high=total and total.high,
                error=total and total.error,
                covers=found.covers,
            )
        )
    return bins
