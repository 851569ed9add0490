"""The augmented loss over a large vocabulary, a bounded number of rows at a time (Inan et al. 2017, section 3).

Three distributions over the vocabulary meet in every row: the model's own, the same at a temperature, and how similar
each word is to the target. Each is a buffer that lives as long as the model, all else is done in place, and the
gradients go straight to where they are needed, as in `linear_cross_entropy`.
"""

import torch
from torch import Tensor

from tiebench.losses.linear_cross_entropy import refuse_factor, with_leaf
from tiebench.losses.targets import IGNORED
from tiebench.losses.tiles import split_rows
from tiebench.losses.workspace import Workspace

NUM_BUFFERS = 4


def augmented_cross_entropy(
    hidden: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    targets: Tensor,
    *,
    input_weight: Tensor,
    temperature: float,
    gamma: float,
    scale: float,
    workspace: Workspace,
) -> tuple[Tensor, Tensor]:
    """`scale` times the sum of J + gamma * temperature * KL(y~ || y^) over the tokens, and their summed nats J alone.

    J is the negative log likelihood of the target. y^ is the softmax of the scores over the temperature, without the
    bias; y~ that of `input_weight @ input_weight[target]` (their equations 3.2 to 3.4), a target distribution through
    which no gradient flows. Shapes, gradients and errors as in `linear_cross_entropy`; the nats
    are detached.
    """
    if not torch.is_grad_enabled():
        weight, bias = weight.detach(), None if bias is None else bias.detach()
    nll = torch.zeros((), device=hidden.device)
    similar = input_weight.detach()

    def compute(leaf: Tensor) -> Tensor:
        return _AugmentedCrossEntropy.apply(
            hidden, leaf, bias, targets, similar, temperature, gamma, scale, workspace, nll
        )

    return with_leaf(weight, compute), nll


class _AugmentedCrossEntropy(torch.autograd.Function):
    @staticmethod
    def forward(ctx, hidden, weight, bias, targets, similar, temperature, gamma, scale, workspace, nll):
        vectors, loss = hidden.float(), torch.zeros_like(nll)
        hidden_gradient = torch.empty_like(vectors)
        for rows in split_rows(len(targets), num_columns=NUM_BUFFERS * len(weight)):
            chunk, kept = vectors[rows], targets[rows] != IGNORED
            wanted, counts = targets[rows].clamp(min=0), kept.float()
            buffers = _take_buffers(workspace, num_rows=len(chunk), like=weight)
            own = (chunk * weight[wanted]).sum(1)
            scores = torch.mm(chunk, weight.t(), out=buffers[0])
            predicted, similarities, divergence = _diverge(scores, similar, wanted, temperature, buffers[1:])
            if bias is not None:
                scores.add_(bias)
                own += bias[wanted]
            row_nll = _normalise(scores) - own
            nll += (row_nll * counts).sum()
            loss += ((row_nll + gamma * temperature * divergence) * counts).sum() * scale
            errors = scores.scatter_add_(1, wanted.unsqueeze(1), -torch.ones_like(own).unsqueeze(1))
            weights = counts * scale
            if bias is not None and bias.requires_grad:
                bias_gradient, beta = workspace.open_gradient(bias)
                torch.addmv(bias_gradient, errors.t(), weights, beta=beta, out=bias_gradient)
            errors.add_(predicted, alpha=gamma).sub_(similarities, alpha=gamma)
            if weight.requires_grad:
                gradient, beta = workspace.open_gradient(weight)
                torch.addmm(gradient, errors.t(), chunk * weights.unsqueeze(1), beta=beta, out=gradient)
            torch.mm(errors, weight, out=hidden_gradient[rows]).mul_(weights.unsqueeze(1))
        ctx.save_for_backward(hidden_gradient.to(hidden.dtype))
        return loss

    @staticmethod
    def backward(ctx, *factors):
        refuse_factor(*factors)
        (hidden_gradient,) = ctx.saved_tensors
        return hidden_gradient, *[None] * 9


def _take_buffers(workspace: Workspace, *, num_rows: int, like: Tensor) -> list[Tensor]:
    size, device = num_rows * len(like), like.device
    names = [f"augmented {number}" for number in range(NUM_BUFFERS)]
    taken = [workspace.take(name, num_elements=size, device=device, dtype=torch.float32) for name in names]
    return [buffer.view(num_rows, -1) for buffer in taken]


def _diverge(
    scores: Tensor, similar: Tensor, targets: Tensor, temperature: float, buffers: list[Tensor]
) -> tuple[Tensor, Tensor, Tensor]:
    """y^ and y~, each `(rows, vocabulary)`, and KL(y~ || y^), `(rows,)`."""
    predicted, similarities, apart = buffers
    torch.div(scores, temperature, out=predicted)
    torch.mm(similar[targets], similar.t(), out=similarities).div_(temperature)
    torch.sub(similarities, predicted, out=apart)
    shift = _normalise(predicted) - _normalise(similarities)
    return predicted, similarities, apart.mul_(similarities).sum(1) + shift


def _normalise(scores: Tensor) -> Tensor:
    """Scores to probabilities, row by row, in place; returns ln of the sum of exp(score), `(rows,)`."""
    top = scores.amax(1, keepdim=True)
    sums = scores.sub_(top).exp_().sum(1, keepdim=True)
    scores.div_(sums)
    return (sums.log() + top).squeeze(1)
