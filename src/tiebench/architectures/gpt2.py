"""GPT-2's transformer: learned positions, pre-norm blocks, tanh GELU (Radford et al. 2019).

It computes what Hugging Face's GPT2Model computes after its token embedding.
"""

import math
from functools import partial

import torch
from torch import nn
from torch.nn import functional

from tiebench.experiment.architecture_config import GPT2Config
from tiebench.layers.dropout import choose_probability
from tiebench.layers.transformer import Attention, PreNormBlock, Transformer


def build(config: GPT2Config) -> "GPT2":
    return GPT2(config)


class GPT2(Transformer):
    """The sum of vectors and learned positions, through the blocks and a last layer norm."""

    context_option = "positions"

    def __init__(self, config: GPT2Config) -> None:
        super().__init__(
            [_build_gpt2_block(config) for _ in range(config.layers)],
            norm=nn.LayerNorm(config.width, eps=config.norm_epsilon),
            config=config,
            max_context=config.positions,
            dropout=choose_probability(config.dropout_embedding, default=config.dropout),
            residual_std=config.init_std / math.sqrt(2 * config.layers),
        )
        self.positions = nn.Parameter(torch.empty(config.positions, config.width))

    def add_positions(self, vectors: torch.Tensor) -> torch.Tensor:
        return vectors + self.positions[: vectors.shape[1]]


class FeedForward(nn.Module):
    """Up, tanh GELU, down (Hendrycks & Gimpel 2016)."""

    def __init__(self, width: int, *, mlp_width: int) -> None:
        super().__init__()
        self.up = nn.Linear(width, mlp_width)
        self.down = nn.Linear(mlp_width, width)

    def forward(self, vectors: torch.Tensor) -> torch.Tensor:
        return self.down(functional.gelu(self.up(vectors), approximate="tanh"))


def _build_gpt2_block(config: GPT2Config) -> PreNormBlock:
    attention = Attention(
        width=config.width,
        heads=config.heads,
        kv_heads=config.heads,
        bias=True,
        dropout=choose_probability(config.dropout_attention, default=config.dropout),
    )
    return PreNormBlock(
        attention,
        mlp=FeedForward(config.width, mlp_width=config.mlp_width or 4 * config.width),
        build_norm=partial(nn.LayerNorm, config.width, eps=config.norm_epsilon),
        dropout=choose_probability(config.dropout_residual, default=config.dropout),
    )
