"""Pairs of sentences as a translating model reads them: a source beside each target, filled up to one length."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from tiebench.losses.targets import IGNORED

PADDING = IGNORED  # no entry of the vocabulary


@dataclass(frozen=True)
class SentencePairs:
    """Ids int64: `source` `(batch, time)` ends with a boundary, `target` `(batch, other time)` begins with one.

    A shorter source is filled up with `PADDING`, which no part of the model sees. The places after a shorter target
    are seen by none before them and are not scored, so any id may stand there.
    """

    source: Tensor
    target: Tensor

    def to(self, device: torch.device) -> "SentencePairs":
        """The same on another device; a GPU copies from pinned memory, for which the host does not wait."""
        return SentencePairs(*(part.to(device, non_blocking=True) for part in (self.source, self.target)))

    def __getitem__(self, rows: slice) -> "SentencePairs":
        return SentencePairs(self.source[rows], self.target[rows])

    def chunk(self, num_parts: int) -> Sequence["SentencePairs"]:
        """The rows in that many parts, as `Tensor.chunk` cuts them."""
        parts = zip(self.source.chunk(num_parts), self.target.chunk(num_parts), strict=True)
        return [SentencePairs(source, target) for source, target in parts]
