"""Stacked LSTM with dropout on its inputs, between its layers and on its outputs (Zaremba et al. 2014).

With `variational: true`, dropout is that of Inan et al. 2017 (after Gal & Ghahramani 2016): one mask per layer and
window, applied to the layer's hidden vectors on their way to the next step and on their way up alike. With
`masks: per_gate` as well, it is Gal & Ghahramani's own "untied-weights LSTM": each gate has a mask for what comes from
below and another one for the state.
"""

import math
from typing import Literal

import torch
from pydantic import model_validator
from torch import nn
from torch.nn import functional

from tiebench.layers.dropout import Dropout, choose_probability
from tiebench.layers.initialisation import fill_from
from tiebench.experiment.schema import Block, Init, Positive, Probability

LayerState = tuple[torch.Tensor, torch.Tensor]
NUM_GATES = 4


class Options(Block):
    """`dropout` holds for inputs, between layers and outputs; each of the three can be given by itself.

    With `variational`, nothing is dropped from the inputs unless `dropout_input` is given, and `dropout_output` is
    the mask of the last layer's hidden vectors. With `masks: per_gate`, `dropout` holds for the inputs again, and for
    the state (`dropout_hidden`), which `dropout_output` then leaves alone. `init` fills weights and biases; without it
    they are U(-1/sqrt(width), 1/sqrt(width)), as torch does. `forget_bias` is then added to the forget gate's part of
    `bias_ih` (the gate sees the sum of `bias_ih` and `bias_hh`).
    """

    type: Literal["lstm"]
    layers: Positive
    width: Positive
    dropout: Probability = 0.0
    dropout_input: Probability | None = None
    dropout_between: Probability | None = None
    dropout_output: Probability | None = None
    dropout_hidden: Probability | None = None
    variational: bool = False
    masks: Literal["per_gate"] | None = None
    init: Init | None = None
    forget_bias: float = 0.0

    @model_validator(mode="after")
    def _masks_have_a_meaning(self) -> "Options":
        if self.masks and not self.variational:
            raise ValueError("masks: per_gate belongs to variational dropout; write variational: true too")
        if self.dropout_hidden is not None and not self.masks:
            raise ValueError("dropout_hidden needs masks: per_gate; otherwise the state has no mask of its own")
        return self


def build(options: Options) -> "LSTM":
    return LSTM(options)


class LSTM(nn.Module):
    """Vectors (batch, time, width) to vectors of the same shape, with a state to carry on from.

    The state is a list with (hidden, cell) per layer, each (batch, width); hidden is never masked.
    """

    recurrent = True
    max_context = None

    def __init__(self, options: Options) -> None:
        super().__init__()
        self.options = options
        self.width = options.width
        self.layers = nn.ModuleList(
            nn.LSTM(options.width, options.width, batch_first=True) for _ in range(options.layers)
        )
        self.input_dropout = Dropout(_choose_input_dropout(options), shared_over_time=options.variational)
        self.layer_dropouts = nn.ModuleList(
            Dropout(probability, shared_over_time=options.variational) for probability in _list_layer_dropouts(options)
        )
        self.gate_dropouts = nn.ModuleList(GateDropout(*pair) for pair in _list_gate_dropouts(options))

    def forward(
        self, vectors: torch.Tensor, state: list[LayerState] | None = None
    ) -> tuple[torch.Tensor, list[LayerState]]:
        """`vectors` are (batch, time, width); a state of None is all zeros. Gradients flow into a given state."""
        vectors = self.input_dropout(vectors)
        new_state = []
        for index, (layer, dropout) in enumerate(zip(self.layers, self.layer_dropouts, strict=True)):
            before = state[index] if state else None
            if self.gate_dropouts and self.training:
                vectors, after = _run_per_gate(layer, vectors, state=before, masks=self.gate_dropouts[index])
                vectors = dropout(vectors)
            else:
                run = _run_variational if dropout.active and dropout.shared_over_time else _run_plain
                vectors, after = run(layer, vectors, state=before, dropout=dropout)
            new_state.append(after)
        return vectors, new_state

    @torch.no_grad()
    def initialise(self, generator: torch.Generator) -> None:
        """Fill every parameter from `generator`, in the order of `named_parameters`."""
        init = self.options.init or Init(uniform=1 / math.sqrt(self.width))
        for parameter in self.parameters():
            fill_from(parameter, init, generator=generator)
        for layer in self.layers:
            layer.bias_ih_l0[self.width : 2 * self.width] += self.options.forget_bias

    def count_flops(self, num_tokens_context: int) -> int:
        """Forward operations per token: 4 gates times 2 square matrices a layer, whatever the context."""
        return 2 * 8 * self.width**2 * len(self.layers)


