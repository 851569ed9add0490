"""Several runs in one step: their architectures become one, with stacked parameters and batched products.

A comparison is arms x seeds of the same small model, and a GPU is far from busy with one. What is batched is what
has many dependent stages, the architecture; it is the same module for every run, so its parameters are stacked and
its forward pass is mapped over them. Everything else stays each run's own: the lexicon (so a tie is never touched,
and tied and untied runs can share a pack), the batches, the dropout masks, clipping, optimizer, progress and
checkpoint. Each parameter of a run's architecture is a view of the stack, so that a run in a pack can be scored,
saved and resumed like any other, and what it finds is what it would have found alone, up to rounding.
"""

import copy
import json
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call, vmap
from torch.nn import functional
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils._pytree import tree_map

from tiebench.architectures.dropout import Dropout
from tiebench.architectures.lstm import advance_cell
from tiebench.errors import TiebenchError, UsageError
from tiebench.experiment.run_spec import RunSpec
from tiebench.training.objective import choose_scale, compute_loss, compute_penalty
from tiebench.training.trainer import Trainer

SHARED: dict[str, Callable[[RunSpec], Any]] = {
    "architecture": lambda run: run.resolved["architecture"],
    "training.batch_size": lambda run: run.spec.training.batch_size,
    "training.window": lambda run: run.spec.training.window,
    "training.precision": lambda run: run.spec.training.precision,
    "corpus": lambda run: run.resolved["corpus"],
    "vocabulary": lambda run: run.resolved["vocabulary"],
}


class Pack:
    """The trainers of some runs with equal architecture and batch shape. Raises UsageError for others."""

    def __init__(self, trainers: list[Trainer]) -> None:
        _check_alike(trainers)
        self.trainers = trainers
        for trainer in trainers[1:]:
            trainer.model.lexicon.workspace.share_scratch(trainers[0].model.lexicon.workspace)
        self.stage = StackedArchitecture([trainer.model.architecture for trainer in trainers])

    def step(self) -> list[TiebenchError | None]:
        """One update of every run: read, forward and backward together, clip and move each by itself.

        Returns what became of each: an error where the loss is no number, which concerns no other run.
        """
        batches = [trainer.begin_step() for trainer in self.trainers]
        return [
            _end_step(trainer, nats, num_tokens=targets.numel())
            for trainer, nats, (_, targets) in zip(self.trainers, self._find_gradients(batches), batches, strict=True)
        ]

    def dissolve(self) -> None:
        """Give every run parameters of its own again, so that none keeps the memory of all."""
        for trainer in self.trainers:
            for parameter in trainer.model.architecture.parameters():
                parameter.data = parameter.data.clone()
                parameter.grad = None

    def _find_gradients(self, batches: list[tuple[Tensor, Tensor]]) -> list[Tensor]:
        """Leave every run's gradient in its parameters and its state after the batch; returns each one's nats."""
        streams = [trainer.dropout_stream for trainer in self.trainers]
        autocast = self.trainers[0].training.precision == "bf16"
        with torch.autocast(self.trainers[0].device.type, dtype=torch.bfloat16, enabled=autocast):
            vectors = [t.model.lexicon.embed(inputs) for t, (inputs, _) in zip(self.trainers, batches, strict=True)]
            states = [trainer.states[0] for trainer in self.trainers]
            hidden, states = self.stage.encode(torch.stack(vectors), states, streams=streams)
            found = [_lose(t, h, targets) for t, h, (_, targets) in zip(self.trainers, hidden, batches, strict=True)]
        torch.stack([loss for loss, _ in found]).sum().backward()
        self.stage.hand_out_gradients()
        for trainer, state in zip(self.trainers, states, strict=True):
            trainer.states[0] = state
        return [nats for _, nats in found]


class _UnrolledLSTM(nn.LSTM):
    """One layer step by step, because torch's own kernel cannot be mapped over stacked parameters."""

    def forward(self, vectors: Tensor, initial: tuple[Tensor, Tensor] | None = None) -> tuple[Tensor, Any]:
        zeros = torch.zeros_like(vectors[:, 0])
        hidden, cell = (part.squeeze(0) for part in initial) if initial else (zeros, zeros)
        recurrent_weight, outputs = self.weight_hh_l0.t(), []
        for step_gates in functional.linear(vectors, self.weight_ih_l0, self.bias_ih_l0 + self.bias_hh_l0).unbind(1):
            hidden, cell = advance_cell(torch.addmm(step_gates, hidden, recurrent_weight), cell=cell)
            outputs.append(hidden)
        return torch.stack(outputs, dim=1), (hidden.unsqueeze(0), cell.unsqueeze(0))


