"""Dropout whose masks come from a generator of its own, so that drawing one changes no other random number."""

import torch
from torch import nn

from tiebench.layers.row_share import RowShare

NUM_DRAWS = 2**31


class Dropout(nn.Module):
    """Zero each element with probability `probability` and scale the others so that the mean stays (training only).

    Srivastava et al. 2014; with `shared_over_time`, one mask serves every step of a window (Gal & Ghahramani 2016).
    The probability is rounded to a multiple of 2^-31. The mask is drawn from `generator`, or from torch's default
    one where that is None; the generator must live on the vectors' device. Where the vectors are a share of a batch
    (`rows`), it is drawn for the whole batch.
    """

    def __init__(self, probability: float, *, shared_over_time: bool = False) -> None:
        super().__init__()
        self.probability = probability
        self.shared_over_time = shared_over_time
        self.generator: torch.Generator | None = None
        self.rows: RowShare | None = None

    @property
    def active(self) -> bool:
        """Whether a mask would be drawn now: training, at a probability above zero."""
        return self.training and self.probability > 0

    def forward(self, vectors: torch.Tensor) -> torch.Tensor:
        """Any shape; (batch, time, width) where the mask is shared over time. Where not active, the vectors
        themselves.
        """
        if not self.active:
            return vectors
        return vectors * self.draw_mask(vectors)

    def draw_mask(self, vectors: torch.Tensor) -> torch.Tensor:
        """Factors for `vectors`: 0, or 1 / (1 - probability); shape (batch, 1, width) where shared over time.

        Whole numbers are drawn because that costs a quarter of `torch.nn.functional.dropout` on a CPU.
        """
        shape = (vectors.shape[0], 1, vectors.shape[2]) if self.shared_over_time else vectors.shape
        whole = shape if self.rows is None else self.rows.widen(shape)
        draws = torch.empty(whole, dtype=torch.int32, device=vectors.device).random_(generator=self.generator)
        if self.rows is not None:
            draws = draws[self.rows.place]
        num_dropped = round(self.probability * NUM_DRAWS)
        return (draws >= num_dropped).to(vectors.dtype).mul_(NUM_DRAWS / (NUM_DRAWS - num_dropped))

    def extra_repr(self) -> str:
        return f"{self.probability}, shared_over_time={self.shared_over_time}"


def set_generator(module: nn.Module, generator: torch.Generator | None, *, rows: RowShare | None = None) -> None:
    """Let every Dropout in `module` draw from `generator` from now on, for batches of which it sees `rows`."""
    for part in module.modules():
        if isinstance(part, Dropout):
            part.generator, part.rows = generator, rows


def choose_probability(override: float | None, *, default: float) -> float:
    """The override where one is given (zero counts as given), else the default."""
    return default if override is None else override
