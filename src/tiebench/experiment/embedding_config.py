"""Both ends of the model: how tokens become vectors and vectors become scores, and whether the two share a matrix."""

from itertools import pairwise
from typing import Annotated, Literal

from pydantic import Field, model_validator

from tiebench.experiment.block import (
    Block,
    FromList,
    InitConfig,
    NonNegative,
    Positive,
    PositiveFloat,
    Probability,
    Width,
)


class ProjectionConfig(Block):
    """A square linear map before the output embedding (Press & Wolf 2017, section 3, "projection regularization").

    `form: paper` adds `penalty * ||P||_F` to the cost, as the paper's text says. `form: code` adds
    `penalty * ||P||_F^2 / (2 * batch_size)`, as the authors' program does (there penalty is 1 / 6.5 = 0.154).
    Both refer to a cost summed over the window and averaged over the batch; with `reduction: token_mean` the
    penalty is divided by the window too. The `bias` starts at zero unless `bias_init` is given; no penalty is on it.
    """

    penalty: NonNegative = Field(default=0.0, description="Weight of the penalty on the map's norm in the cost.")
    form: Literal["paper", "code"] = Field(
        default="paper", description="Which penalty: the paper's norm or the program's squared norm."
    )
    bias: bool = Field(default=False, description="Whether the map has a bias.")
    bias_init: InitConfig | None = Field(default=None, description="How that bias starts; at zero unless given.")

    @model_validator(mode="after")
    def _bias_is_there(self) -> "ProjectionConfig":
        if self.bias_init is not None and not self.bias:
            raise ValueError("bias_init fills the projection's bias; write bias: true too")
        return self


class AdaptiveConfig(Block):
    """Wide vectors for frequent words, narrow ones for rare words (Baevski & Auli 2019; Grave et al. 2017).

    The vocabulary, sorted by how often its entries stand in the training text, is cut into bands. Band i has vectors of
    width d / factor^i (at least 1), where d is the embedding's width. From the second band on, a map of its own leads
    to d, and in the output another one back. The output is the adaptive softmax: a word of the first band competes
    with its band and a class for each of the others, a word of another band also within that band. The probabilities
    are exact. With `tie: true` the vectors of each band are shared by both ends, the maps only if `share_projections`
    says so. The maps start as in Glorot & Bengio 2010, the vectors as `init` says. In the paper the first band has a
    map of the input too; here it has one only where `embedding.width` asks for it.
    """

    cutoffs: Annotated[tuple[Positive, ...], FromList] = Field(
        description="Where one band ends and the next begins, in words by descending frequency; the last has the rest."
    )
    factor: Annotated[int, Field(ge=1, le=1_000_000)] = Field(
        default=4, description="How many times narrower each band is than the one before."
    )
    share_projections: bool = Field(
        default=False, description="Whether a tied band's map out is its map in, transposed."
    )

    @model_validator(mode="after")
    def _cutoffs_increase(self) -> "AdaptiveConfig":
        if not self.cutoffs:
            raise ValueError("cutoffs is empty; write where bands begin, such as [2000, 10000]")
        for before, after in pairwise(self.cutoffs):
            if before >= after:
                raise ValueError(f"cutoffs must increase, and {after} stands after {before}")
        return self


class EmbeddingConfig(Block):
    """What both ends of the model share, and what is usually confounded with tying, each with its own switch.

    `width` is that of the embedding vectors, by default the architecture's. The output bias starts at zero unless
    `output_bias_init` is given. `word_dropout` is the probability of
    dropping a word in training: the zero vector then stands for it at all its places in a row's window (Gal &
    Ghahramani 2016, section 4.2).
    """

    width: Width | None = Field(
        default=None, description="Numbers in an embedding vector; the architecture's width unless given."
    )
    init: InitConfig = Field(default=InitConfig(uniform=0.1), description="How the input (or shared) embedding starts.")
    output_init: InitConfig | None = Field(
        default=None, description="How an untied output embedding starts; as init unless given."
    )
    input_scale: Literal["one", "sqrt_width"] | PositiveFloat = Field(
        default="one", description="Factor on the vectors that are looked up."
    )
    output_scale: Literal["one", "inverse_sqrt_width"] | PositiveFloat = Field(
        default="one", description="Factor on the scores."
    )
    output_bias: bool = Field(default=False, description="Whether each token has a bias on its score.")
    output_bias_init: InitConfig | None = Field(
        default=None, description="How the output bias starts; at zero unless given."
    )
    output_projection: ProjectionConfig | None = Field(
        default=None, description="A square map before the output embedding."
    )
    input_gradient_scale: NonNegative | None = Field(
        default=None, description="Factor on the gradient that reaches the embedding through the looked-up vectors."
    )
    word_dropout: Probability | None = Field(
        default=None, description="Probability that a word is dropped at all its places in a row's window."
    )
    adaptive: AdaptiveConfig | None = Field(
        default=None, description="Bands of words by frequency, with narrower vectors for rarer words."
    )

    @model_validator(mode="after")
    def _output_bias_is_there(self) -> "EmbeddingConfig":
        if self.output_bias_init is not None and not self.output_bias:
            raise ValueError("output_bias_init fills the output bias; write output_bias: true too")
        return self


class ThreeWayConfig(Block):
    """One matrix at three places, in translation: it embeds source and target, and scores (Press & Wolf 2017, sec. 4).

    Both languages have one vocabulary, so that one row can stand for a token in either (Vaswani et al. 2017, 3.4).
    """

    type: Literal["three-way"] = Field(description="Names the tie.")


class TiedConfig(Block):
    """One matrix at both ends: the vector of a token is also what scores it (Press & Wolf 2017; Inan et al. 2017).

    In translation the ends are the target language's, and the source has a matrix of its own ("decoder weight tying").
    """

    type: Literal["tied"] = Field(description="Names the tie.")


class UntiedConfig(Block):
    """Two matrices: one turns tokens into vectors, the other scores them (the baseline; Zaremba et al. 2014).

    In translation there is a third, which turns the source's tokens into vectors.
    """

    type: Literal["untied"] = Field(description="Names the tie.")


class UntiedLateConfig(Block):
    """One matrix at both ends until a moment in training; then two, which start from its values.

    The optimizer's memory of the matrix is copied too (the practice of fast trainers of small models). With `freeze`,
    one of the two is not trained any more.
    """

    type: Literal["untied-late"] = Field(description="Names the tie.")
    at: Annotated[float, Field(gt=0, lt=1)] = Field(
        default=0.66, description="The moment, as a share of the training budget."
    )
    freeze: Literal["input", "output"] | None = Field(
        default=None, description="Which of the two is not trained any more from then on."
    )


TieConfig = Annotated[TiedConfig | UntiedConfig | UntiedLateConfig | ThreeWayConfig, Field(discriminator="type")]
