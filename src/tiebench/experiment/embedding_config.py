"""Both ends of the model: how tokens become vectors and vectors become scores, and whether the two share a matrix."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from tiebench.experiment.block import Block, InitConfig, NonNegative, PositiveFloat, Probability, Width


class ProjectionConfig(Block):
    """A square linear map before the output embedding (Press & Wolf 2017, section 3, "projection regularization").

    `form: paper` adds `penalty * ||P||_F` to the cost, as the paper's text says. `form: code` adds
    `penalty * ||P||_F^2 / (2 * batch_size)`, as the authors' program does (there penalty is 1 / 6.5 = 0.154).
    Both refer to a cost summed over the window and averaged over the batch; with `reduction: token_mean` the
    penalty is divided by the window too. The `bias` starts at zero unless `bias_init` is given; no penalty is on it.
    """

    penalty: NonNegative = 0.0
    form: Literal["paper", "code"] = "paper"
    bias: bool = False
    bias_init: InitConfig | None = None

    @model_validator(mode="after")
    def _bias_is_there(self) -> "ProjectionConfig":
        if self.bias_init is not None and not self.bias:
            raise ValueError("bias_init fills the projection's bias; write bias: true too")
        return self


class EmbeddingConfig(Block):
    """What both ends of the model share, and what is usually confounded with tying, each with its own switch.

    `width` is that of the embedding vectors, by default the architecture's. The output bias starts at zero unless
    `output_bias_init` is given. `word_dropout` is the probability of
    dropping a word in training: the zero vector then stands for it at all its places in a row's window (Gal &
    Ghahramani 2016, section 4.2).
    """

    width: Width | None = None
    init: InitConfig = InitConfig(uniform=0.1)
    output_init: InitConfig | None = None
    input_scale: Literal["one", "sqrt_width"] | PositiveFloat = "one"
    output_scale: Literal["one", "inverse_sqrt_width"] | PositiveFloat = "one"
    output_bias: bool = False
    output_bias_init: InitConfig | None = None
    output_projection: ProjectionConfig | None = None
    word_dropout: Probability | None = None

    @model_validator(mode="after")
    def _output_bias_is_there(self) -> "EmbeddingConfig":
        if self.output_bias_init is not None and not self.output_bias:
            raise ValueError("output_bias_init fills the output bias; write output_bias: true too")
        return self


class TiedConfig(Block):
    """One matrix at both ends: the vector of a token is also what scores it (Press & Wolf 2017; Inan et al. 2017)."""

    type: Literal["tied"]


class UntiedConfig(Block):
    """Two matrices: one turns tokens into vectors, the other scores them (the baseline; Zaremba et al. 2014)."""

    type: Literal["untied"]


TieConfig = Annotated[TiedConfig | UntiedConfig, Field(discriminator="type")]
