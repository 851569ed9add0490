"""The cross entropy of a linear layer over a large vocabulary, without allocating all the scores at each step.

On a CPU, scores are computed for a bounded number of rows at a time, tile by tile of the vocabulary (`tiles.py`), into
a buffer that lives as long as the model. A tile is exponentiated in place while it is in the cache and is never
normalised: the factor 1 / sum goes into the thin side of the matrix products instead. The gradient of the weight is
written straight into its `.grad`. The mathematics is that of `F.cross_entropy(F.linear(hidden, weight, bias),
targets)`; only the order of the work differs. Why it pays: every pass over scores that are not in the cache waits for
memory, and so does every fresh page.

With hidden vectors in bfloat16 the products are in bfloat16 too, and sums are in float32: those of the exponentials,
the gradient of the hidden vectors over the tiles, and that of the weight over chunks of rows and calls.

Elsewhere the same is done over whole rows (`whole_rows.py`).
"""

from collections.abc import Callable

import torch
from torch import Tensor

from tiebench.losses.targets import IGNORED
from tiebench.losses.tiles import (
    NUM_BIAS_COLUMNS,
    Part,
    Tile,
    Total,
    add_product,
    cast_operands,
    count_narrowest,
    multiply,
    split_rows,
    sum_exponentials,
    visit_tiles,
)
from tiebench.losses.whole_rows import differentiate_rows, measure_rows
from tiebench.losses.workspace import Workspace


def token_nll(hidden: Tensor, weight: Tensor, bias: Tensor | None, targets: Tensor, *, workspace: Workspace) -> Tensor:
    """The negative log likelihood of each target, for evaluation: no gradient, and one tile of scores at a time.

    hidden `(tokens, width)`, weight `(vocabulary, width)`, targets `(tokens,)`; returns nats `(tokens,)` in float32.
    """
    if not has_tiles(hidden):
        with torch.no_grad():
            return measure_rows(hidden, weight, bias, targets, workspace=workspace)
    nll = torch.empty(len(targets), device=hidden.device, dtype=torch.float32)
    num_columns = count_narrowest(hidden)
    with torch.no_grad():
        vectors, weights, offsets = cast_operands(hidden, weight, bias, workspace=workspace)
        for rows in split_rows(len(targets), num_columns=num_columns, score_bytes=hidden.element_size()):
            kept = (targets[rows] != IGNORED).float()
            part = Part(vectors[rows], weights, offsets, targets[rows].clamp(min=0), kept, workspace)
            nll[rows] = _read_nll(part, sum_exponentials(part))
    return nll


def linear_cross_entropy(
    hidden: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    targets: Tensor,
    *,
    scale: float,
    workspace: Workspace,
) -> Tensor:
    """`scale` times the summed negative log likelihood of the targets, in nats; a scalar.

    hidden `(tokens, width)`, weight `(vocabulary, width)`, bias `(vocabulary,)`, targets `(tokens,)`; a target of -100
    is left out. The gradients of weight and bias are added to their `.grad` by this call itself, with the factor
    `scale`; `.backward()` on the result carries the gradient of `hidden` on. Raises RuntimeError when the result is
    scaled afterwards, because the parameters' gradients would not follow: put the factor into `scale`. A weight or bias
    that is computed from parameters gets its gradient through autograd, one copy later. The memory of a gradient is
    used again after the next `zero_grad`: copy one that is to be kept. A weight that needs no gradient gets none, and
    under `no_grad` nothing does.
    """
    if not torch.is_grad_enabled():
        return token_nll(hidden, weight, bias, targets, workspace=workspace).sum() * scale

    def compute(leaf: Tensor, leaf_bias: Tensor | None) -> Tensor:
        return _LinearCrossEntropy.apply(hidden, leaf, leaf_bias, targets, scale, workspace)

    if bias is None:
        return with_leaf(weight, lambda leaf: compute(leaf, None))
    return with_leaf(bias, lambda leaf_bias: with_leaf(weight, lambda leaf: compute(leaf, leaf_bias)))


def has_tiles(hidden: Tensor) -> bool:
    """Whether the scores are made tile by tile: where a processor has a cache that keeps one."""
    return hidden.device.type == "cpu"


def with_leaf(parameter: Tensor, compute: Callable[[Tensor], Tensor]) -> Tensor:
    """`compute(parameter)`, a loss that writes the `.grad` itself; a computed parameter gets it through autograd."""
    if parameter.is_leaf:
        return compute(parameter)
    stand_in = parameter.detach().float().requires_grad_()
    stand_in.grad = torch.zeros_like(stand_in)
    return _PassOn.apply(compute(stand_in), parameter, stand_in)


class _PassOn(torch.autograd.Function):
    """The loss itself; on the way back, a stand-in's gradient goes to the computed parameter that it stands for."""

    @staticmethod
    def forward(ctx, loss, parameter, stand_in):
        ctx.stand_in, ctx.dtype = stand_in, parameter.dtype
        return loss.clone()

    @staticmethod
    def backward(ctx, *factors):
        return *factors, ctx.stand_in.grad.to(ctx.dtype), None


