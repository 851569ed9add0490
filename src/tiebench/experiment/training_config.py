"""How the parameters are found: optimizer, schedule, objective, and the budget."""

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, model_validator

from tiebench.experiment.block import Block, Length, NonNegative, Positive, PositiveFloat, Probability


def _from_list(value: Any) -> Any:
    """YAML has lists only."""
    return tuple(value) if isinstance(value, list) else value


Betas = Annotated[tuple[Probability, Probability], BeforeValidator(_from_list)]


class RoleConfig(Block):
    """What one role's parameters have for themselves; a schedule scales every learning rate alike."""

    learning_rate: PositiveFloat | None = None
    weight_decay: NonNegative | None = None


class AdamWRoleConfig(RoleConfig):
    """As `RoleConfig`, and betas."""

    betas: Betas | None = None


class RolesConfig(Block):
    """Parameters by what they do; what a role does not say is as in the optimizer's own block.

    `input` and `output` are the embeddings of an untied model, `shared` is the one of a tied model; `bias` is every
    vector (biases, norms); `body` is all else (the architecture's matrices and the projections).
    """

    input: RoleConfig | None = None
    output: RoleConfig | None = None
    shared: RoleConfig | None = None
    body: RoleConfig | None = None
    bias: RoleConfig | None = None


class AdamWRolesConfig(Block):
    """As `RolesConfig`, with betas by role."""

    input: AdamWRoleConfig | None = None
    output: AdamWRoleConfig | None = None
    shared: AdamWRoleConfig | None = None
    body: AdamWRoleConfig | None = None
    bias: AdamWRoleConfig | None = None


class ClippedConfig(Block):
    """`clip_norm` bounds the global norm of the gradient.

    With `clip_lookups: unsummed`, the norm is measured before the gradients of the looked-up vectors are summed: each
    place of a batch counts by itself, and a shared matrix has the output end's gradient counted apart (what
    TensorFlow's global_norm did to the programs of 2015 to 2017). The update is the same but for the factor.
    """

    clip_norm: PositiveFloat | None = None
    clip_lookups: Literal["unsummed"] | None = None

    @model_validator(mode="after")
    def _something_is_clipped(self) -> "ClippedConfig":
        if self.clip_lookups is not None and self.clip_norm is None:
            raise ValueError("clip_lookups says how clip_norm is measured; give clip_norm too")
        return self


class SGDConfig(ClippedConfig):
    """Stochastic gradient descent."""

    type: Literal["sgd"]
    learning_rate: PositiveFloat
    momentum: Annotated[float, Field(ge=0, lt=1)] = 0.0
    weight_decay: NonNegative = 0.0
    roles: RolesConfig | None = None


class AdamWConfig(ClippedConfig):
    """Adam with decoupled weight decay (Loshchilov & Hutter 2019); tables and matrices decay, vectors do not.

    Vectors decay where `roles.bias.weight_decay` says so.
    """

    type: Literal["adamw"]
    learning_rate: PositiveFloat
    betas: Betas = (0.9, 0.999)
    epsilon: PositiveFloat = 1e-8
    weight_decay: NonNegative = 0.01
    roles: AdamWRolesConfig | None = None


class RestConfig(Block):
    """AdamW for what Muon does not move: embeddings, positions, vectors."""

    learning_rate: PositiveFloat
    betas: Betas = (0.9, 0.999)
    epsilon: PositiveFloat = 1e-8
    weight_decay: NonNegative = 0.01
    roles: AdamWRolesConfig | None = None


class MuonConfig(ClippedConfig):
    """Muon for the body's matrices (Jordan et al. 2024), AdamW for `rest`: embeddings, positions, vectors.

    Muon's update is the momentum with all its singular values brought near one, whole stored matrices at a time (an
    LSTM's four gates, a transformer's queries, keys and values, are one matrix each). `adjust: match_rms_adamw` scales
    it to the size of AdamW's, so that AdamW's learning rates carry over; `original` by the square root of rows over
    columns, at least one. A schedule scales both learning rates alike.
    """

    type: Literal["muon"]
    learning_rate: PositiveFloat
    momentum: Annotated[float, Field(ge=0, lt=1)] = 0.95
    nesterov: bool = True
    iterations: Annotated[int, Field(gt=0, lt=100)] = 5
    weight_decay: NonNegative = 0.1
    adjust: Literal["original", "match_rms_adamw"] = "match_rms_adamw"
    rest: RestConfig

    @model_validator(mode="after")
    def _body_is_its_own(self) -> "MuonConfig":
        if self.rest.roles is not None and self.rest.roles.body is not None:
            raise ValueError("rest.roles.body: the body's matrices have Muon's own learning_rate and weight_decay")
        return self


OptimizerConfig = Annotated[SGDConfig | AdamWConfig | MuonConfig, Field(discriminator="type")]


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
    each batch into that many micro-batches, one after the other; the gradient is the same. `random_offset` lets each
    seed begin the training text of a recurrent model at a place of its own; a file that does not say has it on, and the
    papers had it off. `drop_partial_window` leaves out a recurrent model's last window where it is shorter.
    `precision: bf16` makes the matrix products in bfloat16, with sums and parameters in float32; `auto` does so where
    the processor has units for it, and the record says which it was.
    """

    epochs: Positive | None = None
    steps: Positive | None = None
    tokens: Positive | None = None
    batch_size: Length
    window: Length
    optimizer: OptimizerConfig
    schedule: Annotated[ConstantConfig | StepConfig | PlateauConfig | CosineConfig, Field(discriminator="type")] = (
        ConstantConfig(type="constant")
    )
    objective: Annotated[CrossEntropyConfig | AugmentedConfig, Field(discriminator="type")] = CrossEntropyConfig(
        type="cross_entropy"
    )
    reduction: Literal["token_mean", "window_sum"] = "token_mean"
    accumulate: Length = 1
    random_offset: bool | None = None
    drop_partial_window: bool = False
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

    @model_validator(mode="after")
    def _gradients_can_be_seen(self) -> "TrainingConfig":
        if self.compile and self.optimizer.clip_lookups:
            raise ValueError("optimizer.clip_lookups looks at gradients inside the model; write compile: false")
        return self
