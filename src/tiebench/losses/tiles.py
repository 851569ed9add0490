"""Scores of a large vocabulary, exponentiated tile by tile while they are in the cache, and the sums of each row.

A tile is some columns of the scores of some rows. Where a row's sum leaves the range in which float32 is exact to
rounding, its chunk is made again, relative to the largest score so far (Milakov & Gimelshein 2018).

In half precision products and exponentials are bfloat16, the latter made where the scores were, and sums are float32:
those of the rounded exponentials, so that the probabilities of a row add up to 1 as rounded.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from tiebench.losses.workspace import Workspace

BUFFER_BYTES = 128 * 2**20
TILE_BYTES = 12 * 2**20
MIN_ROWS = 256
CACHE_LINE_BYTES = 64
MIN_LINES = 17
NUM_BIAS_COLUMNS = 2
TRUSTED_SUMS = (1e-20, 1e30)
LOWEST_FACTOR = -80.0  # exp of it is still a normal float32


@dataclass(frozen=True)
class Part:
    """Some rows of the problem. `targets` are valid ids; `counts` `(rows,)` is the scale, or 0 where ignored.

    Hidden vectors `(rows, width)` and weights `(vocabulary, width)`, both as wide as the products, and a bias that is
    not among the weights' columns.
    """

    hidden: Tensor
    weights: Tensor
    bias: Tensor | None
    targets: Tensor
    counts: Tensor
    workspace: Workspace


@dataclass(frozen=True)
class Tile:
    """exp(score - top) of some columns of the vocabulary, `(rows, columns)`, and the `(rows, 1)` it is relative to."""

    columns: slice
    exponentials: Tensor
    top: Tensor


@dataclass(frozen=True)
class Total:
    """The sum over the tiles so far of exp(score - top), both `(rows, 1)` in float32."""

    sums: Tensor
    top: Tensor

    @property
    def nll(self) -> Tensor:
        """The logarithm of the sum of exp(score), `(rows,)`."""
        return (self.sums.log() + self.top).squeeze(1)

    def is_trusted(self, *, largest_factor: Tensor | float = 1.0) -> bool:
        """Whether what underflowed, times its factor, is too little to matter in every row, and nothing overflowed."""
        lowest, highest = TRUSTED_SUMS
        return bool(((self.sums > lowest * largest_factor) & (self.sums < highest)).all())


Visit = Callable[[Tile, Total | None, Total], None]


def split_rows(num_rows: int, *, num_columns: int, score_bytes: int = 4) -> Iterator[slice]:
    """Even chunks whose scores fit the buffer (but at least 256 rows: smaller products are slower)."""
    most = max(MIN_ROWS, BUFFER_BYTES // (score_bytes * num_columns))
    num_chunks = max(1, -(-num_rows // most))
    size = -(-num_rows // num_chunks) if num_rows else 0
    for start in range(0, num_rows, max(size, 1)):
        yield slice(start, min(start + size, num_rows))


def split_columns(vocabulary_size: int, *, hidden: Tensor) -> Iterator[slice]:
    """Tiles that fit a cache, in half precision with their copy in float32.

    A row of a tile is an odd number of cache lines: with a power of two, all rows would compete for the same few
    places in the cache, and the products would wait for them.
    """
    line_bytes = CACHE_LINE_BYTES if hidden.dtype == torch.float32 else 3 * CACHE_LINE_BYTES
    num_lines = TILE_BYTES // (line_bytes * max(1, len(hidden)))
    size = _count_per_line(hidden) * max(MIN_LINES, num_lines - 1 + num_lines % 2)
    for start in range(0, vocabulary_size, size):
        yield slice(start, min(start + size, vocabulary_size))


def cast_operands(
    hidden: Tensor, weight: Tensor, bias: Tensor | None, *, workspace: Workspace
) -> tuple[Tensor, Tensor, Tensor | None]:
    """Hidden vectors and weight as the products take them, and the bias where it is still to be added.

    The weight's copy lies in the same memory at every step. In half precision the bias becomes two columns of it,
    rounded and what rounding left, which meet ones in the hidden vectors: no pass over the scores is needed for it, and
    none rounds them a second time.
    """
    if weight.dtype == hidden.dtype:
        return hidden, weight, bias
    size, width = len(weight), weight.shape[1] + (NUM_BIAS_COLUMNS if bias is not None else 0)
    memory = workspace.take("weights", num_elements=size * width, device=weight.device, dtype=hidden.dtype)
    weights = memory.view(size, width)
    weights[:, : weight.shape[1]].copy_(weight)
    if bias is None:
        return hidden, weights, None
    first, second = weights[:, -2], weights[:, -1]
    second.copy_(bias - first.copy_(bias))
    return functional.pad(hidden, (0, NUM_BIAS_COLUMNS), value=1.0), weights, None


def count_narrowest(hidden: Tensor) -> int:
    """The columns of the narrowest tile that there may be."""
    return _count_per_line(hidden) * MIN_LINES


def _count_per_line(hidden: Tensor) -> int:
    return CACHE_LINE_BYTES // hidden.element_size()


def sum_exponentials(part: Part) -> Total:
    """The total alone, for evaluation. A bias is then a factor of each column, and the sum a product.

    This is not done where such a factor is too small for float32: the exponential of its column may be large.
    """
    if part.bias is None or part.bias.min() > LOWEST_FACTOR:
        column_factors = None if part.bias is None else part.bias.exp()
        sums = torch.zeros_like(part.counts)
        for span in split_columns(len(part.weights), hidden=part.hidden):
            exponentials = _take(part, "exponentials", part.hidden.dtype, slice(span.stop - span.start))
            torch.mm(part.hidden, part.weights[span].t(), out=exponentials)
            widened = _widen(part, exponentials.exp_())
            if column_factors is None:
                sums.add_(widened.sum(1))
            else:
                sums.addmv_(widened, column_factors[span])
        total = Total(sums.unsqueeze(1), torch.zeros_like(sums).unsqueeze(1))
        if total.is_trusted(largest_factor=1.0 if column_factors is None else column_factors.max()):
            return total
    return _visit_once(part, keep=False, relative=True, visit=lambda tile, before, total: None)


def visit_tiles(part: Part, *, visit: Visit) -> Total:
    """Show every tile to `visit(tile, total before, total with it)`; a second time where the sums are not trusted."""
    if len(list(split_columns(len(part.weights), hidden=part.hidden))) > 1:
        total = _visit_once(part, keep=True, relative=False, visit=visit)
        if total.is_trusted():
            return total
    return _visit_once(part, keep=True, relative=True, visit=visit)


def _visit_once(part: Part, *, keep: bool, relative: bool, visit: Visit) -> Total:
    total: Total | None = None
    for tile in _exponentiate(part, keep=keep, relative=relative):
        before, sums = total, _widen(part, tile.exponentials).sum(1, keepdim=True)
        if before is not None:
            sums += before.sums if before.top is tile.top else before.sums * (before.top - tile.top).exp()
        total = Total(sums, tile.top)
        visit(tile, before, total)
    assert total is not None, "a vocabulary has at least one tile"
    return total


def _exponentiate(part: Part, *, keep: bool, relative: bool) -> Iterator[Tile]:
    """The tiles from left to right. With `keep` all of them stay; without, a tile is gone when the next one comes.

    `relative` to the largest score of the row so far, or to 0.
    """
    top = part.counts.new_zeros(len(part.hidden), 1)
    for index, span in enumerate(split_columns(len(part.weights), hidden=part.hidden)):
        place = span if keep else slice(span.stop - span.start)
        exponentials = _take(part, "exponentials", part.hidden.dtype, place)
        torch.mm(part.hidden, part.weights[span].t(), out=exponentials)
        if part.bias is not None:
            exponentials.add_(part.bias[span])
        if relative:
            highest = exponentials.amax(1, keepdim=True).float()
            top = highest if index == 0 else torch.maximum(top, highest)
            exponentials.sub_(top)
        yield Tile(span, exponentials.exp_(), top)


def _widen(part: Part, exponentials: Tensor) -> Tensor:
    """The exponentials in float32, because their sum is taken in the precision that they have."""
    if exponentials.dtype == torch.float32:
        return exponentials
    place = _take(part, "widened", torch.float32, slice(exponentials.shape[1]))
    return place.copy_(exponentials)


def _take(part: Part, purpose: str, dtype: torch.dtype, columns: slice) -> Tensor:
    """Contiguous memory for some columns, `(rows, columns)`; other columns have other memory."""
    num_rows, device = len(part.hidden), part.hidden.device
    num_columns = len(part.weights) if columns.start else columns.stop
    buffer = part.workspace.take(purpose, num_elements=num_rows * num_columns, device=device, dtype=dtype)
    return buffer[num_rows * (columns.start or 0) : num_rows * columns.stop].view(num_rows, -1)


def add_product(part: Part, left: Tensor, right: Tensor, *, out: Tensor, beta: float) -> None:
    """`out = beta * out + left @ right` in out's precision, where beta 0 also forgets a NaN."""
    if left.dtype == out.dtype:
        torch.addmm(out, left, right, beta=beta, out=out)
    elif beta == 0.0:
        out.copy_(multiply(part, left, right))
    else:
        out.add_(multiply(part, left, right))


def multiply(part: Part, left: Tensor, right: Tensor) -> Tensor:
    """`left @ right` in memory that the next call uses again."""
    size = len(left) * right.shape[1]
    memory = part.workspace.take("product", num_elements=size, device=left.device, dtype=left.dtype)
    return torch.mm(left, right, out=memory.view(len(left), -1))
