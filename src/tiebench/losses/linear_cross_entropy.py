"""The cross entropy of a linear layer over a large vocabulary, without ever holding all the scores afresh.

Scores are computed for a bounded number of rows at a time, tile by tile of the vocabulary, into a buffer that lives
as long as the model. A tile is exponentiated in place while it is in the cache and is never normalised: the factor
1 / sum goes into the thin side of the matrix products instead. Where a row's sum leaves the range in which float32
is exact to rounding, its chunk is made again, relative to the largest score so far (Milakov & Gimelshein 2018). The
gradient of the table is written straight into its `.grad`. The mathematics is that of
`F.cross_entropy(F.linear(hidden, table, bias), targets)`; only the order of the work differs. Why it pays on a CPU:
every pass over scores that are not in the cache waits for memory, and so does every fresh page.

With hidden vectors in bfloat16 the products are in bfloat16 too, and what is added up is added up in float32: the sums
of the exponentials, the gradient of the hidden vectors over the tiles, that of the table over chunks of rows and calls.
On a CPU the exponentials are bfloat16, made where the scores were, and their sum is that of the rounded ones, so that
the probabilities of a row add up to 1 as rounded. The bias is two more columns of the table there.
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
IGNORED = -100


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
    """exp(score - top) of some columns of the vocabulary, `(rows, columns)`, and the `(rows, 1)` it is relative to.

    `factors` are the same in the precision of the products: the exponentials themselves on a CPU and in float32, else
    memory for a copy.
    """

    columns: slice
    exponentials: Tensor
    top: Tensor
    factors: Tensor


@dataclass(frozen=True)
class Total:
    """The sum over the tiles so far of exp(score - top), both `(rows, 1)` in float32."""

    sums: Tensor
    top: Tensor

    @property
    def nats(self) -> Tensor:
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
    """Tiles that fit a cache, in half precision with their copy in float32; where there is no such cache, a single one.

    A row of a tile is an odd number of cache lines: of a power of two, all rows would compete for the same few places
    in the cache, and the products would wait for them.
    """
    size = vocabulary_size
    if _has_tiles(hidden):
        line_bytes = CACHE_LINE_BYTES if hidden.dtype == torch.float32 else 3 * CACHE_LINE_BYTES
        num_lines = TILE_BYTES // (line_bytes * max(1, len(hidden)))
        size = _count_per_line(hidden) * max(MIN_LINES, num_lines - 1 + num_lines % 2)
    for start in range(0, vocabulary_size, size):
        yield slice(start, min(start + size, vocabulary_size))


def token_nats(hidden: Tensor, table: Tensor, bias: Tensor | None, targets: Tensor, *, workspace: Workspace) -> Tensor:
    """The negative log likelihood of each target, for evaluation: no gradient, and one tile of scores at a time.

    hidden `(tokens, width)`, table `(vocabulary, width)`, targets `(tokens,)`; returns nats `(tokens,)` in float32.
    """
    nats = torch.empty(len(targets), device=hidden.device, dtype=torch.float32)
    num_columns = _count_per_line(hidden) * MIN_LINES if _has_tiles(hidden) else len(table)
    with torch.no_grad():
        vectors, weights, offsets = _cast(hidden, table, bias, workspace=workspace)
        for rows in split_rows(len(targets), num_columns=num_columns, score_bytes=_count_score_bytes(hidden)):
            kept = (targets[rows] != IGNORED).float()
            part = Part(vectors[rows], weights, offsets, targets[rows].clamp(min=0), kept, workspace)
            nats[rows] = _read_nats(part, _sum_up(part))
    return nats


def linear_cross_entropy(
    hidden: Tensor,
    table: Tensor,
    bias: Tensor | None,
    targets: Tensor,
    *,
    scale: float,
    workspace: Workspace,
) -> Tensor:
    """`scale` times the summed negative log likelihood of the targets, in nats; a scalar.

    hidden `(tokens, width)`, table `(vocabulary, width)`, bias `(vocabulary,)`, targets `(tokens,)`; a target of -100
    is left out. The gradients of table and bias are added to their `.grad` by this call itself, with the factor
    `scale`; `.backward()` on the result carries the gradient of `hidden` on. Raises RuntimeError when the result is
    scaled afterwards, because the tables' gradients would not follow: put the factor into `scale`. A table that is
    computed from parameters gets its gradient through autograd, one copy later. The memory of a gradient is used
    again after the next `zero_grad`: copy one that is to be kept. A table that needs no gradient gets none, and under
    `no_grad` nothing does.
    """
    if not torch.is_grad_enabled():
        return token_nats(hidden, table, bias, targets, workspace=workspace).sum() * scale
    return with_leaf_table(table, lambda leaf: _LinearCrossEntropy.apply(hidden, leaf, bias, targets, scale, workspace))


def with_leaf_table(table: Tensor, compute: Callable[[Tensor], Tensor]) -> Tensor:
    """`compute(table)`, a loss that writes the table's `.grad` itself; a computed table gets it through autograd."""
    if table.is_leaf:
        return compute(table)
    stand_in = table.detach().float().requires_grad_()
    stand_in.grad = torch.zeros_like(stand_in)
    return _PassOn.apply(compute(stand_in), table, stand_in)


