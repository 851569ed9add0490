"""The processes (ranks) that train one run together: each has its rows of every batch, and all have the same model.

A step is that of one process, to rounding: the loss of a rank is scaled by the whole batch, gradients are added up over
the ranks, and every rank then clips and moves its copy by the same sum. torch's DistributedDataParallel cannot do it
here. Its hooks wait for autograd to add up each parameter's gradient, and the loss over the vocabulary writes the
gradient of the output embedding past autograd (losses/linear_cross_entropy.py): an untied one's hook would never be
called. So gradients are added up here, once, after the backward pass. What that costs is that nothing is sent while the
backward pass goes on.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from tiebench.layers.row_share import RowShare
from tiebench.losses.targets import IGNORED
from tiebench.models.sentence_pairs import SentencePairs
from tiebench.training.recurrent_states import map_states

BUCKET_ELEMENTS = 2**20  # smaller gradients are sent together, 4 MiB at a time; larger ones where they lie


class Ranks:
    """One process that trains alone: all rows are its own, and there is nobody to talk to."""

    number = 1
    rank = 0
    device: torch.device | None = None
    rows: RowShare | None = None

    @property
    def is_first(self) -> bool:
        """Whether this is the rank that writes and tells."""
        return self.rank == 0

    def take_rows(self, inputs: Tensor | SentencePairs, targets: Tensor) -> tuple[Tensor | SentencePairs, Tensor]:
        """This rank's rows of a batch. One without any gets a row whose targets count for nothing."""
        return inputs, targets

    def add_gradients(self, parameters: Sequence[Tensor]) -> None:
        """Every gradient becomes the sum over the ranks."""

    def add(self, values: Tensor) -> Tensor:
        """The sum over the ranks, in place."""
        return values

    def agree(self, *flags: bool) -> tuple[bool, ...]:
        """Each flag as it is at all ranks from now on: true where it is true at any."""
        return flags

    def wait(self) -> None:
        """Until all ranks are here."""
        self.agree(True)

    def find_highest(self, number: int) -> int:
        """The highest of the ranks' numbers."""
        return number

    def announce(self, number: float) -> float:
        """The first rank's number."""
        return number

    def gather_rows(self, values: Tensor) -> Tensor:
        """The rows `(rows, ...)` of all ranks, in their order."""
        return values

    def gather_lookups(self, lookups: list[tuple[Tensor, Tensor]] | None) -> None:
        """Looked-up tokens and their gradients of all ranks, in place of this rank's."""

    def gather_states(self, states: Any) -> Any:
        """Recurrent states, `(rows, width)` in each of their tensors, with the rows of all ranks."""
        return states

    def take_states(self, states: Any) -> Any:
        """This rank's rows of such states."""
        return states


ALONE = Ranks()


class SeveralRanks(Ranks):
    """This process among those of torch's default process group, which must be there, with gloo for the CPU.

    What is small and concerns the host goes through the CPU, so that no GPU is waited for. Raises RuntimeError when
    another rank is gone.
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.rank, self.number = dist.get_rank(), dist.get_world_size()
        self.rows = self.share = RowShare(self.rank, self.number)

    def take_rows(self, inputs: Tensor | SentencePairs, targets: Tensor) -> tuple[Tensor | SentencePairs, Tensor]:
        self.share.num_rows = len(targets)
        inputs, targets = inputs[self.share.place], targets[self.share.place]
        return inputs, torch.full_like(targets, IGNORED) if self.share.is_empty else targets

    def add_gradients(self, parameters: Sequence[Tensor]) -> None:
        small: list[Tensor] = []
        has_gradient = self.agree(*(parameter.grad is not None for parameter in parameters))
        for parameter in (each for each, has_one in zip(parameters, has_gradient, strict=True) if has_one):
            grad = parameter.grad
            if grad is None:  # no row of this rank asks for it, as for a band of rare words
                grad = parameter.grad = torch.zeros_like(parameter)
            if grad.is_sparse:
                parameter.grad = self._add_sparse(grad)
            elif grad.numel() < BUCKET_ELEMENTS or not grad.is_contiguous():
                small.append(grad)
            else:
                dist.all_reduce(grad)
        for bucket in _fill_buckets(small):
            self._add_together(bucket)

    def _add_together(self, grads: list[Tensor]) -> None:
        flat = self.add(torch.cat([grad.reshape(-1) for grad in grads]))
        for grad, part in zip(grads, flat.split([grad.numel() for grad in grads]), strict=True):
            grad.copy_(part.view_as(grad))

    def _add_sparse(self, grad: Tensor) -> Tensor:
        """All ranks' rows one after the other: a sparse tensor adds up equal ones when it is read."""
        places, rows = self.gather_rows(grad._indices().t().contiguous()), self.gather_rows(grad._values())
        return torch.sparse_coo_tensor(places.t(), rows, grad.shape, check_invariants=False)

    def add(self, values: Tensor) -> Tensor:
        dist.all_reduce(values)
        return values

    def agree(self, *flags: bool) -> tuple[bool, ...]:
        found = torch.tensor(flags, dtype=torch.int32)
        dist.all_reduce(found, op=dist.ReduceOp.MAX)
        return tuple(bool(flag) for flag in found.tolist())

    def find_highest(self, number: int) -> int:
        found = torch.tensor(number, dtype=torch.int64)
        dist.all_reduce(found, op=dist.ReduceOp.MAX)
        return int(found)

    def announce(self, number: float) -> float:
        found = torch.tensor(number, dtype=torch.float64)
        dist.broadcast(found, src=0)
        return found.item()

    def gather_rows(self, values: Tensor) -> Tensor:
        counts = [torch.zeros((), dtype=torch.int64) for _ in range(self.number)]
        dist.all_gather(counts, torch.tensor(len(values)))
        lengths = [int(count) for count in counts]
        filled = values.new_zeros((max(lengths), *values.shape[1:]))
        filled[: len(values)] = values
        parts = [torch.empty_like(filled) for _ in range(self.number)]
        dist.all_gather(parts, filled)
        return torch.cat([part[:length] for part, length in zip(parts, lengths, strict=True)])

    def gather_lookups(self, lookups: list[tuple[Tensor, Tensor]] | None) -> None:
        if lookups is not None:
            lookups[:] = [(self.gather_rows(tokens), self.gather_rows(rows)) for tokens, rows in lookups]

    def gather_states(self, states: Any) -> Any:
        return map_states(self.gather_rows, states)

    def take_states(self, states: Any) -> Any:
        return map_states(lambda part: part[RowShare(self.rank, self.number, len(part)).place], states)


def _fill_buckets(grads: list[Tensor]) -> Iterator[list[Tensor]]:
    """The gradients in their order, some at a time."""
    bucket: list[Tensor] = []
    for grad in grads:
        if bucket and sum(each.numel() for each in bucket) + grad.numel() > BUCKET_ELEMENTS:
            yield bucket
            bucket = []
        bucket.append(grad)
    if bucket:
        yield bucket
