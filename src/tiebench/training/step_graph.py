"""A recurrent model's update as one CUDA graph.

An LSTM of the papers' sizes has some 300 kernels of a few microseconds in a step, and the host needs longer to launch
them than the GPU to run them. So the update is captured once and then launched as a whole. What the host computes is
part of the graph as it was at the capture, the learning rate above all: another one is another graph. A schedule that
moves the learning rate at every step never has the same one twice, and its updates are launched as ever.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from tiebench.experiment.training_config import TrainingConfig
from tiebench.losses.workspace import Workspace
from tiebench.models.language_model import LanguageModel
from tiebench.training.optimizers import SGD, Optimizer
from tiebench.training.recurrent_states import clone_states, list_tensors

WARM_UP_STEPS = 3  # of one learning rate; libraries take their memory in these

Update = Callable[[Any, Tensor, list[Any], float], tuple[Tensor, list[Any]]]
"""(inputs, targets, recurrent states, learning rate) to (summed nats, the states after): one move of the parameters."""


def choose_update(
    update: Update,
    *,
    model: LanguageModel,
    optimizer: Optimizer,
    training: TrainingConfig,
    generator: torch.Generator,
    is_alone: bool,
    say: Callable[[str], None],
) -> Update:
    """What makes the updates: `update` itself, or graphs of it where these can be captured and the host is slower.

    `generator` draws the dropout; `say` hears where there can be no graph though there should be. Ranks that are not
    alone talk to each other within an update, which is no part of a graph.
    """
    captures = isinstance(optimizer, SGD) and not (training.compile or training.measure_gradients)
    captures = captures and is_alone and model.embedding.has_fixed_shapes
    if generator.device.type != "cuda" or not model.architecture.recurrent or not captures:
        return update
    shape = training.batch_size, training.window
    return StepGraph(update, shape=shape, generator=generator, workspace=model.embedding.workspace, say=say).run


@dataclass(frozen=True)
class Captured:
    """A graph and the memory that it reads and writes. `kept` is held so that nothing else gets that memory."""

    graph: torch.cuda.CUDAGraph
    inputs: Tensor
    targets: Tensor
    states: list[Any]
    nll: Tensor
    kept: list[Tensor]


class StepGraph:
    """Makes updates as `update` does: those of whole batches from a graph, once the learning rate stays for a while."""

    def __init__(
        self,
        update: Update,
        *,
        shape: tuple[int, int],
        generator: torch.Generator,
        workspace: Workspace,
        say: Callable[[str], None],
    ) -> None:
        """`shape` is that of a whole batch."""
        self.update, self.shape, self.generator, self.workspace, self.say = update, shape, generator, workspace, say
        self.learning_rate: float | None = None
        self.num_seen = 0
        self.captured: Captured | None = None
        self.usable = True

    def run(self, inputs: Tensor, targets: Tensor, states: list[Any], learning_rate: float) -> tuple[Tensor, list[Any]]:
        """One update. Give the returned states to the next call as they are."""
        if not self.usable or tuple(inputs.shape) != self.shape:
            return self.update(inputs, targets, states, learning_rate)
        if learning_rate != self.learning_rate:
            self.learning_rate, self.num_seen, self.captured = learning_rate, 0, None
        self.num_seen += 1
        if self.captured is None and self.num_seen > WARM_UP_STEPS and None not in states:
            self.captured = self._capture(inputs, targets, states)
        if self.captured is None:
            return self.update(inputs, targets, states, learning_rate)
        return _replay(self.captured, inputs, targets, states)

    def _capture(self, inputs: Tensor, targets: Tensor, states: list[Any]) -> Captured | None:
        assert self.learning_rate is not None
        places = inputs.clone(), targets.clone(), clone_states(states)
        graph = torch.cuda.CUDAGraph()
        graph.register_generator_state(self.generator)
        try:
            with torch.cuda.graph(graph):
                nll, after = self.update(*places, self.learning_rate)
                for place, tensor in zip(list_tensors(places[2]), list_tensors(after), strict=True):
                    place.copy_(tensor)
        except RuntimeError as error:
            self.usable = False
            self.say(
                f"every kernel is launched by itself, since torch made no CUDA graph: {str(error).splitlines()[0]}"
            )
            return None
        return Captured(graph, *places, nll=nll, kept=self.workspace.list_buffers())


def _replay(captured: Captured, inputs: Tensor, targets: Tensor, states: list[Any]) -> tuple[Tensor, list[Any]]:
    if states is not captured.states:
        places = list_tensors(captured.states)
        before = [None] * len(places) if None in states else list_tensors(states)
        for place, tensor in zip(places, before, strict=True):
            place.zero_() if tensor is None else place.copy_(tensor)
    captured.inputs.copy_(inputs)
    captured.targets.copy_(targets)
    captured.graph.replay()
    return captured.nll.clone(), captured.states
