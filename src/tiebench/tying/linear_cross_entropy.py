"""The cross entropy of a linear layer over a large vocabulary, without ever holding all the scores afresh.

Scores are computed for a bounded number of rows at a time into a buffer that lives as long as the model, turned into
probabilities in place, and turned into gradients in place. The gradient of the table is written straight into its
`.grad`. The mathematics is that of `F.cross_entropy(F.linear(hidden, table, bias), targets)`; only the order of the
work differs. Why each part pays on a CPU: fresh pages cost as much as arithmetic at 30,000 words, and a row length
that is a multiple of 16 floats keeps the matrix product aligned.
"""

from collections.abc import Iterator

import torch
from torch import Tensor

BUFFER_BYTES = 128 * 2**20
MIN_ROWS = 256
ROW_MULTIPLE = 16
IGNORED = -100
SMALLEST_TRUSTED = 1e-30


class Workspace:
    """Buffers that live from step to step: the scores of one chunk, and each table's gradient.

    A copy of a model gets a workspace of its own: `deepcopy` of a workspace is an empty one.
    """

    def __init__(self) -> None:
        self._buffers: dict[tuple, Tensor] = {}

    def __deepcopy__(self, memo: dict) -> "Workspace":
        return Workspace()

    def __reduce__(self) -> tuple:
        return Workspace, ()

    def take(self, purpose: str, *, rows: int, columns: int, like: Tensor) -> Tensor:
        """An uninitialised `(rows, columns)` matrix, its row stride rounded up to a multiple of 16 elements."""
        stride = -(-columns // ROW_MULTIPLE) * ROW_MULTIPLE
        key = (purpose, stride, like.device, like.dtype)
        buffer = self._buffers.get(key)
        if buffer is None or len(buffer) < rows:
            with torch.inference_mode(False):
                buffer = torch.empty(rows, stride, device=like.device, dtype=like.dtype)
            self._buffers[key] = buffer
        return buffer[:rows, :columns]

    def open_gradient(self, parameter: Tensor) -> float:
        """Make sure that `parameter.grad` is there; 0.0 when it is to be overwritten (beta), 1.0 when added to."""
        if parameter.grad is not None:
            return 1.0
        key = (id(parameter), parameter.shape, parameter.device, parameter.dtype)
        if key not in self._buffers:
            self._buffers[key] = torch.empty_like(parameter)
        parameter.grad = self._buffers[key]
        return 0.0


def split_rows(num_rows: int, *, vocabulary_size: int) -> Iterator[slice]:
    """Even chunks whose scores fit the buffer (but at least 256 rows: smaller products are slower)."""
    most = max(MIN_ROWS, BUFFER_BYTES // (4 * vocabulary_size))
    num_chunks = max(1, -(-num_rows // most))
    size = -(-num_rows // num_chunks) if num_rows else 0
    for start in range(0, num_rows, max(size, 1)):
        yield slice(start, min(start + size, num_rows))


def token_nats(hidden: Tensor, table: Tensor, bias: Tensor | None, targets: Tensor, *, workspace: Workspace) -> Tensor:
    """The negative log likelihood of each target, for evaluation: no gradient, no full scores.

    hidden `(tokens, width)`, table `(vocabulary, width)`, targets `(tokens,)`; returns nats `(tokens,)` in float32.
    """
    nats = torch.empty(len(targets), device=hidden.device, dtype=torch.float32)
    weights = table.to(hidden.dtype)
    with torch.no_grad():
        for rows in split_rows(len(targets), vocabulary_size=len(table)):
            _, nats[rows] = _score(hidden[rows], weights, bias, targets[rows], workspace=workspace)
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
    computed from parameters gets its gradient through autograd, one copy later.
    """
    if table.is_leaf or not table.requires_grad:
        return _LinearCrossEntropy.apply(hidden, table, bias, targets, scale, workspace)
    stand_in = table.detach().requires_grad_()
    stand_in.grad = torch.zeros_like(table)
    loss = _LinearCrossEntropy.apply(hidden, stand_in, bias, targets, scale, workspace)
    return _PassOn.apply(loss, table, stand_in)


class _LinearCrossEntropy(torch.autograd.Function):
    @staticmethod
    def forward(ctx, hidden, table, bias, targets, scale, workspace):  # noqa: ANN001 (autograd's own signature)
        hidden_gradient = torch.empty_like(hidden)
        weights = table.to(hidden.dtype)
        total = torch.zeros((), device=hidden.device, dtype=torch.float64)
        for rows in split_rows(len(targets), vocabulary_size=len(table)):
            chunk, wanted = hidden[rows], targets[rows]
            probabilities, nats = _score(chunk, weights, bias, wanted, workspace=workspace)
            total += nats.sum(dtype=torch.float64)
            errors = _subtract_targets(probabilities, wanted).to(hidden.dtype)
            out = hidden_gradient[rows]
            torch.addmm(out, errors, weights, beta=0, alpha=scale, out=out)
            _add_table_gradients(errors, chunk, table, bias, scale=scale, workspace=workspace)
        ctx.save_for_backward(hidden_gradient)
        return (total * scale).float()

    @staticmethod
    def backward(ctx, factor):  # noqa: ANN001
        if factor.item() != 1.0:
            raise RuntimeError("the tables' gradients are already written: give the factor as `scale`")
        (hidden_gradient,) = ctx.saved_tensors
        return hidden_gradient, None, None, None, None, None


class _PassOn(torch.autograd.Function):
    """The loss itself; on the way back, a stand-in's gradient goes to the computed table that it stands for."""

    @staticmethod
    def forward(ctx, loss, table, stand_in):  # noqa: ANN001
        ctx.stand_in = stand_in
        return loss.clone()

    @staticmethod
    def backward(ctx, factor):  # noqa: ANN001
        return factor, ctx.stand_in.grad, None


def _score(
    hidden: Tensor, table: Tensor, bias: Tensor | None, targets: Tensor, *, workspace: Workspace
) -> tuple[Tensor, Tensor]:
    """Float32 probabilities `(rows, vocabulary)` in a buffer, and each target's nats `(rows,)` (0 where ignored)."""
    scores = workspace.take("scores", rows=len(hidden), columns=len(table), like=hidden)
    if bias is None:
        torch.mm(hidden, table.t(), out=scores)
    else:
        torch.addmm(bias.to(hidden.dtype), hidden, table.t(), out=scores)
    probabilities = scores
    if scores.dtype != torch.float32:
        full = torch.empty((), device=hidden.device, dtype=torch.float32)
        probabilities = workspace.take("probabilities", rows=len(hidden), columns=len(table), like=full)
    torch.softmax(scores, dim=-1, dtype=torch.float32, out=probabilities)
    return probabilities, _read_nats(probabilities, hidden, table, bias, targets)


def _read_nats(probabilities: Tensor, hidden: Tensor, table: Tensor, bias: Tensor | None, targets: Tensor) -> Tensor:
    """-ln p of each target; where p is too small to trust its logarithm, from the scores again."""
    kept = targets != IGNORED
    safe = targets.clamp(min=0).unsqueeze(1)
    chosen = probabilities.gather(1, safe).squeeze(1)
    nats = -chosen.log()
    unsure = kept & (chosen < SMALLEST_TRUSTED)
    if unsure.any():
        scores = torch.nn.functional.linear(hidden[unsure].float(), table.float(), bias)
        nats[unsure] = scores.logsumexp(1) - scores.gather(1, safe[unsure]).squeeze(1)
    return nats.masked_fill_(~kept, 0.0)


def _subtract_targets(probabilities: Tensor, targets: Tensor) -> Tensor:
    """Turn probabilities into the gradient of the summed nats with respect to the scores, in place."""
    kept = (targets != IGNORED).to(probabilities.dtype).unsqueeze(1)
    probabilities.scatter_add_(1, targets.clamp(min=0).unsqueeze(1), -kept)
    return probabilities if kept.all() else probabilities.mul_(kept)


def _add_table_gradients(
    errors: Tensor, hidden: Tensor, table: Tensor, bias: Tensor | None, *, scale: float, workspace: Workspace
) -> None:
    """Add `scale * errors^T hidden` to the table's gradient, and the column sums to the bias's."""
    beta = workspace.open_gradient(table)
    if errors.dtype == table.dtype:
        torch.addmm(table.grad, errors.t(), hidden, beta=beta, alpha=scale, out=table.grad)
    else:
        _accumulate(table.grad, errors.t() @ hidden, beta=beta, scale=scale)
    if bias is not None:
        beta = workspace.open_gradient(bias)
        _accumulate(bias.grad, errors.t() @ errors.new_ones(len(errors)), beta=beta, scale=scale)


def _accumulate(gradient: Tensor, addend: Tensor, *, beta: float, scale: float) -> None:
    """`gradient = beta * gradient + scale * addend`, where beta 0 also forgets a NaN."""
    if beta == 0.0:
        gradient.zero_()
    gradient.add_(addend, alpha=scale)
