"""How far a run is: all of its state that is not a tensor. It is part of the checkpoint, and is checked when read."""

import math
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from tiebench.results.curve import CurvePoint
from tiebench.results.record import Amount, Count, Finite, Precision


class TrainState(BaseModel):
    """Counts, sums and times so far; `kept_*` are of the weights that will be scored, sums are in nats.

    Raises pydantic's ValidationError for values that no training could have left behind.
    """

    model_config = ConfigDict(extra="forbid", strict=True)

    step: Count = 0
    evaluated_step: Count = 0
    kept_step: Count = 0
    kept_digest: str | None = None
    best_perplexity: Annotated[float, Field(ge=0)] = math.inf
    kept_training_perplexity: Amount | None = None
    num_plateaus: Count = 0
    evaluations_without_gain: Count = 0
    tokens: Count = 0
    nll_since_evaluation: Amount = 0.0
    tokens_since_evaluation: Count = 0
    first_loss_nats: Amount | None = None
    num_gradients: Count = 0
    input_norm_sum: Amount = 0.0
    output_norm_sum: Amount = 0.0
    cosine_sum: Finite = 0.0
    train_seconds: Amount = 0.0
    evaluation_seconds: Amount = 0.0
    precision: Precision | None = None
    curve: list[CurvePoint] = []
