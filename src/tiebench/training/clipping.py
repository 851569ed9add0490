"""The norm of a gradient and the factor that bounds it."""

import torch
from torch import Tensor

from tiebench.training.sharding import is_sharded, read_local

NORM_BLOCK = 1024  # elements; longer blocks are no faster


def measure_norm(grads: list[Tensor]) -> Tensor:
    """The Euclidean norm over all gradients together, a scalar.

    A float32 sum of millions of squares, as `torch.dot` or `vector_norm` makes it on a CPU, loses digits, and how many
    depends on the processor. So blocks of `NORM_BLOCK` elements are summed in float32, and the blocks in float64:
    whatever the order within a block, the relative error is at most (`NORM_BLOCK` / 2 + 1) * 2**-24, or 3.1e-5
    (a rounding for each element, which the root halves, and one for the root; Higham 2002, "Accuracy and Stability of
    Numerical Algorithms", section 3.1).

    Of gradients that are cut over the ranks, each rank measures its part; all ranks must call this.
    """
    if is_sharded(grads[0]):
        square = measure_norm([read_local(grad) for grad in grads]).square()
        torch.distributed.all_reduce(square)
        return square.sqrt()
    values = [grad.values() if grad.is_sparse else grad for grad in grads]
    if values[0].device.type != "cpu":
        return torch.linalg.vector_norm(torch.stack(torch._foreach_norm(values)))
    norms = [norm for value in values for norm in _measure_blocks(value.reshape(-1))]
    return torch.linalg.vector_norm(torch.cat(norms), dtype=torch.float64)


def _measure_blocks(row: Tensor) -> list[Tensor]:
    """The norms of a row's whole blocks, and that of the rest if there is one."""
    in_blocks = len(row) // NORM_BLOCK * NORM_BLOCK
    parts = [row[:in_blocks].view(-1, NORM_BLOCK), row[in_blocks:].view(1, -1)]
    return [torch.linalg.vector_norm(part, dim=1) for part in parts if part.numel()]


def clip_factor(norm: Tensor, clip_norm: float | None) -> float | Tensor:
    """What to multiply the gradient by so that its norm is at most `clip_norm`; stays on a GPU, without waiting."""
    if clip_norm is None:
        return 1.0
    if norm.device.type == "cpu":
        return min(1.0, clip_norm / norm.item()) if norm > 0 else 1.0
    return (clip_norm / norm).clamp(max=1.0)