class StackedArchitecture:
    """K equal architectures as one: every parameter is a row of a stack `(K, ...)`, and both share their memory."""

    def __init__(self, members: list[nn.Module]) -> None:
        self.members = members
        self.base = copy.deepcopy(members[0]).train()
        self.dropouts = [part for part in self.base.modules() if isinstance(part, Dropout)]
        for part in self.base.modules():
            if isinstance(part, nn.LSTM):
                part.__class__ = _UnrolledLSTM
        self.masks: Iterator[Tensor] = iter(())
        self.plans: dict[torch.Size, list[tuple[Dropout, torch.Size]]] = {}
        self.stacks = {name: self._stack(name) for name, _ in members[0].named_parameters()}

    def encode(self, vectors: Tensor, states: list[Any], *, streams: list[torch.Generator]) -> tuple[Tensor, list[Any]]:
        """Vectors `(K, batch, time, width)` to the same and each member's state (detached); masks from its stream."""
        first = states[0]
        if any((state is None) != (first is None) for state in states):
            raise UsageError("some runs of the pack begin an epoch and others do not", "pack runs on one corpus")
        stacked = None if first is None else tree_map(lambda *parts: torch.stack(parts), *states)
        masks = self._draw_masks(vectors, streams)

        def run(parameters: dict[str, Tensor], vectors: Tensor, state: Any, masks: list[Tensor]) -> tuple[Tensor, Any]:
            self.masks = iter(masks)
            hidden, state = functional_call(self.base, parameters, (vectors, state))
            return hidden, state or ()

        in_dims = (0, 0, None if stacked is None else 0, 0 if masks else None)
        with self._feeding(lambda part, like: next(self.masks)), choose_attention(vectors.device):
            hidden, new = vmap(run, in_dims=in_dims)(self.stacks, vectors, stacked, masks)
        count = range(len(self.members))
        return hidden, [tree_map(lambda part, k=k: part[k].detach(), new) or None for k in count]

    def hand_out_gradients(self) -> None:
        """Give every member its rows of the stacks' gradients, and begin anew."""
        for name, stack in self.stacks.items():
            for member, gradient in zip(self.members, stack.grad, strict=True):
                member.get_parameter(name).grad = gradient
            stack.grad = None

    def _stack(self, name: str) -> Tensor:
        stack = torch.stack([member.get_parameter(name).detach() for member in self.members]).requires_grad_()
        for member, row in zip(self.members, stack.detach(), strict=True):
            member.get_parameter(name).data = row
        return stack

    def _draw_masks(self, vectors: Tensor, streams: list[torch.Generator]) -> list[Tensor]:
        """Every mask of a forward pass, `(K, ...)`, each member's drawn in the order in which it would draw alone."""
        if vectors.shape not in self.plans:
            self.plans[vectors.shape] = self._plan_masks(vectors[0])
        plan = self.plans[vectors.shape]
        drawn = [[_draw(part, shape, vectors, stream) for part, shape in plan] for stream in streams]
        return [torch.stack(masks) for masks in zip(*drawn, strict=True)]

    @torch.no_grad()
    def _plan_masks(self, vectors: Tensor) -> list[tuple[Dropout, torch.Size]]:
        """Which dropout draws for what shape, in order: found by one forward pass that drops nothing."""
        plan: list[tuple[Dropout, torch.Size]] = []

        def note(part: Dropout, like: Tensor) -> Tensor:
            plan.append((part, like.shape))
            return torch.ones_like(like[:, :1] if part.shared_over_time else like)

        with self._feeding(note):
            self.base(vectors, None)
        return plan

    @contextmanager
    def _feeding(self, feed: Callable[[Dropout, Tensor], Tensor]) -> Iterator[None]:
        """Let `feed(dropout, vectors)` stand in for the drawing of masks."""
        for part in self.dropouts:
            part.draw_mask = partial(feed, part)
        try:
            yield
        finally:
            for part in self.dropouts:
                del part.draw_mask


def group_alike(runs: Iterable[RunSpec]) -> list[list[RunSpec]]:
    """The runs that can be trained in one step, together, in the order of the first of each group.

    A run that trains by itself, because of its micro-batches or because it is compiled, is a group of its own.
    """
    groups: dict[str, list[RunSpec]] = {}
    for run in runs:
        alike = [read(run) for read in SHARED.values()]
        groups.setdefault(json.dumps([alike, run.name if _trains_alone(run) else None]), []).append(run)
    return list(groups.values())


def choose_attention(device: torch.device) -> AbstractContextManager[None]:
    """The fused attention of a CPU cannot be mapped; the same in plain products can."""
    return sdpa_kernel(SDPBackend.MATH) if device.type == "cpu" else nullcontext()


def _draw(part: Dropout, shape: torch.Size, like: Tensor, stream: torch.Generator) -> Tensor:
    """The mask that `part` would draw from `stream` for vectors of that shape."""
    part.generator = stream
    return part.draw_mask(like.new_empty(1).expand(shape))


def _lose(trainer: Trainer, hidden: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """The run's own loss and nats, its penalty included in the gradient."""
    training = trainer.training
    scale = choose_scale(training, num_tokens=targets.numel())
    loss, nats = compute_loss(trainer.model, hidden, targets, objective=training.objective, scale=scale)
    penalty = compute_penalty(trainer.model, training)
    return (loss if penalty is None else loss + penalty), nats


def _end_step(trainer: Trainer, nats: Tensor, *, num_tokens: int) -> TiebenchError | None:
    try:
        trainer.end_step(nats.float(), num_tokens=num_tokens)
    except TiebenchError as error:
        return error
    return None


def _trains_alone(run: RunSpec) -> bool:
    return run.spec.training.accumulate > 1 or run.spec.training.compile


def _check_alike(trainers: list[Trainer]) -> None:
    """What is stacked must be equal; all else may differ from run to run."""
    found = {name: [read(trainer.run) for trainer in trainers] for name, read in SHARED.items()}
    found["step"] = [trainer.progress.step for trainer in trainers]
    found["device"] = [trainer.device for trainer in trainers]
    for name, values in found.items():
        if any(value != values[0] for value in values):
            message = f"these runs cannot be trained in one step: their {name} differs"
            raise UsageError(message, "pack equal models only")
    if any(_trains_alone(trainer.run) for trainer in trainers):
        raise UsageError("runs with training.accumulate or training.compile train by themselves", "leave them out")
