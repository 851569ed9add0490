"""What lies between the two ends of the model: it maps vectors to vectors and knows no tokens."""

from typing import Annotated, Literal

from pydantic import AfterValidator, Field, model_validator

from tiebench.experiment.block import (
    Block,
    InitConfig,
    Layers,
    Length,
    PositiveFloat,
    Probability,
    Width,
)
from tiebench.experiment.limits import LARGEST_FLOAT

Order = Literal["sequence", "cycle", "cycle_reverse"]
# `none` means the same as null. It is stored as null, so that the signatures of older records stay the same.
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
    `masks: per_gate`, `dropout` holds for the inputs again and also for the state (`dropout_hidden`), on which
    `dropout_output` then does not act. `init` fills weights and biases; without it they are
    U(-1/sqrt(width), 1/sqrt(width)), as torch does. `forget_bias` is then added to the forget gate's part of `bias_ih`
    (the gate sees the sum of `bias_ih` and `bias_hh`). With `biases: one` there is no `bias_hh`, and the bias of each
    gate starts at zero, whatever `init` says: torch's two have equal gradients, so that their sum moves twice as fast.
    With `share: all`, the `layers` are passes through `groups` layers (1 unless given) in the given `order`.
    """

    type: Literal["lstm"] = Field(description="Names the architecture.")
    layers: Layers = Field(description="How many layers (passes, where they share weights).")
    width: Width = Field(description="Numbers in a hidden vector.")
    dropout: Probability = Field(
        default=0.0, description="Probability that a number is dropped, wherever no other key says."
    )
    dropout_input: Probability | None = Field(default=None, description="The same for the input vectors alone.")
    dropout_between: Probability | None = Field(default=None, description="The same between layers alone.")
    dropout_output: Probability | None = Field(
        default=None, description="The same for the last layer's hidden vectors alone."
    )
    dropout_hidden: Probability | None = Field(
        default=None, description="The same for the state, from step to step; needs masks: per_gate."
    )
    variational: bool = Field(
        default=False, description="Keep one dropout mask for a whole window, instead of one for each step."
    )
    masks: Literal["per_gate"] | None = Field(
        default=None, description="per_gate: a mask of its own for each of the four gates."
    )
    init: InitConfig | None = Field(default=None, description="How weights and biases start.")
    forget_bias: Annotated[float, Field(ge=-LARGEST_FLOAT, le=LARGEST_FLOAT)] = Field(
        default=0.0, description="Added to the forget gate's bias at the start."
    )
    biases: Literal["one"] | None = Field(
        default=None, description="one: a single bias for each gate, starting at zero."
    )
    share: ShareAll = Field(default=None, description="all: the layers use the same weights.")
    groups: Layers | None = Field(
        default=None, description="How many sets of weights the layers share; 1 unless given."
    )
    order: Order | None = Field(
        default=None, description="Which layer uses which set of weights; sequence unless given."
    )

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
    `share_norms` also shares the norms before the shared parts.
    """

    type: Literal["gpt2"] = Field(description="Names the architecture.")
    layers: Layers = Field(description="How many blocks (passes, where they share weights).")
    width: Width = Field(description="Numbers in a hidden vector.")
    heads: Width = Field(description="Attention heads; they divide the width.")
    positions: Length = Field(default=1024, description="Longest context, in tokens.")
    mlp_width: Width | None = Field(
        default=None, description="Inner width of the feed-forward nets; 4 * width unless given."
    )
    dropout: Probability = Field(
        default=0.0, description="Probability that a number is dropped, wherever no other key says."
    )
    dropout_embedding: Probability | None = Field(default=None, description="The same for the summed embeddings alone.")
    dropout_residual: Probability | None = Field(default=None, description="The same for what each block adds alone.")
    dropout_attention: Probability | None = Field(default=None, description="The same for attention weights alone.")
    init_std: PositiveFloat = Field(default=0.02, description="Standard deviation of the weights at the start.")
    norm_epsilon: PositiveFloat = Field(default=1e-5, description="Added to the variance in each norm.")
    share: Share = Field(default=None, description="What the blocks share: all, attention, feed_forward or none.")
    groups: Layers | None = Field(
        default=None, description="How many sets of weights the blocks share; 1 unless given."
    )
    order: Order | None = Field(
        default=None, description="Which block uses which set of weights; sequence unless given."
    )
    share_norms: bool = Field(default=False, description="Share the norms before what is shared, too.")

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

    type: Literal["llama"] = Field(description="Names the architecture.")
    layers: Layers = Field(description="How many blocks (passes, where they share weights).")
    width: Width = Field(description="Numbers in a hidden vector.")
    heads: Width = Field(description="Attention heads; they divide the width.")
    kv_heads: Width | None = Field(default=None, description="Heads of keys and values; as many as heads unless given.")
    mlp_width: Width | None = Field(
        default=None, description="Inner width of the feed-forward nets; 8/3 * width unless given."
    )
    max_context: Length | None = Field(
        default=None, description="Longest context, in tokens; without it none is too long."
    )
    rope_theta: PositiveFloat = Field(default=10000.0, description="Base of the rotary positions' wavelengths.")
    dropout: Probability = Field(
        default=0.0, description="Probability that a number is dropped, wherever no other key says."
    )
    dropout_embedding: Probability | None = Field(default=None, description="The same for the embeddings alone.")
    dropout_residual: Probability | None = Field(default=None, description="The same for what each block adds alone.")
    dropout_attention: Probability | None = Field(default=None, description="The same for attention weights alone.")
    init_std: PositiveFloat = Field(default=0.02, description="Standard deviation of the weights at the start.")
    norm_epsilon: PositiveFloat = Field(default=1e-6, description="Added to the mean square in each norm.")
    share: Share = Field(default=None, description="What the blocks share: all, attention, feed_forward or none.")
    groups: Layers | None = Field(
        default=None, description="How many sets of weights the blocks share; 1 unless given."
    )
    order: Order | None = Field(
        default=None, description="Which block uses which set of weights; sequence unless given."
    )
    share_norms: bool = Field(default=False, description="Share the norms before what is shared, too.")

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