class GateDropout(nn.Module):
    """A mask per gate for what a layer reads from below, then one per gate for its state; constant over a window."""

    def __init__(self, inputs: float, hidden: float) -> None:
        super().__init__()
        self.inputs = Dropout(inputs, shared_over_time=True)
        self.hidden = Dropout(hidden, shared_over_time=True)

    def draw(self, vectors: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Factors for `vectors` (batch, time, width) and for the state, both (4, batch, 1, width), in gate order."""
        return self._draw(self.inputs, vectors), self._draw(self.hidden, vectors)

    @staticmethod
    def _draw(dropout: Dropout, vectors: torch.Tensor) -> torch.Tensor:
        if not dropout.active:
            return torch.ones_like(vectors[:, :1]).expand(NUM_GATES, -1, -1, -1)
        return torch.stack([dropout.draw_mask(vectors) for _ in range(NUM_GATES)])


def _choose_input_dropout(options: Options) -> float:
    """What is dropped before the first layer; nothing where its gates do that."""
    if options.masks:
        return 0.0
    return choose_probability(options.dropout_input, default=0.0 if options.variational else options.dropout)


def _list_layer_dropouts(options: Options) -> list[float]:
    """What is dropped after each layer; nothing where the next layer's gates do that."""
    between = 0.0 if options.masks else choose_probability(options.dropout_between, default=options.dropout)
    return [between] * (options.layers - 1) + [choose_probability(options.dropout_output, default=options.dropout)]


def _list_gate_dropouts(options: Options) -> list[tuple[float, float]]:
    """What each layer's gates drop from below and from the state; empty without masks per gate."""
    if not options.masks:
        return []
    first, between, hidden = (
        choose_probability(override, default=options.dropout)
        for override in (options.dropout_input, options.dropout_between, options.dropout_hidden)
    )
    return [(first, hidden)] + [(between, hidden)] * (options.layers - 1)


def _run_plain(
    layer: nn.LSTM, vectors: torch.Tensor, *, state: LayerState | None, dropout: Dropout
) -> tuple[torch.Tensor, LayerState]:
    """One layer by torch's own kernel (oneDNN on a CPU, cuDNN on a GPU), then dropout."""
    initial = (state[0].unsqueeze(0), state[1].unsqueeze(0)) if state else None
    vectors, (hidden, cell) = layer(vectors, initial)
    return dropout(vectors), (hidden.squeeze(0), cell.squeeze(0))


def _run_variational(
    layer: nn.LSTM, vectors: torch.Tensor, *, state: LayerState | None, dropout: Dropout
) -> tuple[torch.Tensor, LayerState]:
    """One layer step by step: what the next step sees and what the next layer sees is the same masked vector."""
    mask = dropout.draw_mask(vectors).squeeze(1)
    hidden, cell = state or (torch.zeros_like(vectors[:, 0]), torch.zeros_like(vectors[:, 0]))
    recurrent_weight = layer.weight_hh_l0.t()
    input_gates = functional.linear(vectors, layer.weight_ih_l0, layer.bias_ih_l0 + layer.bias_hh_l0)
    outputs = [hidden * mask]
    for step_gates in input_gates.unbind(1):
        gates = torch.addmm(step_gates, outputs[-1], recurrent_weight)
        hidden, cell = advance_cell(gates, cell=cell)
        outputs.append(hidden * mask)
    return torch.stack(outputs[1:], dim=1), (hidden, cell)


def _run_per_gate(
    layer: nn.LSTM, vectors: torch.Tensor, *, state: LayerState | None, masks: GateDropout
) -> tuple[torch.Tensor, LayerState]:
    """One layer step by step: each gate reads through masks of its own (Gal & Ghahramani 2016, equation 5)."""
    input_masks, hidden_masks = masks.draw(vectors)
    hidden, cell = state or (torch.zeros_like(vectors[:, 0]), torch.zeros_like(vectors[:, 0]))
    input_weight, recurrent_weight = (
        weight.unflatten(0, (NUM_GATES, -1)).transpose(1, 2) for weight in (layer.weight_ih_l0, layer.weight_hh_l0)
    )
    bias = (layer.bias_ih_l0 + layer.bias_hh_l0).view(NUM_GATES, 1, -1)
    masked = (vectors * input_masks).flatten(1, 2)
    input_gates = torch.baddbmm(bias, masked, input_weight).unflatten(1, vectors.shape[:2])
    hidden_masks, outputs = hidden_masks.squeeze(2), []
    for step_gates in input_gates.unbind(2):
        gates = torch.baddbmm(step_gates, hidden * hidden_masks, recurrent_weight)
        hidden, cell = _combine_gates(*gates, cell=cell)
        outputs.append(hidden)
    return torch.stack(outputs, dim=1), (hidden, cell)


def advance_cell(gates: torch.Tensor, *, cell: torch.Tensor) -> LayerState:
    """Gates (batch, 4 * width) in torch's order: input, forget, candidate, output (Zaremba et al. 2014, section 3)."""
    return _combine_gates(*gates.chunk(NUM_GATES, dim=1), cell=cell)


def _combine_gates(
    write: torch.Tensor, keep: torch.Tensor, candidate: torch.Tensor, read: torch.Tensor, *, cell: torch.Tensor
) -> LayerState:
    """The new hidden vectors and the new cell, each (batch, width)."""
    cell = torch.sigmoid(keep) * cell + torch.sigmoid(write) * torch.tanh(candidate)
    return torch.sigmoid(read) * torch.tanh(cell), cell
