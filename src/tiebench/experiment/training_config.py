"""How the parameters are found: optimizer, schedule, objective, and the budget."""

from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from tiebench.experiment.block import Block, Length, NonNegative, Positive, PositiveFloat, Probability


class SGDConfig(Block):
    """Stochastic gradient descent; `clip_norm` bounds the global norm of the gradient."""

    type: Literal["sgd"]
    learning_rate: PositiveFloat
    momentum: Annotated[float, Field(ge=0, lt=1)] = 0.0
    weight_decay: NonNegative = 0.0
    clip_norm: PositiveFloat | None = None


class AdamWConfig(Block):
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


class ConstantConfig(Block):
    """The same learning rate throughout."""

    type: Literal["constant"]


class StepConfig(Block):
    """Full for `hold_epochs` epochs, then times `factor` before every further one (Zaremba et al. 2014)."""

    type: Literal["step"]
    hold_epochs: Annotated[int, Field(ge=0, le=10**12)]
    factor: Annotated[float, Field(gt=0, le=1)]


class PlateauConfig(Block):
    """Times `factor` after every evaluation that does not improve on the best validation perplexity."""

    type: Literal["plateau"]
    factor: Annotated[float, Field(gt=0, lt=1)] = 0.25


class CosineConfig(Block):
    """Linear warm-up over `warmup_steps`, then a half cosine down to `final` times the learning rate."""

    type: Literal["cosine"]
    warmup_steps: Annotated[int, Field(ge=0, le=10**12)] = 0
    final: Annotated[float, Field(ge=0, le=1)] = 0.0


class CrossEntropyConfig(Block):
    """The negative log likelihood of the next token."""

    type: Literal["cross_entropy"]


class AugmentedConfig(Block):
    """Cross entropy plus the distance to a distribution over similar words (Inan et al. 2017, section 3).

    The weight of the added term is `gamma * temperature`.
    """

    type: Literal["augmented"]
    temperature: PositiveFloat = 20.0
    gamma: NonNegative = 0.5


class EarlyStoppingConfig(Block):
    """Stop after `patience` evaluations in a row that do not improve on the best validation perplexity."""

    patience: Positive


class TrainingConfig(Block):
    """How the parameters are found. Exactly one budget: `epochs`, `steps` or `tokens`.

    `reduction: token_mean` averages the loss over all tokens of a batch; `window_sum` sums it over the window and
    averages over the batch, which is what a learning rate of 1.0 refers to in the older papers. `accumulate` cuts
    each batch into that many micro-batches, one after the other; the gradient is the same. `precision: bf16` makes the
    matrix products in bfloat16, with sums and parameters in float32; `auto` does so where the processor has units for
    it, and the record says which it was.
    """

    epochs: Positive | None = None
    steps: Positive | None = None
    tokens: Positive | None = None
    batch_size: Length
    window: Length
    optimizer: Annotated[SGDConfig | AdamWConfig, Field(discriminator="type")]
    schedule: Annotated[ConstantConfig | StepConfig | PlateauConfig | CosineConfig, Field(discriminator="type")] = (
        ConstantConfig(type="constant")
    )
    objective: Annotated[CrossEntropyConfig | AugmentedConfig, Field(discriminator="type")] = CrossEntropyConfig(
        type="cross_entropy"
    )
    reduction: Literal["token_mean", "window_sum"] = "token_mean"
    accumulate: Length = 1
    precision: Literal["fp32", "bf16", "auto"] = "fp32"
    compile: bool = False
    evaluate_every: Positive | None = None
    early_stopping: EarlyStoppingConfig | None = None

    @model_validator(mode="after")
    def _one_budget(self) -> "TrainingConfig":
        budgets = [name for name in ("epochs", "steps", "tokens") if getattr(self, name) is not None]
        if len(budgets) != 1:
            found = " and ".join(budgets) if budgets else "none"
            raise ValueError(f"give exactly one budget out of 'epochs', 'steps' and 'tokens'; found {found}")
        return self

    @model_validator(mode="after")
    def _micro_batches_fit(self) -> "TrainingConfig":
        if self.batch_size % self.accumulate:
            raise ValueError(f"accumulate ({self.accumulate}) must divide batch_size ({self.batch_size})")
        return self
