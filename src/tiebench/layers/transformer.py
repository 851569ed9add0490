"""A pre-norm causal transformer, whatever its norms, positions and feed-forward nets are (Xiong et al. 2020).

`gpt2.py` and `llama.py` put their own parts into the same two places of the same block.
"""

from collections.abc import Callable

import torch
from torch import nn
from torch.nn import functional

from tiebench.errors import TiebenchError
from tiebench.experiment.architecture_config import GPT2Config, LlamaConfig
from tiebench.experiment.block import InitConfig
from tiebench.layers.architecture import Architecture
from tiebench.layers.dropout import Dropout
from tiebench.layers.sharing import fill_passes, share_parts, walk_passes

Rotation = tuple[torch.Tensor, torch.Tensor]
RESIDUAL_ENDS = ("attention.output.weight", "mlp.down.weight")


class Attention(nn.Module):
    """Causal self-attention; `kv_heads` groups of query heads share their keys and values (Ainslie et al. 2023)."""

    def __init__(self, *, width: int, heads: int, kv_heads: int, bias: bool, dropout: float) -> None:
        super().__init__()
        self.head_width = width // heads
        self.splits = [width, kv_heads * self.head_width, kv_heads * self.head_width]
        self.queries_keys_values = nn.Linear(width, sum(self.splits), bias=bias)
        self.output = nn.Linear(width, width, bias=bias)
        self.dropout = Dropout(dropout)

    def forward(self, vectors: torch.Tensor, rotation: Rotation | None = None) -> torch.Tensor:
        """(batch, time, width) to the same; with a rotation, queries and keys are rotated by their positions."""
        queries, keys, values = (
            part.unflatten(-1, (-1, self.head_width)).transpose(1, 2)
            for part in self.queries_keys_values(vectors).split(self.splits, dim=-1)
        )
        if rotation is not None:
            queries, keys = rotate(queries, rotation=rotation), rotate(keys, rotation=rotation)
        num_sharing = queries.shape[1] // keys.shape[1]
        if num_sharing > 1:
            keys, values = (part.repeat_interleave(num_sharing, dim=1) for part in (keys, values))
        mixed = attend(queries, keys=keys, values=values, dropout=self.dropout)
        return self.output(mixed.transpose(1, 2).flatten(2))


class PreNormBlock(nn.Module):
    """Two residual steps: attention, then a feed-forward net, each on normalised vectors."""

    def __init__(
        self, attention: nn.Module, *, mlp: nn.Module, build_norm: Callable[[], nn.Module], dropout: float
    ) -> None:
        super().__init__()
        self.norm_attention = build_norm()
        self.attention = attention
        self.norm_mlp = build_norm()
        self.mlp = mlp
        self.dropout = Dropout(dropout)

    def forward(self, vectors: torch.Tensor, rotation: Rotation | None = None) -> torch.Tensor:
        vectors = vectors + self.dropout(self.attention(self.norm_attention(vectors), rotation))
        return vectors + self.dropout(self.mlp(self.norm_mlp(vectors)))


class Transformer(Architecture):
    """Blocks and a last norm. Subclasses say where positions come from, and which option bounds the context.

    A block is a pass: it may use attention and feed-forward net of an earlier one (`layers/sharing.py`).
    """

    recurrent = False
    context_option = "max_context"

    def __init__(
        self,
        blocks: list[PreNormBlock],
        *,
        config: GPT2Config | LlamaConfig,
        norm: nn.Module,
        max_context: int | None,
        dropout: float,
        residual_std: float,
    ) -> None:
        super().__init__()
        self.width = config.width
        self.max_context = max_context
        self.init_std = config.init_std
        self.residual_std = residual_std
        self.dropout = Dropout(dropout)
        share_parts(blocks, config=config)
        self.blocks = nn.ModuleList(blocks)
        self.norm = norm

    def add_positions(self, vectors: torch.Tensor) -> torch.Tensor:
        """Vectors (batch, time, width) that know their positions; unchanged where a rotation does that."""
        return vectors

    def compute_rotation(self, vectors: torch.Tensor) -> Rotation | None:
        """Cosines and sines for every position of `vectors`, or None where positions are added."""
        return None

    def forward(self, vectors: torch.Tensor, state: None = None) -> tuple[torch.Tensor, None]:
        """(batch, time, width) to the same, and no state. Raises TiebenchError beyond the longest context."""
        self._check_context(vectors.shape[1])
        rotation = self.compute_rotation(vectors)
        vectors = self.dropout(self.add_positions(vectors))
        for block in self.blocks:
            vectors = block(vectors, rotation)
        return self.norm(vectors), None

    def initialise(self, generator: torch.Generator) -> None:
        """Norms are 1, biases 0, all else N(0, std^2); the last weights of each residual branch have a std of their
        own.
        """

        def choose_init(name: str, weight: torch.Tensor) -> InitConfig:
            return InitConfig(normal=self.residual_std if name.endswith(RESIDUAL_ENDS) else self.init_std)

        fill_passes(self, choose_init=choose_init, generator=generator)

    def count_flops(self, num_tokens_context: int) -> int:
        """Forward operations per token: 2 per weight of each pass, and 4 * width per pass and token attended to.

        A token of a window attends to (window + 1) / 2 tokens on average, itself included.
        """
        num_weights = sum(part.weight.numel() for _, part, _ in walk_passes(self) if isinstance(part, nn.Linear))
        return 2 * num_weights + 2 * self.width * (num_tokens_context + 1) * len(self.blocks)

    def _check_context(self, num_tokens: int) -> None:
        if self.max_context is not None and num_tokens > self.max_context:
            raise TiebenchError(
                f"the architecture sees at most {self.max_context} tokens at once; it was given {num_tokens}",
                f"raise architecture.{self.context_option} to {num_tokens}, "
                f"or lower training.window and evaluation.context to {self.max_context}",
            )


def attend(
    queries: torch.Tensor,
    *,
    keys: torch.Tensor,
    values: torch.Tensor,
    dropout: Dropout,
    visible: torch.Tensor | None = None,
) -> torch.Tensor:
    """Scaled dot-product attention (Vaswani et al. 2017, equation 1); all (batch, heads, time, head width).

    Queries attend to the keys where `visible` (batch, 1, 1, keys) is True; without it, attention is causal. Torch's
    fused kernel draws its own masks, so the attention is spelled out where its weights are to be dropped.
    """
    if not dropout.active:
        causal = visible is None
        return functional.scaled_dot_product_attention(queries, keys, values, attn_mask=visible, is_causal=causal)
    time = queries.shape[-2]
    if visible is None:
        visible = torch.ones(time, time, dtype=torch.bool, device=queries.device).tril()
    scores = (queries * queries.shape[-1] ** -0.5) @ keys.transpose(-2, -1)
    weights = torch.softmax(scores.masked_fill(~visible, float("-inf")), dim=-1)
    return dropout(weights) @ values


def rotate(heads: torch.Tensor, *, rotation: Rotation) -> torch.Tensor:
    """Turn (batch, heads, time, head width) by position; the two halves of a head are the planes' two axes."""
    cosines, sines = (part.to(heads.dtype) for part in rotation)
    first, second = heads.chunk(2, dim=-1)
    return torch.cat((first * cosines - second * sines, second * cosines + first * sines), dim=-1)
