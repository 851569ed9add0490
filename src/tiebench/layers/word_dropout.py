"""Dropout of words: a dropped word is missing at all its places, so it cannot be recognised where it comes again."""

import torch
from torch import Tensor

from tiebench.layers.row_share import RowShare


def draw_word_mask(
    tokens: Tensor, *, probability: float, generator: torch.Generator | None = None, rows: RowShare | None = None
) -> Tensor:
    """Factors `(batch, time, 1)` for the vectors of `tokens` `(batch, time)`: 0, or 1 / (1 - probability).

    Equal tokens of a row share one draw; rows are independent (Gal & Ghahramani 2016, section 4.2). A number is drawn
    for every place, and each token takes the one of its first place in the row. `generator` lives on the tokens'
    device; None is torch's default one. Where the tokens are a share of a batch (`rows`), numbers are drawn for the
    whole batch.
    """
    whole = tokens.shape if rows is None else rows.widen(tokens.shape)
    draws = torch.rand(whole, generator=generator, device=tokens.device)
    if rows is not None:
        draws = draws[rows.place]
    first_places = (tokens.unsqueeze(2) == tokens.unsqueeze(1)).int().argmax(2)
    kept = draws.gather(1, first_places) >= probability
    return (kept / (1 - probability)).unsqueeze(2)
