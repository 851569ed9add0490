"""A vocabulary, sorted by how often its entries stand in the training text, cut into bands of falling width."""

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from torch import Tensor

from tiebench.errors import UsageError
from tiebench.experiment.embedding_config import AdaptiveConfig


@dataclass(frozen=True)
class Band:
    """Words `start` to `stop - 1` by descending frequency, and the width of their vectors."""

    start: int
    stop: int
    width: int

    @property
    def size(self) -> int:
        return self.stop - self.start

    def contains(self, ranks: Tensor) -> Tensor:
        return (ranks >= self.start) & (ranks < self.stop)


def cut_bands(adaptive: AdaptiveConfig, *, vocabulary_size: int, width: int) -> list[Band]:
    """The bands of a vocabulary whose first has this width. Raises UsageError for a cutoff that leaves no word."""
    last = adaptive.cutoffs[-1]
    if last >= vocabulary_size:
        raise UsageError(
            f"embedding.adaptive.cutoffs: {last:,} is beyond the vocabulary, which has {vocabulary_size:,} words",
            f"write cutoffs below {vocabulary_size:,}",
        )
    ends = pairwise((0, *adaptive.cutoffs, vocabulary_size))
    return [Band(start, stop, max(1, width // adaptive.factor**number)) for number, (start, stop) in enumerate(ends)]


def sort_tokens(counts: np.ndarray) -> np.ndarray:
    """The tokens by descending count, `(vocabulary,)`; of equally frequent ones, the lower id comes first."""
    return np.argsort(-counts, kind="stable")


def measure_shares(bands: list[Band], counts: np.ndarray) -> list[float]:
    """Which share of the text each band has; `counts` `(vocabulary,)` by descending frequency."""
    return [float(counts[band.start : band.stop].sum() / counts.sum()) for band in bands]


def estimate_shares(bands: list[Band]) -> list[float]:
    """The same by Zipf's law, where no text was counted: a word's frequency is 1 over its rank."""
    return measure_shares(bands, 1 / np.arange(1, bands[-1].stop + 1))
