"""Batches of pairs of sentences for translation: as many of about one length as fit, filled up to the longest.

All of it depends only on the generator "data" of the seed and on the epoch, so two arms at one seed see the same
batches and a run can continue anywhere.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from tiebench.corpora.stream import ParallelStream
from tiebench.errors import TiebenchError
from tiebench.losses.targets import IGNORED
from tiebench.models.generators import derive_seed
from tiebench.models.sentence_pairs import PADDING, SentencePairs


@dataclass(frozen=True)
class SentenceBatches:
    """The training batches of a split, on `device`; an epoch reads every pair once.

    A batch has at most `batch_size * window` places for ids in source and in target, padding included. Its pairs are
    about equally long: which ones of a length stand together, and the order of the batches, are drawn anew in every
    epoch. Raises TiebenchError where a sentence is longer than `window`.
    """

    stream: ParallelStream
    batch_size: int
    window: int
    seed: int
    device: torch.device = torch.device("cpu")

    def __post_init__(self) -> None:
        longest = int(self.lengths.argmax())
        num_tokens = int(self.lengths[longest])
        if num_tokens > self.window:
            raise TiebenchError(
                f"the training text has a pair of sentences of up to {num_tokens:,} tokens, in line {longest + 1:,}, "
                f"and training.window is {self.window:,}",
                f"raise training.window to {num_tokens}, and lower training.batch_size to keep the batches' size",
            )

    @cached_property
    def boundaries(self) -> tuple[np.ndarray, np.ndarray]:
        return self.stream.find_boundaries()

    @cached_property
    def lengths(self) -> np.ndarray:
        """The number of tokens of each pair's longer sentence, int64 `(pairs,)`."""
        source, target = (np.diff(places) for places in self.boundaries)
        return np.maximum(source, target)

    @cached_property
    def cuts(self) -> np.ndarray:
        """Where batches begin among the pairs by ascending length, and the end: the same in every epoch."""
        return cut_by_tokens(np.sort(self.lengths), most=self.batch_size * self.window)

    @property
    def steps_per_epoch(self) -> int:
        return len(self.cuts) - 1

    @property
    def tokens_per_step(self) -> int:
        """Those of the target, on average."""
        return round(self.stream.num_tokens / self.steps_per_epoch)

    @property
    def tokens_per_epoch(self) -> int:
        """Of the target: all."""
        return self.stream.num_tokens

    def count_tokens(self, num_steps: int) -> int:
        """How many target tokens the first `num_steps` of training ask for; of a part of an epoch, the average."""
        epochs, rest = divmod(num_steps, self.steps_per_epoch)
        return epochs * self.stream.num_tokens + rest * self.tokens_per_step

    def count_rows(self, num_steps: int) -> int:
        """How many tokens these steps compute at most: a batch that is full, padding included."""
        return num_steps * self.batch_size * self.window

    def starts_epoch(self, step: int) -> bool:
        return step % self.steps_per_epoch == 0

    def read(self, step: int) -> tuple[SentencePairs, Tensor]:
        """The pairs of a step, counted from the start of training, and their targets, int64 `(pairs, time)`."""
        epoch, position = divmod(step, self.steps_per_epoch)
        order, places = self._shuffle(epoch)
        place = places[position]
        pairs, targets = fill_up(self.stream, order[self.cuts[place] : self.cuts[place + 1]], self.boundaries)
        if self.device.type == "cuda":
            pairs = SentencePairs(pairs.source.pin_memory(), pairs.target.pin_memory())
            targets = targets.pin_memory()
        return pairs.to(self.device), targets.to(self.device, non_blocking=True)

    def count_targets(self, targets: Tensor) -> int:
        """How many tokens a batch asks for: not those of the padding."""
        return int((targets != IGNORED).sum())

    def _shuffle(self, epoch: int) -> tuple[np.ndarray, np.ndarray]:
        """The pairs by ascending length, equal ones in random order, and the order of the batches; the last is kept."""
        kept = self.__dict__.get("_kept")
        if kept is None or kept[0] != epoch:
            generator = np.random.default_rng(derive_seed(self.seed, f"data/{epoch}"))
            mixed = generator.permutation(len(self.lengths))
            order = mixed[np.argsort(self.lengths[mixed], kind="stable")]
            kept = (epoch, order, generator.permutation(self.steps_per_epoch))
            object.__setattr__(self, "_kept", kept)
        return kept[1], kept[2]


def cut_by_tokens(lengths: np.ndarray, *, most: int) -> np.ndarray:
    """Where to cut ascending lengths, so that rows times the longest is at most `most`; a row that is longer stands
    alone.

    Returns int64 `(batches + 1,)`, the last of which is the end.
    """
    cuts = [0]
    for place, length in enumerate(lengths.tolist()):
        if place > cuts[-1] and (place + 1 - cuts[-1]) * length > most:
            cuts.append(place)
    return np.array([*cuts, len(lengths)])


def fill_up(
    stream: ParallelStream, chosen: np.ndarray, boundaries: tuple[np.ndarray, np.ndarray]
) -> tuple[SentencePairs, Tensor]:
    """The pairs of these lines `(pairs,)` as a model reads them, and the targets, int64 `(pairs, time)`.

    A source is its tokens and the boundary after them. A target's input begins with the boundary before it.
    """
    source_starts, target_starts = boundaries
    sources = _fill_rows(stream.source.ids, source_starts[chosen] + 1, source_starts[chosen + 1] + 1, PADDING)
    inputs = _fill_rows(stream.ids, target_starts[chosen], target_starts[chosen + 1], 0)
    targets = _fill_rows(stream.ids, target_starts[chosen] + 1, target_starts[chosen + 1] + 1, IGNORED)
    return SentencePairs(sources, inputs), targets


def _fill_rows(ids: np.ndarray, starts: np.ndarray, ends: np.ndarray, padding: int) -> Tensor:
    """`ids[start:end]` of each row, filled up to the longest."""
    lengths = ends - starts
    places = np.arange(lengths.max())
    inside = places < lengths[:, None]
    rows = np.where(inside, ids[np.where(inside, starts[:, None] + places, 0)].astype(np.int64), padding)
    return torch.from_numpy(rows)
