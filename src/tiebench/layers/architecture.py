"""What every architecture has: it maps vectors to vectors, fills its parameters and counts its operations."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import nn


@dataclass(frozen=True)
class SourceVectors:
    """What is translated: vectors `(batch, time, width)`, and `(batch, time)` bool, where they stand for tokens and not
    for padding.
    """

    vectors: torch.Tensor
    is_token: torch.Tensor


class Architecture(nn.Module, ABC):
    """What lies between the two ends of a model. It maps vectors to vectors and knows no tokens.

    `recurrent` models carry a state from window to window; the others see at most `max_context` tokens at once (None:
    any number). `width` is that of the vectors on both sides. One that `reads_source` translates: its state
    is a `SourceVectors`, and it carries none on.
    """

    recurrent: ClassVar[bool]
    reads_source: ClassVar[bool] = False
    width: int
    max_context: int | None

    @abstractmethod
    def forward(self, vectors: torch.Tensor, state: Any = None) -> tuple[torch.Tensor, Any]:
        """Vectors `(batch, time, width)` to vectors of the same shape, and the state after them (or None)."""

    @abstractmethod
    def initialise(self, generator: torch.Generator) -> None:
        """Fill every parameter from `generator` and from nothing else."""

    @abstractmethod
    def count_flops(self, num_tokens_context: int) -> int:
        """Forward floating point operations per token in windows of that many tokens: two per multiply-add."""
