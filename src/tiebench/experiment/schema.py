"""What an experiment file may say: one frozen model per block, with the defaults.

Blocks whose members are files of their own (`corpus`, `architecture`, `tie`) are decoded by those files' own
`Options`; everything else is spelled out here.
"""

import re
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator


class Block(BaseModel):
    """A part of the YAML: frozen, no unknown keys, no silent conversions."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


Positive = Annotated[int, Field(gt=0)]
PositiveFloat = Annotated[float, Field(gt=0)]
NonNegative = Annotated[float, Field(ge=0)]
Probability = Annotated[float, Field(ge=0, lt=1)]


class Init(Block):
    """How a table is filled: `{uniform: a}` is U(-a, a), `{normal: s}` is N(0, s^2)."""

    uniform: PositiveFloat | None = None
    normal: PositiveFloat | None = None

    @model_validator(mode="after")
    def _exactly_one(self) -> "Init":
        if (self.uniform is None) == (self.normal is None):
            raise ValueError("give exactly one of 'uniform' and 'normal'")
        return self


class Projection(Block):
    """A square linear map before the output table (Press & Wolf 2017, section 3, "projection regularization").

    `form: paper` adds `penalty * ||P||_F` to the cost, as the paper's text says. `form: code` adds
    `penalty * ||P||_F^2 / (2 * batch_size)`, as the authors' program does (there penalty is 1 / 6.5 = 0.154).
    Both refer to a cost summed over the window and averaged over the batch; with `reduction: token_mean` the
    penalty is divided by the window too.
    """

    penalty: NonNegative = 0.0
    form: Literal["paper", "code"] = "paper"
    bias: bool = False


class Lexicon(Block):
    """What both ends of the model share, and what is usually confounded with tying, each with its own switch.

    `word_dropout` is the probability of dropping a word in training: the zero vector then stands for it at all its
    places in a row's window (Gal & Ghahramani 2016, section 4.2).
    """

    width: Positive | None = None
    init: Init = Init(uniform=0.1)
    output_init: Init | None = None
    input_scale: Literal["one", "sqrt_width"] | PositiveFloat = "one"
    output_scale: Literal["one", "inverse_sqrt_width"] | PositiveFloat = "one"
    output_bias: bool = False
    projection: Projection | None = None
    word_dropout: Probability | None = None


class Words(Block):
    """A closed vocabulary of the training split's words; what is not in it becomes `<unk>`."""

    type: Literal["words"]
    size: Positive | None = None
    min_count: Positive = 1


class BPE(Block):
    """Byte-level byte pair encoding, trained on the training split (Sennrich et al. 2016)."""

    type: Literal["bpe"]
    size: Annotated[int, Field(ge=257)] = 8192


class Bytes(Block):
    """The 256 byte values."""

    type: Literal["bytes"]


class SGD(Block):
    """Stochastic gradient descent; `clip_norm` bounds the global norm of the gradient."""

    type: Literal["sgd"]
    learning_rate: PositiveFloat
    momentum: Annotated[float, Field(ge=0, lt=1)] = 0.0
    weight_decay: NonNegative = 0.0
    clip_norm: PositiveFloat | None = None


class AdamW(Block):
    """Adam with decoupled weight decay (Loshchilov & Hutter 2019); tables and matrices decay, vectors do not."""

    type: Literal["adamw"]
    learning_rate: PositiveFloat
    betas: tuple[Probability, Probability] = (0.9, 0.999)
    epsilon: PositiveFloat = 1e-8
    weight_decay: NonNegative = 0.01
    clip_norm: PositiveFloat | None = None

    @field_validator("betas", mode="before")
    @classmethod
    def _from_list(cls, value: Any) -> Any:
        return tuple(value) if isinstance(value, list) else value


class Constant(Block):
    """The same learning rate throughout."""

    type: Literal["constant"]


class Step(Block):
    """Full for `hold_epochs` epochs, then times `factor` before every further one (Zaremba et al. 2014)."""

    type: Literal["step"]
    hold_epochs: Annotated[int, Field(ge=0)]
    factor: Annotated[float, Field(gt=0, le=1)]


