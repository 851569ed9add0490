"""The encoder-decoder transformer: sinusoidal positions, ReLU, post-norm or pre-norm (Vaswani et al. 2017).

It computes what torch's `nn.Transformer` computes, except that a stack has a last norm with pre-norm only.
"""

import math

import torch
from torch import nn
from torch.nn import functional

from tiebench.experiment.architecture_config import EncoderDecoderConfig
from tiebench.experiment.block import InitConfig
from tiebench.layers.architecture import Architecture, SourceVectors
from tiebench.layers.dropout import Dropout
from tiebench.layers.sharing import fill_passes, share_parts, walk_passes
from tiebench.layers.transformer import attend

LONGEST_WAVE = 10_000.0


def build(config: EncoderDecoderConfig) -> "EncoderDecoder":
    return EncoderDecoder(config)


class MultiHeadAttention(nn.Module):
    """Attention of each vector to a sequence: its own up to that vector, or another one (section 3.2.2)."""

    def __init__(self, config: EncoderDecoderConfig) -> None:
        super().__init__()
        self.head_width = config.width // config.heads
        self.queries = nn.Linear(config.width, config.width)
        self.keys_values = nn.Linear(config.width, 2 * config.width)
        self.output = nn.Linear(config.width, config.width)
        self.dropout = Dropout(config.dropout_attention)

    def forward(
        self, vectors: torch.Tensor, others: torch.Tensor | None = None, visible: torch.Tensor | None = None
    ) -> torch.Tensor:
        """Vectors (batch, time, width) to the same, from `others` (batch, other time, width), by default themselves.

        Each attends to the others where `visible` (batch, 1, 1, other time) is True, else causally.
        """
        parts = (self.queries(vectors), *self.keys_values(vectors if others is None else others).chunk(2, dim=-1))
        queries, keys, values = (part.unflatten(-1, (-1, self.head_width)).transpose(1, 2) for part in parts)
        mixed = attend(queries, keys=keys, values=values, dropout=self.dropout, visible=visible)
        return self.output(mixed.transpose(1, 2).flatten(2))


class ReLUFeedForward(nn.Module):
    """Up, ReLU, down (section 3.3)."""

    def __init__(self, config: EncoderDecoderConfig) -> None:
        super().__init__()
        mlp_width = config.mlp_width or 4 * config.width
        self.up = nn.Linear(config.width, mlp_width)
        self.down = nn.Linear(mlp_width, config.width)

    def forward(self, vectors: torch.Tensor) -> torch.Tensor:
        return self.down(functional.relu(self.up(vectors)))


class SubLayer(nn.Module):
    """What a part adds to its input, with a norm after the sum, or before the part (Xiong et al. 2020)."""

    def __init__(self, part: nn.Module, config: EncoderDecoderConfig) -> None:
        super().__init__()
        self.part = part
        self.norm = nn.LayerNorm(config.width, eps=config.norm_epsilon)
        self.dropout = Dropout(config.dropout)
        self.is_pre_norm = config.norm == "pre"

    def forward(self, vectors: torch.Tensor, *inputs: torch.Tensor | None) -> torch.Tensor:
        if self.is_pre_norm:
            return vectors + self.dropout(self.part(self.norm(vectors), *inputs))
        return self.norm(vectors + self.dropout(self.part(vectors, *inputs)))


class EncoderBlock(nn.Module):
    """Attention within the source, and a feed-forward net."""

    def __init__(self, config: EncoderDecoderConfig) -> None:
        super().__init__()
        self.attention = SubLayer(MultiHeadAttention(config), config)
        self.mlp = SubLayer(ReLUFeedForward(config), config)

    def forward(self, vectors: torch.Tensor, visible: torch.Tensor) -> torch.Tensor:
        return self.mlp(self.attention(vectors, None, visible))