class _PassOn(torch.autograd.Function):
    """The loss itself; on the way back, a stand-in's gradient goes to the computed table that it stands for."""

    @staticmethod
    def forward(ctx, loss, table, stand_in):  # noqa: ANN001
        ctx.stand_in, ctx.dtype = stand_in, table.dtype
        return loss.clone()

    @staticmethod
    def backward(ctx, factor):  # noqa: ANN001
        return factor, ctx.stand_in.grad.to(ctx.dtype), None


class _LinearCrossEntropy(torch.autograd.Function):
    @staticmethod
    def forward(ctx, hidden, table, bias, targets, scale, workspace):  # noqa: ANN001 (autograd's own signature)
        vectors, weights, offsets = _cast(hidden, table, bias, workspace=workspace)
        hidden_gradient = torch.empty_like(vectors, dtype=torch.float32)
        nats = torch.empty(len(targets), device=hidden.device, dtype=torch.float32)
        for rows in split_rows(len(targets), num_columns=len(table), score_bytes=_count_score_bytes(hidden)):
            chunk, wanted = vectors[rows], targets[rows]
            part = Part(chunk, weights, offsets, wanted.clamp(min=0), (wanted != IGNORED).float() * scale, workspace)
            tiles, total = _multiply_back(part, out=hidden_gradient[rows])
            nats[rows] = _read_nats(part, total)
            _add_table_gradients(part, tiles, total, table=table, bias=bias)
            if len(tiles) > 1:
                _subtract_targets(part, hidden_gradient[rows], table=table, bias=bias)
        ctx.save_for_backward(hidden_gradient[:, : hidden.shape[1]].to(hidden.dtype))
        return nats.sum() * scale

    @staticmethod
    def backward(ctx, factor):  # noqa: ANN001
        refuse_factor(factor)
        (hidden_gradient,) = ctx.saved_tensors
        return hidden_gradient, None, None, None, None, None


def refuse_factor(factor: Tensor) -> None:
    """Any factor but 1 is an error; a GPU finds it out by itself, later, so that the host does not wait for it."""
    message = "the tables' gradients are already written: give the factor as `scale`"
    if factor.device.type == "cuda":
        torch._assert_async(factor == 1.0, message)
    elif factor.item() != 1.0:
        raise RuntimeError(message)


def _cast(
    hidden: Tensor, table: Tensor, bias: Tensor | None, *, workspace: Workspace
) -> tuple[Tensor, Tensor, Tensor | None]:
    """Hidden vectors and table as the products take them, and the bias where it is still to be added.

    The table's copy lies in the same memory at every step. In half precision on a CPU the bias becomes two columns of
    it, rounded and what rounding left, which meet ones in the hidden vectors: no pass over the scores is needed for it,
    and none rounds them a second time.
    """
    if table.dtype == hidden.dtype:
        return hidden, table, bias
    joins = bias is not None and hidden.device.type == "cpu"
    size, width = len(table), table.shape[1] + (NUM_BIAS_COLUMNS if joins else 0)
    memory = workspace.take("weights", num_elements=size * width, device=table.device, dtype=hidden.dtype)
    weights = memory.view(size, width)
    weights[:, : table.shape[1]].copy_(table)
    if not joins:
        return hidden, weights, bias
    first, second = weights[:, -2], weights[:, -1]
    second.copy_(bias - first.copy_(bias))
    return functional.pad(hidden, (0, NUM_BIAS_COLUMNS), value=1.0), weights, None


def _has_tiles(hidden: Tensor) -> bool:
    return hidden.device.type == "cpu"