class Plateau(Block):
    """Times `factor` after every evaluation that does not improve on the best validation perplexity."""

    type: Literal["plateau"]
    factor: Annotated[float, Field(gt=0, lt=1)] = 0.25


class Cosine(Block):
    """Linear warm-up over `warmup_steps`, then a half cosine down to `final` times the learning rate."""

    type: Literal["cosine"]
    warmup_steps: Annotated[int, Field(ge=0)] = 0
    final: Annotated[float, Field(ge=0, le=1)] = 0.0


class CrossEntropy(Block):
    """The negative log likelihood of the next token."""

    type: Literal["cross_entropy"]


class Augmented(Block):
    """Cross entropy plus the distance to a distribution over similar words (Inan et al. 2017, section 3).

    The weight of the added term is `gamma * temperature`.
    """

    type: Literal["augmented"]
    temperature: PositiveFloat = 20.0
    gamma: NonNegative = 0.5


class EarlyStopping(Block):
    """Stop after `patience` evaluations in a row that do not improve on the best validation perplexity."""

    patience: Positive


class Training(Block):
    """How the parameters are found. Exactly one budget: `epochs`, `steps` or `tokens`.

    `reduction: token_mean` averages the loss over all tokens of a batch; `window_sum` sums it over the window and
    averages over the batch, which is what a learning rate of 1.0 refers to in the older papers. `accumulate` cuts
    each batch into that many micro-batches, one after the other; the gradient is the same.
    """

    epochs: Positive | None = None
    steps: Positive | None = None
    tokens: Positive | None = None
    batch_size: Positive
    window: Positive
    optimizer: Annotated[SGD | AdamW, Field(discriminator="type")]
    schedule: Annotated[Constant | Step | Plateau | Cosine, Field(discriminator="type")] = Constant(type="constant")
    objective: Annotated[CrossEntropy | Augmented, Field(discriminator="type")] = CrossEntropy(type="cross_entropy")
    reduction: Literal["token_mean", "window_sum"] = "token_mean"
    accumulate: Positive = 1
    precision: Literal["fp32", "bf16"] = "fp32"
    compile: bool = False
    evaluate_every: Positive | None = None
    early_stopping: EarlyStopping | None = None

    @model_validator(mode="after")
    def _consistent(self) -> "Training":
        budgets = [name for name in ("epochs", "steps", "tokens") if getattr(self, name) is not None]
        if len(budgets) != 1:
            found = " and ".join(budgets) if budgets else "none"
            raise ValueError(f"give exactly one budget out of 'epochs', 'steps' and 'tokens'; found {found}")
        if self.batch_size % self.accumulate:
            raise ValueError(f"accumulate ({self.accumulate}) must divide batch_size ({self.batch_size})")
        if self.schedule.type == "cosine" and self.schedule.final > 1:
            raise ValueError("schedule.final is a fraction of the learning rate")
        return self


class Evaluation(Block):
    """How a split is scored. Every token is counted once, whatever is chosen here.

    A recurrent model carries its state through the whole split in `batch_size` contiguous rows (1 is exact: one
    unbroken text). A transformer sees windows of at most `context` tokens (default: the training window), moved by
    `stride` (default: the context), and scores only what no earlier window has scored. `train: true` also makes a
    full pass over the training split. What is scored is the best checkpoint by validation, with `checkpoint: last`
    the one at the end of the budget.
    """

    batch_size: Positive | None = None
    context: Positive | None = None
    stride: Positive | None = None
    train: bool = False
    checkpoint: Literal["last"] | None = None

    @model_validator(mode="after")
    def _stride_within_context(self) -> "Evaluation":
        if self.stride and self.context and self.stride > self.context:
            raise ValueError(f"stride ({self.stride}) must not exceed context ({self.context}): tokens would be lost")
        return self


NAME = re.compile(r"[a-z0-9][a-z0-9._+-]*")


class ArmSpec(Block):
    """One arm without its seed: everything that a run's result depends on."""

    corpus: dict[str, Any]
    vocabulary: Annotated[Words | BPE | Bytes, Field(discriminator="type")] = Words(type="words")
    architecture: dict[str, Any]
    lexicon: Lexicon = Lexicon()
    tie: dict[str, Any]
    training: Training
    evaluation: Evaluation = Evaluation()