class EncoderDecoderConfig(Block):
    """The encoder-decoder transformer, for translation: sinusoidal positions, ReLU, post-norm (Vaswani et al. 2017).

    `layers` is the number of encoder blocks, and also that of decoder blocks. `dropout` holds for the sums of
    embeddings and positions and for what each sub-layer adds (section 5.4); attention weights are dropped where
    `dropout_attention` asks for it. `norm: pre` normalises what goes into a sub-layer, and the last sum of each stack.
    Weights start as U(-a, a) with a = sqrt(6 / (inputs + outputs)) of each map (Glorot & Bengio 2010), biases at 0. The
    factor sqrt(width) of section 3.4 is `embedding.input_scale: sqrt_width`.
    `share`, `groups`, `order` and `share_norms` are those of gpt2, for each of the two stacks by itself; a decoder's
    attention to the source is an attention of its own.
    """

    type: Literal["encoder_decoder"] = Field(description="Names the architecture.")
    layers: Layers = Field(description="How many blocks the encoder has, and how many the decoder.")
    width: Width = Field(description="Numbers in a hidden vector; even.")
    heads: Width = Field(description="Attention heads; they divide the width.")
    mlp_width: Width | None = Field(
        default=None, description="Inner width of the feed-forward nets; 4 * width unless given."
    )
    norm: Literal["post", "pre"] = Field(
        default="post", description="Where a sub-layer's norm stands: after its sum, or before it."
    )
    norm_epsilon: PositiveFloat = Field(default=1e-5, description="Added to the variance in each norm.")
    dropout: Probability = Field(
        default=0.0, description="Probability that a number is dropped, except for attention weights."
    )
    dropout_attention: Probability = Field(default=0.0, description="The same for attention weights.")
    share: Share = Field(default=None, description="What the blocks of a stack share: all, attention or feed_forward.")
    groups: Layers | None = Field(
        default=None, description="How many sets of weights the blocks of a stack share; 1 unless given."
    )
    order: Order | None = Field(
        default=None, description="Which block uses which set of weights; sequence unless given."
    )
    share_norms: bool = Field(default=False, description="Share the norms of what is shared, too.")

    @model_validator(mode="after")
    def _sharing_has_a_meaning(self) -> "EncoderDecoderConfig":
        _check_sharing(self)
        return self

    @model_validator(mode="after")
    def _heads_fit(self) -> "EncoderDecoderConfig":
        if self.width % self.heads:
            raise ValueError(f"heads ({self.heads}) must divide width ({self.width})")
        return self

    @model_validator(mode="after")
    def _width_is_even(self) -> "EncoderDecoderConfig":
        if self.width % 2:
            raise ValueError(f"width ({self.width}) must be even: positions are pairs of sine and cosine")
        return self


def _check_sharing(config: LSTMConfig | GPT2Config | LlamaConfig | EncoderDecoderConfig) -> None:
    """Raises ValueError for options of sharing that would change nothing."""
    asked = [key for key in ("groups", "order", "share_norms") if getattr(config, key, None)]
    if asked and config.share is None:
        raise ValueError(f"{asked[0]} means nothing where no layers are shared; write share too, or remove {asked[0]}")
    if config.groups is not None and config.groups > config.layers:
        raise ValueError(f"groups ({config.groups}) must not be more than layers ({config.layers})")
    if config.order is not None and (config.groups or 1) == 1:
        raise ValueError("order means nothing with one set of weights; write groups: 2 or more, or remove order")


ArchitectureConfig = Annotated[
    EncoderDecoderConfig | GPT2Config | LlamaConfig | LSTMConfig, Field(discriminator="type")
]
