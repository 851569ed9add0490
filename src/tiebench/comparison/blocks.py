"""Blocks of a test text: the pieces that count as independent when the text is seen as a sample of its language."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

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


def average_blocks(token_nats: "np.ndarray", *, starts: "np.ndarray") -> "np.ndarray":
    """The mean of each block, shape (seeds, blocks), float64, of the nats of tokens, shape (seeds, tokens).

    A run at a time: float64 copies of all runs would be the largest thing in memory, and the slowest.
    """
    import numpy as np

    sums = np.array([_sum_blocks(nats, starts) for nats in token_nats])
    return sums / count_tokens(token_nats.shape[1], starts=starts)


def _sum_blocks(nats: "np.ndarray", starts: "np.ndarray") -> "np.ndarray":
    """The sum of each block of one run, shape (blocks,), float64."""
    import numpy as np

    return np.add.reduceat(np.asarray(nats, dtype=np.float64), starts)


def count_tokens(num_tokens: int, *, starts: "np.ndarray") -> "np.ndarray":
    """The length of each block in tokens, shape (blocks,)."""
    import numpy as np

    return np.diff(starts, append=num_tokens)


class BlockMeans(NamedTuple):
    """What is kept of the nats of an arm: the means of the blocks, shape (seeds, blocks), and those of the cells
    (decade by block), shape (seeds, cells), both float64.
    """

    blocks: "np.ndarray"
    cells: "np.ndarray"


class TextBin(NamedTuple):
    """The tokens of one decade: how many, which cells are theirs, and the share of each in them, shape (cells,)."""

    decade: int
    num_tokens: int
    cells: slice
    weights: "np.ndarray"


@dataclass(frozen=True)
class CutText:
    """A test text cut into blocks, and into the same blocks within each decade of frequency (`comparison.frequency`).

    `order` has the tokens by decade, `(tokens,)`, and within one as in the text; it is None where no decades are known.
    `cells` are the places in it where a decade or a block begins. `of_articles` says that blocks are whole articles.
    """

    num_tokens: int
    starts: "np.ndarray"
    order: "np.ndarray | None"
    cells: "np.ndarray"
    bins: tuple[TextBin, ...]
    of_articles: bool = False

    @property
    def weights(self) -> "np.ndarray":
        """The share of each block in the tokens, shape (blocks,)."""
        return count_tokens(self.num_tokens, starts=self.starts) / self.num_tokens

    def add_up(self, nats: "np.ndarray") -> "tuple[np.ndarray, np.ndarray]":
        """The sums of blocks, shape (blocks,), and cells, shape (cells,), of a run from its nats, shape (tokens,).

        Raises ValueError for another number of tokens.
        """
        if nats.shape != (self.num_tokens,):
            raise ValueError(f"the text has {self.num_tokens} tokens, found nats of shape {nats.shape}")
        if self.order is None:
            return _sum_blocks(nats, self.starts), self.cells * 0.0
        by_decade = nats.take(self.order, mode="clip")  # every place exists: no need to look
        return _sum_blocks(nats, self.starts), _sum_blocks(by_decade, self.cells)

    def average(self, sums: "Sequence[tuple[np.ndarray, np.ndarray]]") -> BlockMeans:
        """The means of an arm from the sums of its runs."""
        import numpy as np

        blocks, cells = (np.array(parts) for parts in zip(*sums, strict=True))
        lengths = (count_tokens(self.num_tokens, starts=starts) for starts in (self.starts, self.cells))
        return BlockMeans(blocks / next(lengths), cells / next(lengths))


def cut_text(
    num_tokens: int, *, decades: "np.ndarray | None" = None, article_starts: Sequence[int] | None = None
) -> CutText:
    """A text cut into blocks (`cut_blocks`), and where `decades` are known, shape (tokens,), each of these by itself.

    A block without a token of a decade falls away there. Raises ValueError for decades of another length, and as
    `cut_blocks` does.
    """
    import numpy as np

    starts, of_articles = cut_blocks(num_tokens, article_starts=article_starts), article_starts is not None
    if decades is None:
        return CutText(num_tokens, starts, order=None, cells=starts[:0], bins=(), of_articles=of_articles)
    if decades.shape != (num_tokens,):
        raise ValueError(f"{num_tokens} tokens have as many decades, found {decades.shape}")
    parts, cells, bins, num_before = [], [], [], 0
    for decade in np.unique(decades):
        (places,) = np.nonzero(decades == decade)
        within = np.unique(np.searchsorted(places, starts))
        within = within[within < len(places)]
        weights = count_tokens(len(places), starts=within) / len(places)
        own = slice(len(cells), len(cells) + len(within))
        bins.append(TextBin(int(decade), len(places), own, weights))
        parts.append(places)
        cells += (num_before + within).tolist()
        num_before += len(places)
    return CutText(num_tokens, starts, np.concatenate(parts), np.array(cells), tuple(bins), of_articles)
