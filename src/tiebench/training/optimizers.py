"""The two optimizers, behind one face: `step(learning_rate)` clips and updates, and returns the gradient's norm.

The gradient of an untied input table is zero but for the rows that were looked up. Plain SGD leaves the other rows
where they are, so on a CPU it takes that gradient as a sparse tensor; the result is the same to the bit, and two
passes over the table are saved. Momentum, weight decay and Adam move every row and take it dense; so does a GPU,
which would have to tell the host how many rows there are.
"""

from typing import Any

import torch
from torch import Tensor

from tiebench.experiment import training_config as schema
from tiebench.models.language_model import LanguageModel

NORM_BLOCK = 1024  # elements; longer blocks are no faster


def build_optimizer(model: LanguageModel, options: schema.SGDConfig | schema.AdamWConfig) -> "SGD | AdamW":
    """The optimizer of a model; also settles which gradient its embedding's lookup produces."""
    plain = isinstance(options, schema.SGDConfig) and options.momentum == 0 and options.weight_decay == 0
    shares_table = model.embedding.input_embedding is model.embedding.output_embedding
    table = model.embedding.input_embedding  # where it is computed, autograd has no use for a sparse gradient
    model.embedding.sparse_lookup = (plain or shares_table) and table.is_leaf and table.device.type != "cuda"
    return SGD(model, options) if isinstance(options, schema.SGDConfig) else AdamW(model, options)


class SGD:
    """theta -= learning rate * gradient, the gradient's global norm bounded by `clip_norm`."""

    def __init__(self, model: LanguageModel, options: schema.SGDConfig) -> None:
        self.options = options
        self.parameters = list(model.parameters())
        self.momenta: list[Tensor | None] = [None] * len(self.parameters)

    @torch.no_grad()
    def step(self, learning_rate: float) -> Tensor:
        """One update; returns the norm of the whole gradient before clipping, a scalar."""
        moving = [index for index, parameter in enumerate(self.parameters) if parameter.grad is not None]
        grads = [self.parameters[index].grad for index in moving]
        grads = [grad.coalesce() if grad.is_sparse else grad for grad in grads]
        norm = measure_norm(grads)
        factor = clip_factor(norm, self.options.clip_norm)
        for index, grad in zip(moving, grads, strict=True):
            if self.options.momentum or self.options.weight_decay:
                self._step_with_memory(index, grad * factor, learning_rate)
            else:
                _add_scaled(self.parameters[index], grad, -learning_rate, factor)
        return norm

    def _step_with_memory(self, index: int, update: Tensor, learning_rate: float) -> None:
        parameter, momentum = self.parameters[index], self.momenta[index]
        if self.options.weight_decay:
            update.add_(parameter, alpha=self.options.weight_decay)
        if self.options.momentum:
            if momentum is None:
                momentum = self.momenta[index] = torch.zeros_like(parameter)
            update = momentum.mul_(self.options.momentum).add_(update)
        parameter.add_(update, alpha=-learning_rate)

    def zero_grad(self) -> None:
        for parameter in self.parameters:
            parameter.grad = None

    def state_dict(self) -> dict[str, Any]:
        return {"momenta": self.momenta}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.momenta = [
            None if momentum is None else momentum.to(parameter.device)
            for momentum, parameter in zip(state["momenta"], self.parameters, strict=True)
        ]


class AdamW:
    """torch's fused AdamW; matrices and tables decay, vectors (biases, norms) do not."""

    def __init__(self, model: LanguageModel, options: schema.AdamWConfig) -> None:
        self.options = options
        self.parameters = list(model.parameters())
        matrices = [parameter for parameter in self.parameters if parameter.ndim >= 2]
        vectors = [parameter for parameter in self.parameters if parameter.ndim < 2]
        groups = [{"params": matrices, "weight_decay": options.weight_decay}, {"params": vectors, "weight_decay": 0.0}]
        self.inner = torch.optim.AdamW(
            [group for group in groups if group["params"]],
            lr=options.learning_rate,
            betas=options.betas,
            eps=options.epsilon,
            fused=self.parameters[0].device.type in ("cpu", "cuda"),
        )

    @torch.no_grad()
    def step(self, learning_rate: float) -> Tensor:
        """One update; returns the norm of the whole gradient before clipping, a scalar."""
        grads = [parameter.grad for parameter in self.parameters if parameter.grad is not None]
        norm = measure_norm(grads)
        factor = clip_factor(norm, self.options.clip_norm)
        if isinstance(factor, Tensor) or factor != 1.0:
            torch._foreach_mul_(grads, factor)
        for group in self.inner.param_groups:
            group["lr"] = learning_rate
        self.inner.step()
        return norm

    def zero_grad(self) -> None:
        self.inner.zero_grad(set_to_none=True)

    def state_dict(self) -> dict[str, Any]:
        return self.inner.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.inner.load_state_dict(state)


def measure_norm(grads: list[Tensor]) -> Tensor:
    """The Euclidean norm over all gradients together, a scalar.

    A float32 sum of millions of squares, as `torch.dot` or `vector_norm` makes it on a CPU, loses digits, and how many
    depends on the processor. So blocks of `NORM_BLOCK` elements are summed in float32, and the blocks in float64:
    whatever the order within a block, the relative error is at most (`NORM_BLOCK` / 2 + 1) * 2**-24, or 3.1e-5
    (a rounding for each element, which the root halves, and one for the root; Higham 2002, "Accuracy and Stability of
    Numerical Algorithms", section 3.1).
    """
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


def _add_scaled(parameter: Tensor, grad: Tensor, scale: float, factor: float | Tensor) -> None:
    """`parameter += scale * factor * grad` in one pass where the factor is a number."""
    if isinstance(factor, Tensor):
        parameter.add_(grad * factor, alpha=scale)
    elif grad.is_sparse:
        parameter.index_add_(0, grad.indices()[0], grad.values(), alpha=scale * factor)
    else:
        parameter.add_(grad, alpha=scale * factor)
