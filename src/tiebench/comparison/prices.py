"""What a saved parameter costs: the change of perplexity for each million parameters that an arm has less.

It answers where to share: a tie saves parameters of the embeddings, shared layers those of the architecture.
"""

from collections.abc import Sequence

from pydantic import computed_field

from tiebench.comparison.contrast import Contrast
from tiebench.experiment.block import Block
from tiebench.results.record import Parameters

MILLION = 1e6
LEAST_SHARE = 0.01  # of the baseline's parameters: less is what matching leaves, not a saving


class Price(Block):
    """What one arm saves against the baseline, in the embeddings and in the layers, and what it pays for it.

    `ln_ratio` is the difference in nats per token (or per byte), arm minus baseline, and `change_percent` the same as a
    change of perplexity (or of bits per byte); below zero nothing is paid. `change_interval` is its 95 % interval.
    """

    arm: str
    baseline: str
    saved: int
    saved_in_embeddings: int
    saved_in_layers: int
    ln_ratio: float
    change_percent: float
    change_interval: tuple[float, float] | None

    @computed_field
    @property
    def percent(self) -> float:
        """Per cent paid for each million parameters saved."""
        return self.change_percent * MILLION / self.saved

    @computed_field
    @property
    def percent_interval(self) -> tuple[float, float] | None:
        """The 95 % interval of `percent`."""
        if self.change_interval is None:
            return None
        low, high = (end * MILLION / self.saved for end in self.change_interval)
        return low, high


def price_arms(contrasts: Sequence[Contrast], *, parameters: dict[str, Parameters]) -> list[Price]:
    """The price of every arm that has at least 1 % fewer parameters than the baseline, in their order."""
    prices = []
    for contrast in contrasts:
        ours, baseline, found = parameters[contrast.arm], parameters[contrast.baseline], contrast.headline
        saved = baseline.total - ours.total
        if found is None or saved < LEAST_SHARE * baseline.total:
            continue
        in_layers = baseline.architecture - ours.architecture
        prices.append(
            Price(
                arm=contrast.arm,
                baseline=contrast.baseline,
                saved=saved,
                saved_in_embeddings=saved - in_layers,
                saved_in_layers=in_layers,
                ln_ratio=found.ln_ratio,
                change_percent=found.percent,
                change_interval=contrast.interval_percent,
            )
        )
    return prices
