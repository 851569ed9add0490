"""How a stream of tokens becomes training batches.

A recurrent model reads `batch_size` contiguous rows from left to right and carries its state. A model without state
reads windows in a random order, cut at a random offset in every epoch; order and offset depend only on the stream
"data" of the seed and on the epoch, so two arms at one seed see the same batches and a run can continue anywhere.
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from tiebench.corpora.stream import TokenStream
from tiebench.errors import TiebenchError
from tiebench.models.generators import derive_seed


@dataclass(frozen=True)
class Batches:
    """The training batches of a split: `steps_per_epoch` batches of up to `(batch_size, window)`, on `device`."""

    stream: TokenStream
    batch_size: int
    window: int
    contiguous: bool
    seed: int
    device: torch.device = torch.device("cpu")

    def __post_init__(self) -> None:
        if self.steps_per_epoch == 0:
            raise TiebenchError(
                f"the training split has {self.stream.num_tokens:,} tokens, too few for one batch of "
                f"{self.batch_size} x {self.window}",
                "lower training.batch_size or training.window",
            )

    @property
    def columns(self) -> int:
        return self.stream.num_tokens // self.batch_size

    @property
    def steps_per_epoch(self) -> int:
        if self.contiguous:
            return -(-self.columns // self.window)
        return (self.stream.num_tokens // self.window - 1) // self.batch_size

    def read(self, step: int) -> tuple[Tensor, Tensor]:
        """Inputs and targets of a step, counted from the start of training, each int64 `(batch, time)`.

        A GPU copies from pinned memory, for which the host does not wait.
        """
        epoch, position = divmod(step, self.steps_per_epoch)
        starts, length = self._place(epoch, position)
        ids = self.stream.ids
        rows = torch.from_numpy(np.stack([ids[start : start + length + 1] for start in starts]).astype(np.int64))
        if self.device.type == "cuda":
            rows = rows.pin_memory().to(self.device, non_blocking=True)
        return rows[:, :-1], rows[:, 1:]

    def starts_epoch(self, step: int) -> bool:
        return step % self.steps_per_epoch == 0

    def _place(self, epoch: int, position: int) -> tuple[np.ndarray, int]:
        """Where the rows of a batch begin, and how long they are."""
        if self.contiguous:
            offset = position * self.window
            return np.arange(self.batch_size) * self.columns + offset, min(self.window, self.columns - offset)
        offset, order = self._shuffle(epoch)
        chosen = order[position * self.batch_size : (position + 1) * self.batch_size]
        return offset + chosen * self.window, self.window

    def _shuffle(self, epoch: int) -> tuple[int, np.ndarray]:
        """The offset and the order of the windows in an epoch; the last one computed is kept."""
        kept = self.__dict__.get("_kept")
        if kept is None or kept[0] != epoch:
            generator = np.random.default_rng(derive_seed(self.seed, f"data/{epoch}"))
            offset = int(generator.integers(self.window))
            kept = (epoch, offset, generator.permutation(self.stream.num_tokens // self.window - 1))
            object.__setattr__(self, "_kept", kept)
        return kept[1], kept[2]
