"""Llama's transformer: rotary positions, RMS norms, gated feed-forward nets, no biases (Touvron et al. 2023).

Numerically Hugging Face's LlamaModel after its token embedding.
"""

from functools import partial
from typing import Literal

import torch
from pydantic import model_validator
from torch import nn
from torch.nn import functional

from tiebench.models.hugging_face import Rule, convert_state
from tiebench.layers.dropout import choose_probability
from tiebench.layers.transformer import Attention, PreNormBlock, Rotation, Transformer
from tiebench.experiment.schema import Block, Positive, PositiveFloat, Probability


class Options(Block):
    """`dropout` holds for the embeddings, for what each block adds and for attention weights.

    Each of the three can be given by itself. `kv_heads` is `heads` unless given; `mlp_width` is 8/3 * width,
    rounded up to a multiple of 32, unless given. `max_context` bounds the context; without it none is too long.
    """

    type: Literal["llama"]
    layers: Positive
    width: Positive
    heads: Positive
    kv_heads: Positive | None = None
    mlp_width: Positive | None = None
    max_context: Positive | None = None
    rope_theta: PositiveFloat = 10000.0
    dropout: Probability = 0.0
    dropout_embedding: Probability | None = None
    dropout_residual: Probability | None = None
    dropout_attention: Probability | None = None
    init_std: PositiveFloat = 0.02
    norm_epsilon: PositiveFloat = 1e-6

    @model_validator(mode="after")
    def _heads_fit(self) -> "Options":
        if self.width % self.heads:
            raise ValueError(f"heads ({self.heads}) must divide width ({self.width})")
        if self.kv_heads is not None and self.heads % self.kv_heads:
            raise ValueError(f"kv_heads ({self.kv_heads}) must divide heads ({self.heads})")
        if self.width // self.heads % 2:
            raise ValueError(f"width / heads ({self.width // self.heads}) must be even: positions rotate pairs")
        return self


def build(options: Options) -> "Llama":
    return Llama(options)


class Llama(Transformer):
    """Vectors through blocks that rotate queries and keys by their positions, and a last RMS norm."""

    def __init__(self, options: Options) -> None:
        super().__init__(
            [_build_block(options) for _ in range(options.layers)],
            norm=nn.RMSNorm(options.width, eps=options.norm_epsilon),
            width=options.width,
            max_context=options.max_context,
            dropout=choose_probability(options.dropout_embedding, default=options.dropout),
            init_std=options.init_std,
            residual_std=options.init_std,
        )
        self.head_width = options.width // options.heads
        self.rope_theta = options.rope_theta

    def compute_rotation(self, vectors: torch.Tensor) -> Rotation:
        """Cosines and sines, each (time, head width / 2) in fp32 (Su et al. 2021, section 3.2.2).

        Computed anew each time: that is cheap, and nothing can get lost or stale.
        """
        exponents = torch.arange(0, self.head_width, 2, device=vectors.device, dtype=torch.float32) / self.head_width
        positions = torch.arange(vectors.shape[1], device=vectors.device, dtype=torch.float32)
        angles = positions[:, None] * (1 / self.rope_theta**exponents)
        return angles.cos(), angles.sin()


class GatedFeedForward(nn.Module):
    """SwiGLU: an upward map times the SiLU of another, then down (Shazeer 2020, equation 6)."""

    def __init__(self, width: int, *, mlp_width: int) -> None:
        super().__init__()
        self.gate = nn.Linear(width, mlp_width, bias=False)
        self.up = nn.Linear(width, mlp_width, bias=False)
        self.down = nn.Linear(mlp_width, width, bias=False)

    def forward(self, vectors: torch.Tensor) -> torch.Tensor:
        return self.down(functional.silu(self.gate(vectors)) * self.up(vectors))


def _build_block(options: Options) -> PreNormBlock:
    attention = Attention(
        width=options.width,
        heads=options.heads,
        kv_heads=options.kv_heads or options.heads,
        bias=False,
        dropout=choose_probability(options.dropout_attention, default=options.dropout),
    )
    return PreNormBlock(
        attention,
        mlp=GatedFeedForward(options.width, mlp_width=options.mlp_width or _choose_mlp_width(options.width)),
        build_norm=partial(nn.RMSNorm, options.width, eps=options.norm_epsilon),
        dropout=choose_probability(options.dropout_residual, default=options.dropout),
    )


def _choose_mlp_width(width: int) -> int:
    """8/3 of the width, rounded up to a multiple of 32: about as many parameters as an ungated net of 4 widths."""
    return -(-8 * width // (3 * 32)) * 32


HUGGING_FACE: list[Rule] = [
    Rule(r"layers\.(\d+)\.input_layernorm\.weight", r"blocks.\1.norm_attention.weight"),
    Rule(r"layers\.(\d+)\.post_attention_layernorm\.weight", r"blocks.\1.norm_mlp.weight"),
    Rule(r"layers\.(\d+)\.self_attn\.q_proj\.weight", r"blocks.\1.attention.queries_keys_values.weight"),
    Rule(r"layers\.(\d+)\.self_attn\.k_proj\.weight", r"blocks.\1.attention.queries_keys_values.weight"),
    Rule(r"layers\.(\d+)\.self_attn\.v_proj\.weight", r"blocks.\1.attention.queries_keys_values.weight"),
    Rule(r"layers\.(\d+)\.self_attn\.o_proj\.weight", r"blocks.\1.attention.output.weight"),
    Rule(r"layers\.(\d+)\.mlp\.(gate|up|down)_proj\.weight", r"blocks.\1.mlp.\2.weight"),
    Rule(r"norm\.weight", "norm.weight"),
    Rule(r"embed_tokens\.weight|lm_head\.weight|.*rotary_emb\.inv_freq", None),
]


def convert_hugging_face(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """A state dict of LlamaModel or LlamaForCausalLM as one of `Llama`, without the token tables.

    Raises TiebenchError for a name that neither has.
    """
    return convert_state(state, rules=HUGGING_FACE, prefix="model.")
