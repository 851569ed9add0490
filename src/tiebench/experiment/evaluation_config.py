"""How a split is scored, and which checkpoint."""

from typing import Literal

from pydantic import model_validator

from tiebench.experiment.block import Block, Length


class EvaluationConfig(Block):
    """How a split is scored. Every token is counted once, whatever is chosen here.

    A recurrent model carries its state through the whole split in `batch_size` contiguous rows (1 is exact: one
    unbroken text). A transformer sees windows of at most `context` tokens (default: the training window), moved by
    `stride` (default: the context), and scores only what no earlier window has scored. `train: true` also makes a
    full pass over the training split. `valid_batch_size` is the number of rows of the validation split where it is to
    be another one. What is scored is the best checkpoint by validation, with `checkpoint: last` the one at the end of
    the budget. Scores are float32 whatever the precision of training, so that a perplexity measures the weights alone;
    `precision: bf16` is another protocol, and the record says so.
    """

    batch_size: Length | None = None
    valid_batch_size: Length | None = None
    context: Length | None = None
    stride: Length | None = None
    train: bool = False
    checkpoint: Literal["best", "last"] = "best"
    precision: Literal["bf16"] | None = None

    @model_validator(mode="after")
    def _stride_within_context(self) -> "EvaluationConfig":
        if self.stride and self.context and self.stride > self.context:
            raise ValueError(f"stride ({self.stride}) must not exceed context ({self.context}): tokens would be lost")
        return self
