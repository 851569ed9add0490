"""Stacked LSTM with dropout on its inputs, between its layers and on its outputs (Zaremba et al. 2014).

With `variational: true`, dropout is that of Inan et al. 2017 (after Gal & Ghahramani 2016): one mask per layer and
window, applied to the layer's hidden vectors on their way to the next step and on their way up alike.
"""

import math
from typing import Literal

import torch
from torch import nn
from torch.nn import functional

from tiebench.architectures.dropout import Dropout, choose_probability
from tiebench.architectures.initialisation import fill_from
from tiebench.experiment.schema import Block, Init, Positive, Probability

LayerState = tuple[torch.Tensor, torch.Tensor]


class Options(Block):
    """`dropout` holds for inputs, between layers and outputs; each of the three can be given by itself.

    With `variational`, nothing is dropped from the inputs unless `dropout_input` is given, and `dropout_output` is
    the mask of the last layer's hidden vectors. `init` fills weights and biases; without it they are
    U(-1/sqrt(width), 1/sqrt(width)), as torch does. `forget_bias` is then added to the forget gate's part of
    `bias_ih` (the gate sees the sum of `bias_ih` and `bias_hh`).
    """

    type: Literal["lstm"]
    layers: Positive
    width: Positive
    dropout: Probability = 0.0
    dropout_input: Probability | None = None
    dropout_between: Probability | None = None
    dropout_output: Probability | None = None
    variational: bool = False
    init: Init | None = None
    forget_bias: float = 0.0


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

    def forward(
        self, vectors: torch.Tensor, state: list[LayerState] | None = None
    ) -> tuple[torch.Tensor, list[LayerState]]:
        """`vectors` are (batch, time, width); a state of None is all zeros. Gradients flow into a given state."""
        vectors = self.input_dropout(vectors)
        new_state = []
        for index, (layer, dropout) in enumerate(zip(self.layers, self.layer_dropouts, strict=True)):
            run = _run_variational if dropout.active and dropout.shared_over_time else _run_plain
            vectors, layer_state = run(layer, vectors, state=state[index] if state else None, dropout=dropout)
            new_state.append(layer_state)
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


def _choose_input_dropout(options: Options) -> float:
    return choose_probability(options.dropout_input, default=0.0 if options.variational else options.dropout)


def _list_layer_dropouts(options: Options) -> list[float]:
    between = choose_probability(options.dropout_between, default=options.dropout)
    return [between] * (options.layers - 1) + [choose_probability(options.dropout_output, default=options.dropout)]


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


def advance_cell(gates: torch.Tensor, *, cell: torch.Tensor) -> LayerState:
    """Gates (batch, 4 * width) in torch's order: input, forget, candidate, output (Zaremba et al. 2014, section 3)."""
    write, keep, candidate, read = gates.chunk(4, dim=1)
    cell = torch.sigmoid(keep) * cell + torch.sigmoid(write) * torch.tanh(candidate)
    return torch.sigmoid(read) * torch.tanh(cell), cell
