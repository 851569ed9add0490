"""The same loss over whole rows of scores, where there is no cache in which a tile would stay: on a GPU.

The scores of many rows are one product, their gradient is written over them, and two more products spread it. With
`workspace.compiled`, torch.compile fuses the passes between the products. In half precision the weight's copy has a
multiple of `ALIGNED` rows, the last of them zeros: rows of another number of scores (GPT-2's 50,257, say) begin at
addresses that matrix units do not read at full speed.
"""

from collections.abc import Callable, Iterator
from functools import cache

import torch
from torch import Tensor
from torch.nn import functional

from tiebench.losses.targets import IGNORED
from tiebench.losses.workspace import Workspace

ALIGNED = 64
SCORE_BYTES = 512 * 2**20


def measure_rows(
    hidden: Tensor, weight: Tensor, bias: Tensor | None, targets: Tensor, *, workspace: Workspace
) -> Tensor:
    """The negative log likelihood of each target, `(tokens,)` float32, and 0 where it is ignored."""
    weights = _cast_weight(weight, dtype=hidden.dtype, workspace=workspace)
    nll = torch.empty(len(targets), device=hidden.device, dtype=torch.float32)
    for rows in _split_rows(len(targets), weights=weights):
        scores = _multiply(hidden[rows], weights, workspace=workspace)
        wide, total = _sum_exponentials(scores, bias, size=len(weight))
        nll[rows] = _read_nll(wide, total, targets[rows])
    return nll


def differentiate_rows(
    hidden: Tensor, weight: Tensor, bias: Tensor | None, targets: Tensor, *, scale: float, workspace: Workspace
) -> tuple[Tensor, Tensor]:
    """Each target's nats `(tokens,)`, and the gradient of `scale` times their sum by the hidden vectors.

    The gradients of weight and bias are added to their `.grad`.
    """
    weights = _cast_weight(weight, dtype=hidden.dtype, workspace=workspace)
    nll = torch.empty(len(targets), device=hidden.device, dtype=torch.float32)
    hidden_gradient = torch.empty_like(hidden)
    overwrite = _compile_overwrite() if workspace.compiled else overwrite_by_gradient
    for rows in _split_rows(len(targets), weights=weights):
        scores = _multiply(hidden[rows], weights, workspace=workspace)
        nll[rows] = overwrite(scores, bias, targets[rows], scale, len(weight))
        torch.mm(scores, weights, out=hidden_gradient[rows])
        if weight.requires_grad:
            gradient, beta = workspace.open_gradient(weight, num_rows=len(weights))
            _add_product(scores[:, : len(gradient)].t(), hidden[rows], out=gradient, beta=beta)
        if bias is not None and bias.requires_grad:
            gradient, beta = workspace.open_gradient(bias)
            sums = scores[:, : len(bias)].sum(0, dtype=gradient.dtype)
            gradient.copy_(sums) if beta == 0.0 else gradient.add_(sums)
    return nll, hidden_gradient


def overwrite_by_gradient(scores: Tensor, bias: Tensor | None, targets: Tensor, scale: float, size: int) -> Tensor:
    """Put `scale` times the gradient of the nats in the place of the scores; returns the nats of the rows.

    scores `(rows, padded vocabulary)`, of which the first `size` columns count; the others become 0.
    """
    wide, total = _sum_exponentials(scores, bias, size=size)
    nll = _read_nll(wide, total, targets)
    columns = torch.arange(scores.shape[1], device=scores.device)
    probabilities = (wide - total).exp()
    errors = torch.where(columns == targets.unsqueeze(1), probabilities - 1.0, probabilities)
    scores.copy_(errors * ((targets != IGNORED).float() * scale).unsqueeze(1))
    return nll


@cache
def _compile_overwrite() -> Callable[..., Tensor]:
    return torch.compile(overwrite_by_gradient)


def _sum_exponentials(scores: Tensor, bias: Tensor | None, *, size: int) -> tuple[Tensor, Tensor]:
    """Scores with their bias in float32, minus infinity beyond `size`, and ln of the sum of exp(score), `(rows, 1)`."""
    wide, num_padded = scores.float(), scores.shape[1] - size
    if bias is not None:
        wide = wide + functional.pad(bias, (0, num_padded))
    if num_padded:
        columns = torch.arange(scores.shape[1], device=scores.device)
        wide = torch.where(columns < size, wide, -torch.inf)
    return wide, wide.logsumexp(1, keepdim=True)


def _read_nll(wide: Tensor, total: Tensor, targets: Tensor) -> Tensor:
    own = wide.gather(1, targets.clamp(min=0).unsqueeze(1))
    return (total - own).squeeze(1).masked_fill(targets == IGNORED, 0.0)


def _cast_weight(weight: Tensor, *, dtype: torch.dtype, workspace: Workspace) -> Tensor:
    """The weight in the precision of the products; its copy lies in the same memory at every step."""
    if weight.dtype == dtype:
        return weight.detach()
    size, width = weight.shape
    padded = -(-size // ALIGNED) * ALIGNED
    memory = workspace.take("weights", num_elements=padded * width, device=weight.device, dtype=dtype)
    weights = memory.view(padded, width)
    weights[:size].copy_(weight)
    weights[size:].zero_()
    return weights


def _split_rows(num_rows: int, *, weights: Tensor) -> Iterator[slice]:
    """Even chunks whose scores take at most `SCORE_BYTES`."""
    most = max(1, SCORE_BYTES // (weights.element_size() * len(weights)))
    size = -(-num_rows // max(1, -(-num_rows // most)))
    for start in range(0, num_rows, max(1, size)):
        yield slice(start, min(start + size, num_rows))


def _multiply(hidden: Tensor, weights: Tensor, *, workspace: Workspace) -> Tensor:
    """Scores `(rows, padded vocabulary)`, in memory that the next call uses again."""
    size = len(hidden) * len(weights)
    memory = workspace.take("scores", num_elements=size, device=hidden.device, dtype=hidden.dtype)
    return torch.mm(hidden, weights.t(), out=memory.view(len(hidden), -1))


def _add_product(left: Tensor, right: Tensor, *, out: Tensor, beta: float) -> None:
    """`out = beta * out + left @ right`, summed in out's float32; beta 0 also forgets a NaN."""
    if left.dtype == out.dtype:
        torch.addmm(out, left, right, beta=beta, out=out)
    elif out.device.type == "cuda":
        torch.addmm(out, left, right, out_dtype=out.dtype, beta=beta, out=out)
    else:
        product = torch.mm(left, right)
        out.copy_(product) if beta == 0.0 else out.add_(product)
