"""The optimizers, behind one interface: `step(learning_rate)` clips and updates, and returns the gradient's norm.

Every parameter has a role (`input`, `output`, `shared`, `body`, `bias`), and a role may have a learning rate, a weight
decay and betas of its own. `step` is given the configured learning rate as the schedule scaled it; a role's own is
scaled alike.

The gradient of an untied input embedding is zero but for the rows that were looked up. Plain SGD leaves the other rows
where they are, so on a CPU it takes that gradient as a sparse tensor; the result is the same to the bit, and two
passes over the matrix are saved. Momentum, weight decay and Adam move every row and take it dense; so does a GPU,
which would have to tell the host how many rows there are.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from tiebench.errors import UsageError
from tiebench.experiment import training_config as schema
from tiebench.models.language_model import LanguageModel
from tiebench.training.clipping import clip_factor, measure_norm
from tiebench.training.sharding import cut_like, cut_memory, is_sharded


@dataclass(frozen=True)
class Setting:
    """What an optimizer does with a parameter: its learning rate relative to the configured one, its decay, its
    betas.
    """

    rate: float
    weight_decay: float
    betas: tuple[float, float] | None = None


def build_optimizer(model: LanguageModel, options: schema.OptimizerConfig) -> "Optimizer":
    """The optimizer of a model; also settles which gradient its embedding's lookup produces.

    Raises UsageError for `clip_lookups` where the input embedding is no parameter, and where there are two of them.
    """
    classes = {"sgd": SGD, "adamw": AdamW, "muon": Muon}
    optimizer = classes[options.type](model, options)
    matrix, *others = model.embedding.input_matrices
    moves_rows_only = isinstance(optimizer, SGD) and optimizer.moves_rows_only(matrix)
    sums_rows = moves_rows_only or model.embedding.has_one_matrix
    whole_on_cpu = matrix.device.type != "cuda" and not is_sharded(matrix)
    model.embedding.sparse_lookup = sums_rows and whole_on_cpu and not others
    if options.clip_lookups and others:
        raise UsageError(
            "training.optimizer.clip_lookups: the input embedding is several matrices, so no rows of one are summed",
            "remove training.optimizer.clip_lookups",
        )
    if options.clip_lookups and model.embedding.has_source:
        raise UsageError(
            "training.optimizer.clip_lookups: it supports one text, and translation looks up two",
            "remove training.optimizer.clip_lookups",
        )
    model.embedding.lookups = [] if options.clip_lookups else None
    return optimizer


def list_roles(model: LanguageModel) -> list[str]:
    """The role of every parameter, in the order of `model.parameters()`."""
    roles = []
    for name, parameter in model.named_parameters():
        part, _, local = name.partition(".")
        matrix = model.embedding.roles.get(local) if part == "embedding" else None
        roles.append("bias" if parameter.ndim < 2 else matrix or "body")
    return roles


class Optimizer(ABC):
    """Clips by the gradient's global norm, then updates."""

    options: schema.OptimizerConfig

    def __init__(self, model: LanguageModel) -> None:
        self.embedding = model.embedding
        self.parameters = list(model.parameters())

    @abstractmethod
    def step(self, learning_rate: float) -> Tensor:
        """One update; returns the norm of the whole gradient before clipping, a scalar."""

    def zero_grad(self) -> None:
        for parameter in self.parameters:
            parameter.grad = None
        if self.embedding.lookups is not None:
            self.embedding.lookups.clear()

    @abstractmethod
    def recall(self, parameter: nn.Parameter) -> Any:
        """What it remembers of the parameter, such as its momentum; None where that is nothing."""

    @abstractmethod
    def remember(self, parameter: nn.Parameter, memory: Any) -> None:
        """Go on with the parameter from a copy of a memory that `recall` gave."""

    @abstractmethod
    def state_dict(self) -> dict[str, Any]: ...

    @abstractmethod
    def load_state_dict(self, state: dict[str, Any]) -> None: ...

    def measure_gradient(self, grads: list[Tensor]) -> Tensor:
        """The norm of the gradients, as `clip_lookups` asks for it; a scalar."""
        if not self.options.clip_lookups or not self.embedding.lookups:
            return measure_norm(grads)
        matrix = self.embedding.input_embedding.grad
        if matrix is None:
            return measure_norm(grads)
        tokens, rows = (torch.cat(parts) for parts in zip(*self.embedding.lookups, strict=True))
        others = [parameter.grad for parameter in self.parameters if parameter is not self.embedding.input_embedding]
        return measure_norm(
            [*(grad for grad in others if grad is not None), rows, *_subtract_lookups(rows, matrix, tokens)]
        )

    def clip(self, grads: list[Tensor]) -> Tensor:
        """Scale dense gradients in place so that their norm is at most `clip_norm`; returns the norm before."""
        norm = self.measure_gradient(grads)
        factor = clip_factor(norm, self.options.clip_norm)
        if isinstance(factor, Tensor) or factor != 1.0:
            torch._foreach_mul_(grads, factor)
        return norm