class _LinearCrossEntropy(torch.autograd.Function):
    @staticmethod
    def forward(ctx, hidden, weight, bias, targets, scale, workspace):
        if not has_tiles(hidden):
            nll, gradient = differentiate_rows(hidden, weight, bias, targets, scale=scale, workspace=workspace)
            ctx.save_for_backward(gradient)
            return nll.sum() * scale
        vectors, weights, offsets = cast_operands(hidden, weight, bias, workspace=workspace)
        hidden_gradient = torch.empty_like(vectors, dtype=torch.float32)
        nll = torch.empty(len(targets), device=hidden.device, dtype=torch.float32)
        for rows in split_rows(len(targets), num_columns=len(weight), score_bytes=hidden.element_size()):
            chunk, wanted = vectors[rows], targets[rows]
            part = Part(chunk, weights, offsets, wanted.clamp(min=0), (wanted != IGNORED).float() * scale, workspace)
            tiles, total = _multiply_back(part, out=hidden_gradient[rows])
            nll[rows] = _read_nll(part, total)
            _add_weight_gradients(part, tiles, total, weight=weight, bias=bias)
            if len(tiles) > 1:
                _subtract_targets(part, hidden_gradient[rows], weight=weight, bias=bias)
        ctx.save_for_backward(hidden_gradient[:, : hidden.shape[1]].to(hidden.dtype))
        return nll.sum() * scale

    @staticmethod
    def backward(ctx, *factors):
        refuse_factor(*factors)
        (hidden_gradient,) = ctx.saved_tensors
        return hidden_gradient, None, None, None, None, None


def refuse_factor(factor: Tensor) -> None:
    """Any factor but 1 is an error; a GPU checks it later, by itself, so that the host does not wait for it."""
    message = "the parameters' gradients are already written: give the factor as `scale`"
    if factor.device.type == "cuda":
        torch._assert_async(factor == 1.0, message)
    elif factor.item() != 1.0:
        raise RuntimeError(message)


def _multiply_back(part: Part, *, out: Tensor) -> tuple[list[Tile], Total]:
    """Every tile, their total, and in `out` `(rows, width)` float32 the gradient of the hidden vectors.

    Where there are several tiles, the part of the targets themselves is still to be subtracted.
    """
    tiles: list[Tile] = []

    def multiply_tile(tile: Tile, before: Total | None, total: Total) -> None:
        if before is None:
            tiles.clear()
        elif before.top is not tile.top:
            out.mul_((before.top - tile.top).exp_())
        if tile.exponentials.shape[1] == len(part.weights):
            wanted = part.targets.unsqueeze(1)
            less = tile.exponentials.gather(1, wanted) - total.sums  # in float32, and rounded afterwards
            tile.exponentials.scatter_(1, wanted, less.to(tile.exponentials.dtype))
        add_product(part, tile.exponentials, part.weights[tile.columns], out=out, beta=0.0 if before is None else 1.0)
        tiles.append(tile)

    total = visit_tiles(part, visit=multiply_tile)
    out.mul_(part.counts.unsqueeze(1) / total.sums)
    return tiles, total


def _read_nll(part: Part, total: Total) -> Tensor:
    """Each target's nats `(rows,)`, 0 where ignored: the logarithm of the sum, less the target's own score.

    The target's own score is rounded as it was in the sum; else a target of probability 1 could get negative nats.
    """
    own = (part.hidden.float() * part.weights[part.targets].float()).sum(1).to(part.hidden.dtype).float()
    if part.bias is not None:
        own += part.bias[part.targets]
    nll = total.nll - own
    if part.hidden.dtype != torch.float32:
        nll.clamp_(min=0.0)  # the product in the sum may have rounded the own score to a neighbour of this value
    return nll.masked_fill_(part.counts == 0, 0.0)


def _add_weight_gradients(part: Part, tiles: list[Tile], total: Total, *, weight: Tensor, bias: Tensor | None) -> None:
    """Add `exponentials^T hidden`, each row normalised, to the weight's gradient, and the column sums to the bias's."""
    of_weight = part.workspace.open_gradient(weight) if weight.requires_grad else None
    of_bias = part.workspace.open_gradient(bias) if bias is not None and bias.requires_grad else None
    top, normal, scaled = None, part.counts, part.hidden
    for tile in tiles:
        if tile.top is not top:
            top = tile.top
            normal = part.counts.unsqueeze(1) * (top - total.top).exp_() / total.sums
            scaled = (part.hidden * normal).to(part.hidden.dtype)
        if part.bias is None and bias is not None:
            _add_gradients_together(part, tile, scaled, gradients=(of_weight, of_bias))
            continue
        if of_weight is not None:
            gradient, beta = of_weight
            add_product(part, tile.exponentials.t(), scaled, out=gradient[tile.columns], beta=beta)
        if of_bias is not None:
            gradient, beta = of_bias
            sums = gradient[tile.columns]
            torch.addmv(sums, tile.exponentials.t(), normal.squeeze(1), beta=beta, out=sums)


def _add_gradients_together(
    part: Part, tile: Tile, scaled: Tensor, *, gradients: tuple[tuple[Tensor, float] | None, ...]
) -> None:
    """The gradients of the weight and of a bias that is among the weights' columns, whose hidden vectors are ones."""
    product = multiply(part, tile.exponentials.t(), scaled)
    for opened, columns in zip(gradients, (product[:, :-NUM_BIAS_COLUMNS], product[:, -1]), strict=True):
        if opened is not None:
            gradient, beta = opened
            place = gradient[tile.columns]
            place.copy_(columns) if beta == 0.0 else place.add_(columns)


def _subtract_targets(part: Part, hidden_gradient: Tensor, *, weight: Tensor, bias: Tensor | None) -> None:
    """The gradient of minus the targets' own scores, which several tiles leave out."""
    counts = part.counts.unsqueeze(1)
    hidden_gradient.addcmul_(part.weights[part.targets].float(), counts, value=-1)
    if weight.requires_grad:
        gradient, _ = part.workspace.open_gradient(weight)
        gradient.index_add_(0, part.targets, part.hidden[:, : weight.shape[1]] * counts, alpha=-1)
    if bias is not None and bias.requires_grad:
        gradient, _ = part.workspace.open_gradient(bias)
        gradient.index_add_(0, part.targets, part.counts, alpha=-1)
