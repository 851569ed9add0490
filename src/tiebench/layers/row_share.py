"""Which rows of a batch a process has, where several processes share every batch out."""

from dataclasses import dataclass

import torch


@dataclass
class RowShare:
    """The part of rank `rank` of `num_ranks`: equal parts where the rows divide, else the first ranks have one more.

    Random factors are drawn for all rows of a batch, and each rank keeps those of its own. So all ranks together see
    the masks of a process that has the whole batch; what it costs is that each draws, and for a moment holds, them all.
    """

    rank: int
    num_ranks: int
    num_rows: int = 0

    @property
    def place(self) -> slice:
        """Where this rank's rows stand among the `num_rows`. One that has none stands at the first row."""
        start, stop = (index * self.num_rows // self.num_ranks for index in (self.rank, self.rank + 1))
        return slice(start, stop) if stop > start else slice(0, 1)

    @property
    def is_empty(self) -> bool:
        """Whether there are fewer rows than ranks, and none for this one."""
        return self.rank * self.num_rows // self.num_ranks == (self.rank + 1) * self.num_rows // self.num_ranks

    def widen(self, shape: torch.Size | tuple[int, ...]) -> tuple[int, ...]:
        """The shape `(rows, ...)` with all rows of the batch."""
        return (self.num_rows, *shape[1:])