class SGD(Optimizer):
    """theta -= learning rate * gradient, the gradient's global norm bounded by `clip_norm`."""

    def __init__(self, model: LanguageModel, options: schema.SGDConfig) -> None:
        super().__init__(model)
        self.options = options
        self.momentum = options.momentum
        self.settings = [choose_setting(role, options, decay=options.weight_decay) for role in list_roles(model)]
        self.momenta: list[Tensor | None] = [None] * len(self.parameters)

    def moves_rows_only(self, matrix: Tensor) -> bool:
        """Whether rows of the embedding without a gradient stay where they are."""
        pairs = zip(self.parameters, self.settings, strict=True)
        decays = any(setting.weight_decay for parameter, setting in pairs if parameter is matrix)
        return not (self.momentum or decays)

    @torch.no_grad()
    def step(self, learning_rate: float) -> Tensor:
        """One update; returns the norm of the whole gradient before clipping, a scalar."""
        found = [(index, parameter.grad) for index, parameter in enumerate(self.parameters)]
        moving = [(index, grad.coalesce() if grad.is_sparse else grad) for index, grad in found if grad is not None]
        norm = self.measure_gradient([grad for _, grad in moving])
        factor = clip_factor(norm, self.options.clip_norm)
        for index, grad in moving:
            setting = self.settings[index]
            if self.momentum or setting.weight_decay:
                self._step_with_memory(index, grad * factor, learning_rate * setting.rate)
            else:
                _add_scaled(self.parameters[index], grad, -learning_rate * setting.rate, factor)
        return norm

    def _step_with_memory(self, index: int, update: Tensor, learning_rate: float) -> None:
        parameter, momentum, decay = self.parameters[index], self.momenta[index], self.settings[index].weight_decay
        if decay:
            update.add_(parameter, alpha=decay)
        if self.momentum:
            if momentum is None:
                momentum = self.momenta[index] = torch.zeros_like(parameter)
            update = momentum.mul_(self.momentum).add_(update)
        parameter.add_(update, alpha=-learning_rate)

    def recall(self, parameter: nn.Parameter) -> Tensor | None:
        return self.momenta[self._find(parameter)]

    def remember(self, parameter: nn.Parameter, memory: Tensor | None) -> None:
        self.momenta[self._find(parameter)] = None if memory is None else memory.clone()

    def _find(self, parameter: nn.Parameter) -> int:
        return next(index for index, each in enumerate(self.parameters) if each is parameter)

    def state_dict(self) -> dict[str, Any]:
        return {"momenta": self.momenta}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.momenta = [
            None if momentum is None else cut_like(momentum, parameter)
            for momentum, parameter in zip(state["momenta"], self.parameters, strict=True)
        ]


class AdamW(Optimizer):
    """torch's fused AdamW; matrices and embeddings decay, vectors (biases, norms) do not unless their role says so."""

    def __init__(self, model: LanguageModel, options: schema.AdamWConfig) -> None:
        super().__init__(model)
        self.options = options
        roles = list_roles(model)
        self.inner = FusedAdamW(list(zip(self.parameters, roles, strict=True)), options, base=options.learning_rate)

    @torch.no_grad()
    def step(self, learning_rate: float) -> Tensor:
        """One update; returns the norm of the whole gradient before clipping, a scalar."""
        norm = self.clip([parameter.grad for parameter in self.parameters if parameter.grad is not None])
        self.inner.step(learning_rate)
        return norm

    def recall(self, parameter: nn.Parameter) -> dict[str, Tensor] | None:
        return self.inner.optimizer.state.get(parameter)

    def remember(self, parameter: nn.Parameter, memory: dict[str, Tensor] | None) -> None:
        copy_memory(memory, self.inner.optimizer, parameter)

    def state_dict(self) -> dict[str, Any]:
        return self.inner.optimizer.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.inner.optimizer.load_state_dict(state)
        cut_memory(self.inner.optimizer)