class DecoderBlock(nn.Module):
    """Causal attention within the target, attention to the source, and a feed-forward net."""

    def __init__(self, config: EncoderDecoderConfig) -> None:
        super().__init__()
        self.attention = SubLayer(MultiHeadAttention(config), config)
        self.source_attention = SubLayer(MultiHeadAttention(config), config)
        self.mlp = SubLayer(ReLUFeedForward(config), config)

    def forward(self, vectors: torch.Tensor, source: torch.Tensor, visible: torch.Tensor) -> torch.Tensor:
        return self.mlp(self.source_attention(self.attention(vectors), source, visible))


class EncoderDecoder(Architecture):
    """A target's vectors, each of which sees those before it and the whole source.

    A block is a pass: it may use parts of an earlier one of its stack (`layers/sharing.py`).
    """

    recurrent = False
    reads_source = True

    def __init__(self, config: EncoderDecoderConfig) -> None:
        super().__init__()
        self.width = config.width
        self.max_context = None
        self.dropout = Dropout(config.dropout)
        self.encoder = nn.ModuleList(EncoderBlock(config) for _ in range(config.layers))
        self.decoder = nn.ModuleList(DecoderBlock(config) for _ in range(config.layers))
        for stack in (self.encoder, self.decoder):
            share_parts(list(stack), config=config)
        has_last_norms = config.norm == "pre"
        self.encoder_norm, self.decoder_norm = (
            nn.LayerNorm(config.width, eps=config.norm_epsilon) if has_last_norms else nn.Identity() for _ in range(2)
        )

    def forward(self, vectors: torch.Tensor, state: SourceVectors | None = None) -> tuple[torch.Tensor, None]:
        """A target's vectors (batch, time, width) and the source's, as embedded, to hidden vectors, and no state."""
        assert state is not None, "there is a source to every target"
        return self.decode(vectors, self.encode_source(state)), None

    def encode_source(self, source: SourceVectors) -> SourceVectors:
        """The source as the decoder attends to it."""
        visible = source.is_token[:, None, None, :]
        vectors = self.dropout(add_sinusoids(source.vectors))
        for block in self.encoder:
            vectors = block(vectors, visible)
        return SourceVectors(self.encoder_norm(vectors), source.is_token)

    def decode(self, vectors: torch.Tensor, source: SourceVectors) -> torch.Tensor:
        """A target's vectors (batch, time, width) to hidden vectors, with a source that is encoded already."""
        visible = source.is_token[:, None, None, :]
        vectors = self.dropout(add_sinusoids(vectors))
        for block in self.decoder:
            vectors = block(vectors, source.vectors, visible)
        return self.decoder_norm(vectors)

    def initialise(self, generator: torch.Generator) -> None:
        """Norms are 1, biases 0, the weights of each map U(-a, a) (Glorot & Bengio 2010, equation 16)."""

        def choose_init(name: str, weight: torch.Tensor) -> InitConfig:
            num_maps = 2 if name.endswith("keys_values.weight") else 1
            outputs, inputs = weight.shape[0] // num_maps, weight.shape[1]
            return InitConfig(uniform=math.sqrt(6 / (inputs + outputs)))

        fill_passes(self, choose_init=choose_init, generator=generator)

    def count_flops(self, num_tokens_context: int) -> int:
        """Forward operations per token of the target, where the source has as many: 2 per weight, and 4 * width per
        pass and token attended to: all of the source, from either side, and half of the target.
        """
        num_weights = sum(part.weight.numel() for _, part, _ in walk_passes(self) if isinstance(part, nn.Linear))
        num_attended = len(self.encoder) * num_tokens_context + len(self.decoder) * (3 * num_tokens_context + 1) / 2
        return 2 * num_weights + int(4 * self.width * num_attended)


def add_sinusoids(vectors: torch.Tensor) -> torch.Tensor:
    """Vectors (batch, time, width) plus sines in even places and cosines in odd ones (section 3.5)."""
    time, width = vectors.shape[1:]
    positions = torch.arange(time, device=vectors.device, dtype=torch.float32)
    exponents = torch.arange(0, width, 2, device=vectors.device, dtype=torch.float32) / width
    angles = positions[:, None] * LONGEST_WAVE**-exponents
    return vectors + torch.stack((angles.sin(), angles.cos()), dim=-1).flatten(1).to(vectors.dtype)