def _count_per_line(hidden: Tensor) -> int:
    return CACHE_LINE_BYTES // hidden.element_size()


def _count_score_bytes(hidden: Tensor) -> int:
    """Where scores are exponentiated in place, those of the products; else there is a copy in float32."""
    return hidden.element_size() if _has_tiles(hidden) else 4


def _sum_up(part: Part) -> Total:
    """The total alone, for evaluation. A bias is then a factor of each column, and the sum a product.

    Not so where such a factor is too small for float32: the exponential of its column may be large.
    """
    if _has_tiles(part.hidden) and (part.bias is None or part.bias.min() > LOWEST_FACTOR):
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
    return _visit_tiles(part, keep=False, relative=True, visit=lambda tile, before, total: None)


def _visit_trusted(part: Part, *, visit: Visit) -> Total:
    """Show every tile to `visit(tile, total before, total with it)`; a second time where the sums are not trusted."""
    if len(list(split_columns(len(part.weights), hidden=part.hidden))) > 1:
        total = _visit_tiles(part, keep=True, relative=False, visit=visit)
        if total.is_trusted():
            return total
    return _visit_tiles(part, keep=True, relative=True, visit=visit)


def _visit_tiles(part: Part, *, keep: bool, relative: bool, visit: Visit) -> Total:
    total = None
    for tile in _exponentiate(part, keep=keep, relative=relative):
        before, sums = total, _widen(part, tile.exponentials).sum(1, keepdim=True)
        if before is not None:
            sums += before.sums if before.top is tile.top else before.sums * (before.top - tile.top).exp()
        total = Total(sums, tile.top)
        visit(tile, before, total)
    return total


def _exponentiate(part: Part, *, keep: bool, relative: bool) -> Iterator[Tile]:
    """The tiles from left to right. With `keep` all of them stay; without, a tile is gone when the next one comes.

    `relative` to the largest score of the row so far, or to 0.
    """
    num_rows, top = len(part.hidden), part.counts.new_zeros(len(part.hidden), 1)
    for index, span in enumerate(split_columns(len(part.weights), hidden=part.hidden)):
        place = span if keep else slice(span.stop - span.start)
        exponentials = factors = _take(part, "exponentials", part.hidden.dtype, place)
        if part.hidden.dtype != torch.float32 and not _has_tiles(part.hidden):
            exponentials = _take(part, "exponentials", torch.float32, place)
        torch.mm(part.hidden, part.weights[span].t(), out=factors)
        if factors is not exponentials:
            exponentials.copy_(factors)
        if part.bias is not None:
            exponentials.add_(part.bias[span])
        if relative:
            highest = exponentials.amax(1, keepdim=True).float()
            top = highest if index == 0 else torch.maximum(top, highest)
            exponentials.sub_(top)
        yield Tile(span, exponentials.exp_(), top, factors)


def _widen(part: Part, exponentials: Tensor) -> Tensor:
    """The exponentials in float32, because their sum is taken in the precision that they have."""
    if exponentials.dtype == torch.float32:
        return exponentials
    place = _take(part, "widened", torch.float32, slice(exponentials.shape[1]))
    return place.copy_(exponentials)


def _take(part: Part, purpose: str, dtype: torch.dtype, columns: slice) -> Tensor:
    """Memory for some columns, `(rows, columns)`, contiguous; that of other columns is elsewhere."""
    num_rows, device = len(part.hidden), part.hidden.device
    num_columns = len(part.weights) if columns.start else columns.stop
    buffer = part.workspace.take(purpose, num_elements=num_rows * num_columns, device=device, dtype=dtype)
    return buffer[num_rows * (columns.start or 0) : num_rows * columns.stop].view(num_rows, -1)


def _multiply_back(part: Part, *, out: Tensor) -> tuple[list[Tile], Total]:
    """Every tile, their total, and in `out` `(rows, width)` float32 the gradient of the hidden vectors.

    Where there are several tiles, the part of the targets themselves is still to be subtracted.
    """
    tiles: list[Tile] = []

    def multiply(tile: Tile, before: Total | None, total: Total) -> None:
        if before is None:
            tiles.clear()
        elif before.top is not tile.top:
            out.mul_((before.top - tile.top).exp_())
        if tile.exponentials.shape[1] == len(part.weights):
            wanted = part.targets.unsqueeze(1)
            less = tile.exponentials.gather(1, wanted) - total.sums  # in float32, and rounded afterwards
            tile.exponentials.scatter_(1, wanted, less.to(tile.exponentials.dtype))
        if tile.factors is not tile.exponentials:
            tile.factors.copy_(tile.exponentials)
        _add_product(part, tile.factors, part.weights[tile.columns], out=out, beta=0.0 if before is None else 1.0)
        tiles.append(tile)

    total = _visit_trusted(part, visit=multiply)
    out.mul_(part.counts.unsqueeze(1) / total.sums)
    return tiles, total


