"""How a stream of tokens becomes training batches.

A recurrent model reads `batch_size` contiguous rows from left to right and carries its state. Where the first row
begins is drawn for each seed (`training.random_offset`); after its end, the stream continues at its beginning. A model
without state reads windows in a random order, cut at a random offset in every epoch. All of it depends only on the
generator "data" of the seed and on the epoch, so two arms at one seed see the same batches and a run can continue
anywhere.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from tiebench.corpora.stream import ParallelStream, TokenStream
from tiebench.errors import TiebenchError
from tiebench.experiment.training_config import TrainingConfig
from tiebench.models.generators import derive_seed
from tiebench.training.sentence_batches import SentenceBatches


@dataclass(frozen=True)
class Batches:
    """The training batches of a split: `steps_per_epoch` batches of up to `(batch_size, window)`, on `device`.

    An epoch reads each token at most once, and leaves some out. Contiguous rows are equally long, so the last
    `num_tokens % batch_size` tokens before the first row's beginning are never read: with `random_offset`, other ones
    at each seed; without, always those at the end of the text. With `drop_partial_window`, the last window of every row
    is left out too where it is shorter than the others. Shuffled windows leave out less than `batch_size + 2` windows,
    other ones in every epoch (0.4 % of Penn Treebank at 32 windows of 128 tokens).
    """

    stream: TokenStream
    batch_size: int
    window: int
    contiguous: bool
    seed: int
    device: torch.device = torch.device("cpu")
    random_offset: bool = False
    drop_partial_window: bool = False

    def __post_init__(self) -> None:
        if self.steps_per_epoch == 0:
            raise TiebenchError(
                f"the training split has {self.stream.num_tokens:,} tokens, too few for one batch of "
                f"{self.batch_size} x {self.window}",
                "lower training.batch_size or training.window",
            )

    @property
    def tokens_per_step(self) -> int:
        return self.batch_size * self.window

    @property
    def tokens_per_epoch(self) -> int:
        """What an epoch reads: of contiguous rows, also the last window, which may be shorter than the others."""
        columns = min(self.columns, self.steps_per_epoch * self.window) if self.contiguous else self.window
        return self.batch_size * columns * (1 if self.contiguous else self.steps_per_epoch)

    def count_tokens(self, num_steps: int) -> int:
        """How many tokens the first `num_steps` of training ask for."""
        epochs, rest = divmod(num_steps, self.steps_per_epoch)
        return epochs * self.tokens_per_epoch + rest * self.tokens_per_step

    def count_rows(self, num_steps: int) -> int:
        """How many tokens these steps compute: here nothing is filled up."""
        return self.count_tokens(num_steps)

    def count_targets(self, targets: Tensor) -> int:
        """How many tokens a batch asks for."""
        return targets.numel()

    @property
    def columns(self) -> int:
        return self.stream.num_tokens // self.batch_size

    @property
    def steps_per_epoch(self) -> int:
        if self.contiguous:
            return self.columns // self.window if self.drop_partial_window else -(-self.columns // self.window)
        return (self.stream.num_tokens // self.window - 1) // self.batch_size

    @cached_property
    def first_token(self) -> int:
        """Where in the stream the first of the contiguous rows begins."""
        if not (self.contiguous and self.random_offset):
            return 0
        return int(np.random.default_rng(derive_seed(self.seed, "data")).integers(self.stream.num_tokens))

    def read(self, step: int) -> tuple[Tensor, Tensor]:
        """Inputs and targets of a step, counted from the start of training, each int64 `(batch, time)`.

        A GPU copies from pinned memory, for which the host does not wait.
        """
        epoch, position = divmod(step, self.steps_per_epoch)
        starts, length = self._place(epoch, position)
        places = (starts[:, None] + np.arange(length)) % self.stream.num_tokens
        ids = self.stream.ids
        pair = torch.from_numpy(np.stack((ids[places], ids[places + 1])).astype(np.int64))
        if self.device.type == "cuda":
            pair = pair.pin_memory().to(self.device, non_blocking=True)
        return pair[0], pair[1]

    def starts_epoch(self, step: int) -> bool:
        return step % self.steps_per_epoch == 0

    def _place(self, epoch: int, position: int) -> tuple[np.ndarray, int]:
        """Where the rows of a batch begin, and how long they are."""
        if self.contiguous:
            offset = position * self.window
            starts = self.first_token + np.arange(self.batch_size) * self.columns + offset
            return starts, min(self.window, self.columns - offset)
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


def build_batches(
    training: TrainingConfig,
    *,
    stream: TokenStream,
    recurrent: bool,
    seed: int,
    device: torch.device = torch.device("cpu"),
) -> Batches | SentenceBatches:
    """The batches of a run. Raises TiebenchError for a stream too short for one batch, or a sentence too long."""
    if isinstance(stream, ParallelStream):
        return SentenceBatches(
            stream=stream, batch_size=training.batch_size, window=training.window, seed=seed, device=device
        )
    return Batches(
        stream=stream,
        batch_size=training.batch_size,
        window=training.window,
        contiguous=recurrent,
        seed=seed,
        device=device,
        random_offset=bool(training.random_offset),
        drop_partial_window=training.drop_partial_window,
    )
