"""GPT-2's transformer: learned positions, pre-norm blocks, tanh GELU (Radford et al. 2019).

Numerically Hugging Face's GPT2Model after its token embedding.
"""

import math
from functools import partial
from typing import Literal

import torch
from pydantic import model_validator
from torch import nn
from torch.nn import functional

from tiebench.models.hugging_face import Rule, convert_state
from tiebench.layers.dropout import choose_probability
from tiebench.layers.transformer import Attention, PreNormBlock, Transformer
from tiebench.experiment.schema import Block, Positive, PositiveFloat, Probability


class Options(Block):
    """`dropout` holds for the summed embeddings, for what each block adds and for attention weights.

    Each of the three can be given by itself. `positions` is the longest context; `mlp_width` is 4 * width unless
    given. Weights start as N(0, init_std^2), those of residual projections with init_std / sqrt(2 * layers).
    """

    type: Literal["gpt2"]
    layers: Positive
    width: Positive
    heads: Positive
    positions: Positive = 1024
    mlp_width: Positive | None = None
    dropout: Probability = 0.0
    dropout_embedding: Probability | None = None
    dropout_residual: Probability | None = None
    dropout_attention: Probability | None = None
    init_std: PositiveFloat = 0.02
    norm_epsilon: PositiveFloat = 1e-5

    @model_validator(mode="after")
    def _heads_fit(self) -> "Options":
        if self.width % self.heads:
            raise ValueError(f"heads ({self.heads}) must divide width ({self.width})")
        return self


def build(options: Options) -> "GPT2":
    return GPT2(options)


class GPT2(Transformer):
    """The sum of vectors and learned positions, through the blocks and a last layer norm."""

    context_option = "positions"

    def __init__(self, options: Options) -> None:
        super().__init__(
            [_build_block(options) for _ in range(options.layers)],
            norm=nn.LayerNorm(options.width, eps=options.norm_epsilon),
            width=options.width,
            max_context=options.positions,
            dropout=choose_probability(options.dropout_embedding, default=options.dropout),
            init_std=options.init_std,
            residual_std=options.init_std / math.sqrt(2 * options.layers),
        )
        self.positions = nn.Parameter(torch.empty(options.positions, options.width))

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


def _build_block(options: Options) -> PreNormBlock:
    attention = Attention(
        width=options.width,
        heads=options.heads,
        kv_heads=options.heads,
        bias=True,
        dropout=choose_probability(options.dropout_attention, default=options.dropout),
    )
    return PreNormBlock(
        attention,
        mlp=FeedForward(options.width, mlp_width=options.mlp_width or 4 * options.width),
        build_norm=partial(nn.LayerNorm, options.width, eps=options.norm_epsilon),
        dropout=choose_probability(options.dropout_residual, default=options.dropout),
    )


HUGGING_FACE: list[Rule] = [
    Rule(r"wpe\.weight", "positions"),
    Rule(r"h\.(\d+)\.ln_1\.(weight|bias)", r"blocks.\1.norm_attention.\2"),
    Rule(r"h\.(\d+)\.ln_2\.(weight|bias)", r"blocks.\1.norm_mlp.\2"),
    Rule(r"h\.(\d+)\.attn\.c_attn\.(weight|bias)", r"blocks.\1.attention.queries_keys_values.\2", transpose=True),
    Rule(r"h\.(\d+)\.attn\.c_proj\.(weight|bias)", r"blocks.\1.attention.output.\2", transpose=True),
    Rule(r"h\.(\d+)\.mlp\.c_fc\.(weight|bias)", r"blocks.\1.mlp.up.\2", transpose=True),
    Rule(r"h\.(\d+)\.mlp\.c_proj\.(weight|bias)", r"blocks.\1.mlp.down.\2", transpose=True),
    Rule(r"ln_f\.(weight|bias)", r"norm.\1"),
    Rule(r"wte\.weight|lm_head\.weight|h\.\d+\.attn\.(masked_)?bias", None),
]


def convert_hugging_face(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """A state dict of GPT2Model or GPT2LMHeadModel as one of `GPT2`, without the token tables.

    Raises TiebenchError for a name that neither has.
    """
    return convert_state(state, rules=HUGGING_FACE, prefix="transformer.")
