"""Stacked LSTM with dropout on its inputs, between its layers and on its outputs (Zaremba et al. 2014).

With `variational: true`, dropout is that of Inan et al. 2017 (after Gal & Ghahramani 2016): one mask per layer and
window, applied to the layer's hidden vectors on their way to the next step and on their way up alike. With
`masks: per_gate` as well, it is Gal & Ghahramani's own "untied-weights LSTM": each gate has a mask for what comes from
below and another one for the state.
"""

import copy
import math
from typing import cast

import torch
from torch import nn
from torch.nn import functional

from tiebench.experiment.architecture_config import LSTMConfig
from tiebench.experiment.block import InitConfig
from tiebench.layers.architecture import Architecture
from tiebench.layers.dropout import Dropout, choose_probability
from tiebench.layers.initialisation import fill_from
from tiebench.layers.sharing import Lent, choose_groups, lend_repeats

LayerState = tuple[torch.Tensor, torch.Tensor]
NUM_GATES = 4
NAMES = ("weight_ih_l0", "weight_hh_l0", "bias_ih_l0", "bias_hh_l0")


def build(config: LSTMConfig) -> "LSTM":
    return LSTM(config)


class LSTM(Architecture):
    """Vectors (batch, time, width) to vectors of the same shape, with a state to carry on from.

    The state is a list with (hidden, cell) per layer, each (batch, width); hidden is never masked.
    """

    recurrent = True
    max_context = None

    def __init__(self, config: LSTMConfig) -> None:
        super().__init__()
        self.config = config
        self.width = config.width
        layers = [LSTMLayer(config.width, one_bias=config.biases == "one") for _ in range(config.layers)]
        self.layers = nn.ModuleList(lend_repeats(layers, groups=choose_groups(config)))
        self.input_dropout = Dropout(_choose_input_dropout(config), shared_over_time=config.variational)
        self.layer_dropouts = nn.ModuleList(
            Dropout(probability, shared_over_time=config.variational) for probability in _list_layer_dropouts(config)
        )
        self.gate_dropouts = nn.ModuleList(GateDropout(*pair) for pair in _list_gate_dropouts(config))

    def forward(
        self, vectors: torch.Tensor, state: list[LayerState] | None = None
    ) -> tuple[torch.Tensor, list[LayerState]]:
        """`vectors` are (batch, time, width); a state of None is all zeros. Gradients flow into a given state."""
        vectors = self.input_dropout(vectors)
        new_state = []
        dropouts = cast("list[Dropout]", list(self.layer_dropouts))
        gates = cast("list[GateDropout]", list(self.gate_dropouts))
        for index, (layer, dropout) in enumerate(zip(self.list_layers(), dropouts, strict=True)):
            before = state[index] if state else None
            if gates and self.training:
                vectors, after = _run_per_gate(layer, vectors, state=before, masks=gates[index])
                vectors = dropout(vectors)
            else:
                run = _run_variational if dropout.active and dropout.shared_over_time else _run_plain
                vectors, after = run(layer, vectors, state=before, dropout=dropout)
            new_state.append(after)
        return vectors, new_state

    def list_layers(self) -> list["LSTMLayer"]:
        """From the lowest to the highest; a shared one comes once for each pass."""
        return cast("list[LSTMLayer]", [place.module if isinstance(place, Lent) else place for place in self.layers])

    @torch.no_grad()
    def initialise(self, generator: torch.Generator) -> None:
        """Fill every parameter from `generator`, layer by layer in the order of `NAMES`.

        Biases that start at zero are drawn all the same, so that the weights do not depend on them, and so is a pass
        through a shared layer, so that the others start as without sharing.
        """
        init = self.config.init or InitConfig(uniform=1 / math.sqrt(self.width))
        for place, shared in zip(self.layers, self.list_layers(), strict=True):
            layer = copy.deepcopy(shared) if isinstance(place, Lent) else shared
            for name in NAMES:
                fill_from(getattr(layer, name), init, generator=generator)
            if self.config.biases == "one":
                layer.bias_ih_l0.zero_()
                layer.bias_hh_l0.zero_()
            layer.bias_ih_l0[self.width : 2 * self.width] += self.config.forget_bias

    def count_flops(self, num_tokens_context: int) -> int:
        """Forward operations per token: 4 gates times 2 square matrices a layer, whatever the context."""
        return 2 * 8 * self.width**2 * len(self.layers)


class LSTMLayer(nn.LSTM):
    """torch's layer, whose kernels need two biases: with `one_bias`, the second is a tensor of zeros, not trained."""

    weight_ih_l0: torch.Tensor
    weight_hh_l0: torch.Tensor
    bias_ih_l0: torch.Tensor
    bias_hh_l0: torch.Tensor

    def __init__(self, width: int, *, one_bias: bool = False) -> None:
        super().__init__(width, width, batch_first=True)
        if one_bias:
            del self.bias_hh_l0
            self.register_buffer("bias_hh_l0", None, persistent=False)
            self.bias_hh_l0 = torch.zeros(NUM_GATES * width)  # nn.LSTM hands it to its kernels when it is set


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


def _choose_input_dropout(config: LSTMConfig) -> float:
    """What is dropped before the first layer; nothing where its gates do that."""
    if config.masks:
        return 0.0
    return choose_probability(config.dropout_input, default=0.0 if config.variational else config.dropout)


def _list_layer_dropouts(config: LSTMConfig) -> list[float]:
    """What is dropped after each layer; nothing where the next layer's gates do that."""
    between = 0.0 if config.masks else choose_probability(config.dropout_between, default=config.dropout)
    return [between] * (config.layers - 1) + [choose_probability(config.dropout_output, default=config.dropout)]


def _list_gate_dropouts(config: LSTMConfig) -> list[tuple[float, float]]:
    """What each layer's gates drop from below and from the state; empty without masks per gate."""
    if not config.masks:
        return []
    first, between, hidden = (
        choose_probability(override, default=config.dropout)
        for override in (config.dropout_input, config.dropout_between, config.dropout_hidden)
    )
    return [(first, hidden)] + [(between, hidden)] * (config.layers - 1)


def _run_plain(
    layer: LSTMLayer, vectors: torch.Tensor, *, state: LayerState | None, dropout: Dropout
) -> tuple[torch.Tensor, LayerState]:
    """One layer by torch's own kernel (oneDNN on a CPU, cuDNN on a GPU), then dropout."""
    initial = (state[0].unsqueeze(0), state[1].unsqueeze(0)) if state else None
    vectors, (hidden, cell) = layer(vectors, initial)
    return dropout(vectors), (hidden.squeeze(0), cell.squeeze(0))


def _run_variational(
    layer: LSTMLayer, vectors: torch.Tensor, *, state: LayerState | None, dropout: Dropout
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
    layer: LSTMLayer, vectors: torch.Tensor, *, state: LayerState | None, masks: GateDropout
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