class Muon(Optimizer):
    """torch's Muon for the matrices of linear maps and LSTMs, AdamW for embeddings, positions and vectors."""

    def __init__(self, model: LanguageModel, options: schema.MuonConfig) -> None:
        super().__init__(model)
        self.options = options
        matrices = find_matrices(model)
        self.matrices = torch.optim.Muon(
            [parameter for parameter in self.parameters if id(parameter) in matrices],
            lr=options.learning_rate,
            weight_decay=options.weight_decay,
            momentum=options.momentum,
            nesterov=options.nesterov,
            ns_steps=options.iterations,
            adjust_lr_fn=options.adjust,
        )
        pairs = zip(self.parameters, list_roles(model), strict=True)
        rest = [(parameter, role) for parameter, role in pairs if id(parameter) not in matrices]
        self.rest = FusedAdamW(rest, options.rest, base=options.learning_rate)

    @torch.no_grad()
    def step(self, learning_rate: float) -> Tensor:
        """One update; returns the norm of the whole gradient before clipping, a scalar."""
        norm = self.clip([parameter.grad for parameter in self.parameters if parameter.grad is not None])
        for group in self.matrices.param_groups:
            group["lr"] = learning_rate
        self.matrices.step()
        self.rest.step(learning_rate)
        return norm

    def recall(self, parameter: nn.Parameter) -> dict[str, Tensor] | None:
        return self.matrices.state.get(parameter) or self.rest.optimizer.state.get(parameter)

    def remember(self, parameter: nn.Parameter, memory: dict[str, Tensor] | None) -> None:
        is_matrix = any(each is parameter for group in self.matrices.param_groups for each in group["params"])
        copy_memory(memory, self.matrices if is_matrix else self.rest.optimizer, parameter)

    def state_dict(self) -> dict[str, Any]:
        return {"matrices": self.matrices.state_dict(), "rest": self.rest.optimizer.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.matrices.load_state_dict(state["matrices"])
        self.rest.optimizer.load_state_dict(state["rest"])


class FusedAdamW:
    """torch's AdamW over parameters with their roles; parameters of one setting make a group."""

    def __init__(
        self, pairs: list[tuple[nn.Parameter, str]], options: schema.AdamWConfig | schema.RestConfig, *, base: float
    ) -> None:
        groups: dict[Setting, list[nn.Parameter]] = {}
        for parameter, role in pairs:
            decay = 0.0 if role == "bias" else options.weight_decay
            groups.setdefault(choose_setting(role, options, decay=decay, base=base), []).append(parameter)
        self.rates = [setting.rate for setting in groups]
        self.optimizer = torch.optim.AdamW(
            [
                {"params": members, "weight_decay": setting.weight_decay, "betas": setting.betas}
                for setting, members in groups.items()
            ],
            lr=options.learning_rate,
            eps=options.epsilon,
            fused=pairs[0][0].device.type in ("cpu", "cuda"),
        )

    def step(self, learning_rate: float) -> None:
        for group, rate in zip(self.optimizer.param_groups, self.rates, strict=True):
            group["lr"] = learning_rate * rate
        self.optimizer.step()


def copy_memory(memory: dict[str, Tensor] | None, optimizer: torch.optim.Optimizer, parameter: nn.Parameter) -> None:
    if memory is not None:
        optimizer.state[parameter] = {name: value.clone() for name, value in memory.items()}


def choose_setting(
    role: str,
    options: schema.SGDConfig | schema.AdamWConfig | schema.RestConfig,
    *,
    decay: float,
    base: float | None = None,
) -> Setting:
    """The setting of a role, with `decay` where it has none of its own; `base` is the rate that `step` is given."""
    own = getattr(options.roles, role) if options.roles else None
    rate, own_decay, betas = (getattr(own, name, None) for name in ("learning_rate", "weight_decay", "betas"))
    return Setting(
        rate=(rate or options.learning_rate) / (base or options.learning_rate),
        weight_decay=decay if own_decay is None else own_decay,
        betas=betas or getattr(options, "betas", None),
    )


def find_matrices(model: LanguageModel) -> set[int]:
    """By identity, the matrices that multiply hidden vectors: not embeddings that are looked up, nor vectors."""
    modules = [module for module in model.modules() if isinstance(module, nn.Linear | nn.LSTM)]
    return {id(parameter) for module in modules for parameter in module.parameters() if parameter.ndim == 2}


def _subtract_lookups(rows: Tensor, matrix: Tensor, tokens: Tensor) -> list[Tensor]:
    """What a matrix's gradient has beside `rows` `(places, width)`, the gradients of looked-up `tokens` `(places,)`.

    Nothing where it is sparse: then the lookups are all that asked for it.
    """
    if matrix.is_sparse:
        return []
    return [matrix.index_add(0, tokens, rows.to(matrix.dtype), alpha=-1.0)]


def _add_scaled(parameter: Tensor, grad: Tensor, scale: float, factor: float | Tensor) -> None:
    """`parameter += scale * factor * grad` in one pass where the factor is a number."""
    if isinstance(factor, Tensor):
        parameter.add_(grad * factor, alpha=scale)
    elif grad.is_sparse:
        parameter.index_add_(0, grad.indices()[0], grad.values(), alpha=scale * factor)
    else:
        parameter.add_(grad, alpha=scale * factor)
