"""Llama's transformer: rotary positions, RMS norms, gated feed-forward nets, no biases (Touvron et al. 2023).

It computes what Hugging Face's LlamaModel computes after its token embedding.
"""

from functools import partial

import torch
from torch import nn
from torch.nn import functional

from tiebench.experiment.architecture_config import LlamaConfig
from tiebench.layers.dropout import choose_probability
from tiebench.layers.transformer import Attention, PreNormBlock, Rotation, Transformer


def build(config: LlamaConfig) -> "Llama":
    return Llama(config)


class Llama(Transformer):
    """Vectors through blocks that rotate queries and keys by their positions, and a last RMS norm."""

    def __init__(self, config: LlamaConfig) -> None:
        super().__init__(
            [_build_llama_block(config) for _ in range(config.layers)],
            norm=nn.RMSNorm(config.width, eps=config.norm_epsilon),
            config=config,
            max_context=config.max_context,
            dropout=choose_probability(config.dropout_embedding, default=config.dropout),
            residual_std=config.init_std,
        )
        self.head_width = config.width // config.heads
        self.rope_theta = config.rope_theta

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


def _build_llama_block(config: LlamaConfig) -> PreNormBlock:
    attention = Attention(
        width=config.width,
        heads=config.heads,
        kv_heads=config.kv_heads or config.heads,
        bias=False,
        dropout=choose_probability(config.dropout_attention, default=config.dropout),
    )
    return PreNormBlock(
        attention,
        mlp=GatedFeedForward(config.width, mlp_width=config.mlp_width or choose_mlp_width(config.width)),
        build_norm=partial(nn.RMSNorm, config.width, eps=config.norm_epsilon),
        dropout=choose_probability(config.dropout_residual, default=config.dropout),
    )


def choose_mlp_width(width: int) -> int:
    """8/3 of the width, rounded up to a multiple of 32: about as many parameters as an ungated net of 4 widths."""
    return -(-8 * width // (3 * 32)) * 32
