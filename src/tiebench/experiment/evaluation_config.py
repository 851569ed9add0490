"""How a split is scored, and which checkpoint is scored."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from tiebench.experiment.block import Block, Length


class EvaluationConfig(Block):
    """How a split is scored. Every token is counted once, whatever is chosen here.

    A recurrent model carries its state through the whole split in `batch_size` contiguous rows (1 is exact: one
    unbroken text). A transformer sees windows of at most `context` tokens (default: the training window), moved by
    `stride` (default: the context), and scores only what no earlier window has scored. `train: true` also makes a full
    pass over the training split. `valid_batch_size` gives the validation split a number of rows of its own. The best
    checkpoint by validation is scored, or with `checkpoint: last` the one at the end of the budget; `checkpoint: both`
    declares both, so that the test split is scored twice: comparisons are then of the best, and say beside it what the
    last gives. Scores are float32 whatever the precision of training, so that a perplexity measures the weights alone;
    `precision: bf16` is another protocol, and the record says so. Translations are found by beam search with `beam`
    hypotheses; the log probability of each is divided by its number of tokens to the power of `length_penalty`.
    """

    batch_size: Length | None = Field(
        default=None, description="Rows that a recurrent model reads a split in; 1 is one unbroken text."
    )
    valid_batch_size: Length | None = Field(default=None, description="The same for the validation split alone.")
    context: Length | None = Field(
        default=None, description="Longest window of a transformer, in tokens; the training window unless given."
    )
    stride: Length | None = Field(
        default=None, description="Tokens from one window to the next; the context unless given."
    )
    train: bool = Field(default=False, description="Score the training split too, at the end.")
    checkpoint: Literal["best", "last", "both"] = Field(
        default="best", description="Which weights are scored: the best by validation, the last, or both of them."
    )
    precision: Literal["bf16"] | None = Field(
        default=None, description="bf16: matrix products in bfloat16; float32 unless given."
    )

    beam: Annotated[int, Field(gt=0, le=1000)] | None = Field(
        default=None, description="Hypotheses at a time, in translation; 5 unless given."
    )
    length_penalty: Annotated[float, Field(ge=-10, le=10)] | None = Field(
        default=None, description="Power of the length that a translation's score is divided by; 1 unless given."
    )

    @model_validator(mode="after")
    def _stride_within_context(self) -> "EvaluationConfig":
        if self.stride and self.context and self.stride > self.context:
            raise ValueError(f"stride ({self.stride}) must not exceed context ({self.context}): tokens would be lost")
        return self