def _read_nats(part: Part, total: Total) -> Tensor:
    """Each target's nats `(rows,)`, 0 where ignored: the logarithm of the sum, less the target's own score.

    The own score is rounded as it was in the sum; else a target that is sure could have less than no nats.
    """
    own = (part.hidden.float() * part.weights[part.targets].float()).sum(1).to(part.hidden.dtype).float()
    if part.bias is not None:
        own += part.bias[part.targets]
    nats = total.nats - own
    if part.hidden.dtype != torch.float32:
        nats.clamp_(min=0.0)  # a product may round the own score to the neighbour of what the line above made of it
    return nats.masked_fill_(part.counts == 0, 0.0)


def _add_table_gradients(part: Part, tiles: list[Tile], total: Total, *, table: Tensor, bias: Tensor | None) -> None:
    """Add `exponentials^T hidden`, each row normalised, to the table's gradient, and the column sums to the bias's."""
    table_beta = part.workspace.open_gradient(table) if table.requires_grad else None
    bias_beta = part.workspace.open_gradient(bias) if bias is not None and bias.requires_grad else None
    top = None
    for tile in tiles:
        if tile.top is not top:
            top = tile.top
            normal = part.counts.unsqueeze(1) * (top - total.top).exp_() / total.sums
            scaled = (part.hidden * normal).to(part.hidden.dtype)
        if part.bias is None and bias is not None:
            _add_gradients_together(part, tile, scaled, outs=(table.grad, bias.grad), betas=(table_beta, bias_beta))
            continue
        if table_beta is not None:
            _add_product(part, tile.factors.t(), scaled, out=table.grad[tile.columns], beta=table_beta)
        if bias_beta is not None:
            sums = bias.grad[tile.columns]
            torch.addmv(sums, tile.exponentials.t(), normal.squeeze(1), beta=bias_beta, out=sums)


def _add_gradients_together(
    part: Part, tile: Tile, scaled: Tensor, *, outs: tuple[Tensor | None, ...], betas: tuple[float | None, ...]
) -> None:
    """The gradients of the table and of a bias that is among the weights' columns, whose hidden vectors are ones."""
    product = _multiply(part, tile.factors.t(), scaled)
    for out, beta, columns in zip(outs, betas, (product[:, :-NUM_BIAS_COLUMNS], product[:, -1]), strict=True):
        if beta is not None:
            place = out[tile.columns]
            place.copy_(columns) if beta == 0.0 else place.add_(columns)


def _add_product(part: Part, left: Tensor, right: Tensor, *, out: Tensor, beta: float) -> None:
    """`out = beta * out + left @ right` in out's precision, where beta 0 also forgets a NaN."""
    if left.dtype == out.dtype:
        torch.addmm(out, left, right, beta=beta, out=out)
    elif beta == 0.0:
        out.copy_(_multiply(part, left, right))
    else:
        out.add_(_multiply(part, left, right))


def _multiply(part: Part, left: Tensor, right: Tensor) -> Tensor:
    """`left @ right` in memory that the next call uses again."""
    size = len(left) * right.shape[1]
    memory = part.workspace.take("product", num_elements=size, device=left.device, dtype=left.dtype)
    return torch.mm(left, right, out=memory.view(len(left), -1))


def _subtract_targets(part: Part, hidden_gradient: Tensor, *, table: Tensor, bias: Tensor | None) -> None:
    """The gradient of minus the targets' own scores, which several tiles leave out."""
    counts = part.counts.unsqueeze(1)
    hidden_gradient.addcmul_(part.weights[part.targets].float(), counts, value=-1)
    if table.requires_grad:
        table.grad.index_add_(0, part.targets, part.hidden[:, : table.shape[1]] * counts, alpha=-1)
    if bias is not None and bias.requires_grad:
        bias.grad.index_add_(0, part.targets, part.counts, alpha=-1)
