"""What lies between the two ends of the model: it maps vectors to vectors and knows no tokens."""

from typing import Annotated, Literal

from pydantic import AfterValidator, Field, model_validator

from tiebench.experiment.block import (
    LARGEST_FLOAT,
    Block,
    InitConfig,
    Layers,
    Length,
    PositiveFloat,
    Probability,
    Width,
)

Order = Literal["sequence", "cycle", "cycle_reverse"]
# `none` is what null says too; kept as null, it leaves the signatures of older records as they are.
Share = Annotated[
    Literal["none", "all", "attention", "feed_forward"] | None,
    AfterValidator(lambda value: None if value == "none" else value),
]
ShareAll = Annotated[Literal["none", "all"] | None, AfterValidator(lambda value: None if value == "none" else value)]


class LSTMConfig(Block):
    """Stacked LSTM with dropout on its inputs, between its layers and on its outputs (Zaremba et al. 2014).

    `dropout` holds for inputs, between layers and outputs; each of the three can be given by itself. With
    `variational` (Inan et al. 2017, after Gal & Ghahramani 2016), nothing is dropped from the inputs unless
    `dropout_input` is given, and `dropout_output` is the mask of the last layer's hidden vectors. With
    `masks: per_gate`, `dropout` holds for the inputs again, and for the state (`dropout_hidden`), which
    `dropout_output` then leaves alone. `init` fills weights and biases; without it they are
    U(-1/sqrt(width), 1/sqrt(width)), as torch does. `forget_bias` is then added to the forget gate's part of `bias_ih`
    (the gate sees the sum of `bias_ih` and `bias_hh`). With `biases: one` there is no `bias_hh`, and the bias of each
    gate starts at zero, whatever `init` says: torch's two have equal gradients, so that their sum moves twice as fast.
    With `share: all`, the `layers` are passes through `groups` layers (1 unless given) in the given `order`.
    """

    type: Literal["lstm"]
    layers: Layers
    width: Width
    dropout: Probability = 0.0
    dropout_input: Probability | None = None
    dropout_between: Probability | None = None
    dropout_output: Probability | None = None
    dropout_hidden: Probability | None = None
    variational: bool = False
    masks: Literal["per_gate"] | None = None
    init: InitConfig | None = None
    forget_bias: Annotated[float, Field(ge=-LARGEST_FLOAT, le=LARGEST_FLOAT)] = 0.0
    biases: Literal["one"] | None = None
    share: ShareAll = None
    groups: Layers | None = None
    order: Order | None = None

    @model_validator(mode="after")
    def _masks_have_a_meaning(self) -> "LSTMConfig":
        if self.masks and not self.variational:
            raise ValueError("masks: per_gate belongs to variational dropout; write variational: true too")
        return self

    @model_validator(mode="after")
    def _state_has_a_mask(self) -> "LSTMConfig":
        if self.dropout_hidden is not None and not self.masks:
            raise ValueError("dropout_hidden needs masks: per_gate; otherwise the state has no mask of its own")
        return self

    @model_validator(mode="after")
    def _sharing_has_a_meaning(self) -> "LSTMConfig":
        _check_sharing(self)
        return self


class GPT2Config(Block):
    """GPT-2's transformer: learned positions, pre-norm blocks, tanh GELU (Radford et al. 2019).

    `dropout` holds for the summed embeddings, for what each block adds and for attention weights.

    Each of the three can be given by itself. `positions` is the longest context; `mlp_width` is 4 * width unless
    given. Weights start as N(0, init_std^2), those of residual projections with init_std / sqrt(2 * layers).
    With `share`, the `layers` are passes that use `groups` sets of weights (1 unless given) in the given `order`;
    `share_norms` shares the norms before what is shared.
    """

    type: Literal["gpt2"]
    layers: Layers
    width: Width
    heads: Width
    positions: Length = 1024
    mlp_width: Width | None = None
    dropout: Probability = 0.0
    dropout_embedding: Probability | None = None
    dropout_residual: Probability | None = None
    dropout_attention: Probability | None = None
    init_std: PositiveFloat = 0.02
    norm_epsilon: PositiveFloat = 1e-5
    share: Share = None
    groups: Layers | None = None
    order: Order | None = None
    share_norms: bool = False

    @model_validator(mode="after")
    def _sharing_has_a_meaning(self) -> "GPT2Config":
        _check_sharing(self)
        return self

    @model_validator(mode="after")
    def _heads_fit(self) -> "GPT2Config":
        if self.width % self.heads:
            raise ValueError(f"heads ({self.heads}) must divide width ({self.width})")
        return self


class LlamaConfig(Block):
    """Llama's transformer: rotary positions, RMS norms, gated feed-forward nets, no biases (Touvron et al. 2023).

    `dropout` holds for the embeddings, for what each block adds and for attention weights.

    Each of the three can be given by itself. `kv_heads` is `heads` unless given; `mlp_width` is 8/3 * width,
    rounded up to a multiple of 32, unless given. `max_context` bounds the context; without it none is too long.
    `share`, `groups`, `order` and `share_norms` are those of gpt2.
    """

    type: Literal["llama"]
    layers: Layers
    width: Width
    heads: Width
    kv_heads: Width | None = None
    mlp_width: Width | None = None
    max_context: Length | None = None
    rope_theta: PositiveFloat = 10000.0
    dropout: Probability = 0.0
    dropout_embedding: Probability | None = None
    dropout_residual: Probability | None = None
    dropout_attention: Probability | None = None
    init_std: PositiveFloat = 0.02
    norm_epsilon: PositiveFloat = 1e-6
    share: Share = None
    groups: Layers | None = None
    order: Order | None = None
    share_norms: bool = False

    @model_validator(mode="after")
    def _sharing_has_a_meaning(self) -> "LlamaConfig":
        _check_sharing(self)
        return self

    @model_validator(mode="after")
    def _heads_fit(self) -> "LlamaConfig":
        if self.width % self.heads:
            raise ValueError(f"heads ({self.heads}) must divide width ({self.width})")
        if self.width // self.heads % 2:
            raise ValueError(f"width / heads ({self.width // self.heads}) must be even: positions rotate pairs")
        return self

    @model_validator(mode="after")
    def _kv_heads_fit(self) -> "LlamaConfig":
        if self.kv_heads is not None and self.heads % self.kv_heads:
            raise ValueError(f"kv_heads ({self.kv_heads}) must divide heads ({self.heads})")
        return self


def _check_sharing(config: LSTMConfig | GPT2Config | LlamaConfig) -> None:
    """Raises ValueError for options of sharing that would change nothing."""
    asked = [key for key in ("groups", "order", "share_norms") if getattr(config, key, None)]
    if asked and config.share is None:
        raise ValueError(f"{asked[0]} means nothing where no layers are shared; write share too, or remove {asked[0]}")
    if config.groups is not None and config.groups > config.layers:
        raise ValueError(f"groups ({config.groups}) must not be more than layers ({config.layers})")
    if config.order is not None and (config.groups or 1) == 1:
        raise ValueError("order means nothing with one set of weights; write groups: 2 or more, or remove order")


ArchitectureConfig = Annotated[GPT2Config | LlamaConfig | LSTMConfig, Field(discriminator="type")]
