"""Blocks of a test text: the pieces that count as independent when the text is seen as a sample of its language."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np

MIN_BLOCK_TOKENS = 1_000
MOST_BLOCKS = 80


def cut_blocks(num_tokens: int, *, article_starts: Sequence[int] | None = None) -> "np.ndarray":
    """Where the blocks of a text start, shape (blocks,), in tokens; the first is 0.

    Blocks are articles where `article_starts` says where these begin, and runs of equal length otherwise. Neighbouring
    tokens share a topic, so short blocks are not independent and their error is too small; no block has fewer than
    1,000 tokens: a shorter article is joined with the next one (the last with the one before). Without articles there
    are at most 80 blocks, each of them longer in a longer text: 79 degrees of freedom widen an interval by 1.6 %
    against infinitely many, so more blocks would gain nothing and lose independence. A text of fewer than 2,000
    tokens is one block, which says nothing of the variation between texts.

    Raises ValueError for an empty text and for starts that do not increase within it.
    """
    import numpy as np

    if num_tokens < 1:
        raise ValueError("a text without tokens has no blocks")
    if article_starts is None:
        num_blocks = max(1, min(MOST_BLOCKS, num_tokens // MIN_BLOCK_TOKENS))
        return np.arange(num_blocks) * num_tokens // num_blocks
    starts = [0]
    last = -1
    for start in article_starts:
        if not last < start < num_tokens:
            raise ValueError(f"article starts must increase and lie in 0..{num_tokens - 1}, found {start} after {last}")
        if start - starts[-1] >= MIN_BLOCK_TOKENS:
            starts.append(start)
        last = start
    if len(starts) > 1 and num_tokens - starts[-1] < MIN_BLOCK_TOKENS:
        starts.pop()
    return np.array(starts)


def average_blocks(
    token_nats: "np.ndarray", *, starts: "np.ndarray", places: "np.ndarray | None" = None
) -> "np.ndarray":
    """The mean of each block, shape (seeds, blocks), float64, of the nats of tokens, shape (seeds, tokens).

    With `places`, only the tokens at these places count, and `starts` cuts these. A run at a time: float64 copies of
    all runs would be the largest thing in memory, and the slowest.
    """
    import numpy as np

    sums = np.empty((len(token_nats), len(starts)))
    for run, nats in enumerate(token_nats):
        chosen = nats if places is None else nats[places]
        sums[run] = np.add.reduceat(np.asarray(chosen, dtype=np.float64), starts)
    return sums / count_tokens(token_nats.shape[1] if places is None else len(places), starts=starts)


def count_tokens(num_tokens: int, *, starts: "np.ndarray") -> "np.ndarray":
    """The length of each block in tokens, shape (blocks,)."""
    import numpy as np

    return np.diff(starts, append=num_tokens)
