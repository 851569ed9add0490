"""How the parameters are found: optimizer, schedule, objective, and the budget."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from tiebench.experiment.block import Block, FromList, Length, NonNegative, Positive, PositiveFloat, Probability

Betas = Annotated[tuple[Probability, Probability], FromList]


class RoleConfig(Block):
    """Options of their own for the parameters of one role; a schedule scales every learning rate alike."""

    learning_rate: PositiveFloat | None = Field(
        default=None, description="Learning rate of this role, before the schedule."
    )
    weight_decay: NonNegative | None = Field(default=None, description="Weight decay of this role.")


class AdamWRoleConfig(RoleConfig):
    """As `RoleConfig`, and betas."""

    betas: Betas | None = Field(
        default=None, description="Decay rates of the two running means of this role, per step."
    )


class RolesConfig(Block):
    """Options by the role of a parameter; a role without a key has the value of the optimizer's own block.

    `input` and `output` are the embeddings of an untied model, `shared` is the one of a tied model; `bias` is every
    vector (biases, norms); `body` is all else (the architecture's matrices and the projections).
    """

    input: RoleConfig | None = Field(default=None, description="The input embedding of an untied model.")
    output: RoleConfig | None = Field(default=None, description="The output embedding of an untied model.")
    shared: RoleConfig | None = Field(default=None, description="The one embedding of a tied model.")
    body: RoleConfig | None = Field(default=None, description="The architecture's matrices, and projections.")
    bias: RoleConfig | None = Field(default=None, description="Every vector: biases and norms.")


class AdamWRolesConfig(Block):
    """As `RolesConfig`, with betas by role."""

    input: AdamWRoleConfig | None = Field(default=None, description="The input embedding of an untied model.")
    output: AdamWRoleConfig | None = Field(default=None, description="The output embedding of an untied model.")
    shared: AdamWRoleConfig | None = Field(default=None, description="The one embedding of a tied model.")
    body: AdamWRoleConfig | None = Field(default=None, description="The architecture's matrices, and projections.")
    bias: AdamWRoleConfig | None = Field(default=None, description="Every vector: biases and norms.")


class ClippedConfig(Block):
    """`clip_norm` bounds the global norm of the gradient.

    With `clip_lookups: unsummed`, the norm is measured before the gradients of the looked-up vectors are summed: each
    place of a batch counts by itself, and a shared matrix has the output end's gradient counted apart (what
    TensorFlow's global_norm did to the programs of 2015 to 2017). The update is the same but for the factor.
    """

    clip_norm: PositiveFloat | None = Field(
        default=None, description="Largest norm of the whole gradient; not bounded unless given."
    )
    clip_lookups: Literal["unsummed"] | None = Field(
        default=None, description="unsummed: measure that norm before looked-up vectors are summed."
    )

    @model_validator(mode="after")
    def _something_is_clipped(self) -> "ClippedConfig":
        if self.clip_lookups is not None and self.clip_norm is None:
            raise ValueError("clip_lookups says how clip_norm is measured; give clip_norm too")
        return self


class SGDConfig(ClippedConfig):
    """Stochastic gradient descent."""

    type: Literal["sgd"] = Field(description="Names the optimizer.")
    learning_rate: PositiveFloat = Field(description="Step size, before the schedule.")
    momentum: Annotated[float, Field(ge=0, lt=1)] = Field(
        default=0.0, description="Share of the last update that is kept."
    )
    weight_decay: NonNegative = Field(default=0.0, description="Added to the gradient, times the weight.")
    roles: RolesConfig | None = Field(default=None, description="Other values for parameters by what they do.")


class AdamWConfig(ClippedConfig):
    """Adam with decoupled weight decay (Loshchilov & Hutter 2019); matrices decay, vectors do not.

    Vectors decay where `roles.bias.weight_decay` says so.
    """

    type: Literal["adamw"] = Field(description="Names the optimizer.")
    learning_rate: PositiveFloat = Field(description="Step size, before the schedule.")
    betas: Betas = Field(
        default=(0.9, 0.999), description="Decay rates of the running means of gradient and square, per step."
    )
    epsilon: PositiveFloat = Field(default=1e-8, description="Added to the divisor.")
    weight_decay: NonNegative = Field(
        default=0.01, description="Share of a weight lost per step, times the learning rate."
    )
    roles: AdamWRolesConfig | None = Field(default=None, description="Other values for parameters by what they do.")


class RestConfig(Block):
    """AdamW for what Muon does not move: embeddings, positions, vectors."""

    learning_rate: PositiveFloat = Field(description="Step size, before the schedule.")
    betas: Betas = Field(
        default=(0.9, 0.999), description="Decay rates of the running means of gradient and square, per step."
    )
    epsilon: PositiveFloat = Field(default=1e-8, description="Added to the divisor.")
    weight_decay: NonNegative = Field(
        default=0.01, description="Share of a weight lost per step, times the learning rate."
    )
    roles: AdamWRolesConfig | None = Field(default=None, description="Other values for parameters by what they do.")


class MuonConfig(ClippedConfig):
    """Muon for the body's matrices (Jordan et al. 2024), AdamW for `rest`: embeddings, positions, vectors.

    Muon's update is the momentum with all its singular values brought near one, whole stored matrices at a time (an
    LSTM's four gates, a transformer's queries, keys and values, are one matrix each). `adjust: match_rms_adamw` scales
    it to the size of AdamW's, so that AdamW's learning rates carry over; `original` by the square root of rows over
    columns, at least one. A schedule scales both learning rates alike.
    """

    type: Literal["muon"] = Field(description="Names the optimizer.")
    learning_rate: PositiveFloat = Field(description="Step size of the body's matrices, before the schedule.")
    momentum: Annotated[float, Field(ge=0, lt=1)] = Field(
        default=0.95, description="Share of the last update that is kept."
    )
    nesterov: bool = Field(default=True, description="Look ahead along the momentum.")
    iterations: Annotated[int, Field(gt=0, lt=100)] = Field(
        default=5, description="Steps that bring the singular values near one."
    )
    weight_decay: NonNegative = Field(
        default=0.1, description="Share of a weight lost per step, times the learning rate."
    )
    adjust: Literal["original", "match_rms_adamw"] = Field(
        default="match_rms_adamw", description="How large an update is: as AdamW's, or as first published."
    )
    rest: RestConfig = Field(description="AdamW for embeddings, positions and vectors.")

    @model_validator(mode="after")
    def _body_is_its_own(self) -> "MuonConfig":
        if self.rest.roles is not None and self.rest.roles.body is not None:
            raise ValueError("rest.roles.body: the body's matrices have Muon's own learning_rate and weight_decay")
        return self


OptimizerConfig = Annotated[SGDConfig | AdamWConfig | MuonConfig, Field(discriminator="type")]


class ConstantConfig(Block):
    """The same learning rate throughout."""

    type: Literal["constant"] = Field(description="Names the schedule.")


class StepConfig(Block):
    """Full for `hold_epochs` epochs, then times `factor` before every further one (Zaremba et al. 2014)."""

    type: Literal["step"] = Field(description="Names the schedule.")
    hold_epochs: Annotated[int, Field(ge=0, le=10**12)] = Field(description="Epochs at the full learning rate.")
    factor: Annotated[float, Field(gt=0, le=1)] = Field(
        description="By which it is multiplied before each later epoch."
    )


class PlateauConfig(Block):
    """Times `factor` after every evaluation that does not improve on the best validation perplexity."""

    type: Literal["plateau"] = Field(description="Names the schedule.")
    factor: Annotated[float, Field(gt=0, lt=1)] = Field(
        default=0.25, description="By which it is multiplied after an evaluation without a gain."
    )


class CosineConfig(Block):
    """Linear warm-up over `warmup_steps`, then a half cosine down to `final` times the learning rate."""

    type: Literal["cosine"] = Field(description="Names the schedule.")
    warmup_steps: Annotated[int, Field(ge=0, le=10**12)] = Field(
        default=0, description="Steps over which the learning rate rises from zero."
    )
    final: Annotated[float, Field(ge=0, le=1)] = Field(
        default=0.0, description="Share of the learning rate that is left at the end."
    )


class InverseSqrtConfig(Block):
    """Linear warm-up over `warmup_steps`, then down with the square root of the step (Vaswani et al. 2017, 5.3).

    The learning rate is the one at the top; theirs is 1 / sqrt(width * warmup_steps).
    """

    type: Literal["inverse_sqrt"] = Field(description="Names the schedule.")
    warmup_steps: Positive = Field(default=4000, description="Steps over which the learning rate rises from zero.")


class CrossEntropyConfig(Block):
    """The negative log likelihood of the next token.

    With `label_smoothing` e, each token's target is 1 - e at itself and e spread evenly over the whole vocabulary
    (Szegedy et al. 2016, section 7). It is for training: what is scored and reported are the nats of the token itself.
    """

    type: Literal["cross_entropy"] = Field(description="Names the objective.")
    label_smoothing: Annotated[float, Field(gt=0, lt=1)] | None = Field(
        default=None, description="Share of the target that is spread over the vocabulary; none unless given."
    )


class AugmentedConfig(Block):
    """Cross entropy plus the distance to a distribution over similar words (Inan et al. 2017, section 3).

    The weight of the added term is `gamma * temperature`.
    """

    type: Literal["augmented"] = Field(description="Names the objective.")
    temperature: PositiveFloat = Field(
        default=20.0, description="By which scores are divided before they are compared."
    )
    gamma: NonNegative = Field(default=0.5, description="Weight of the added term, times the temperature.")


ScheduleConfig = Annotated[
    ConstantConfig | StepConfig | PlateauConfig | CosineConfig | InverseSqrtConfig, Field(discriminator="type")
]


class EarlyStoppingConfig(Block):
    """Stop after `patience` evaluations in a row that do not improve on the best validation perplexity."""

    patience: Positive = Field(description="Evaluations in a row without a gain, after which training stops.")


class TrainingConfig(Block):
    """How the parameters are found. Exactly one budget: `epochs`, `steps` or `tokens`.

    `reduction: token_mean` averages the loss over all tokens of a batch; `window_sum` sums it over the window and
    averages over the batch, which is what a learning rate of 1.0 refers to in the older papers. `accumulate` cuts
    each batch into that many micro-batches, one after the other; the gradient is the same. `random_offset` lets each
    seed begin the training text of a recurrent model at a place of its own; it is on unless a file says otherwise, and
    the papers had it off. `drop_partial_window` leaves out a recurrent model's last window where it is shorter.
    `precision: bf16` makes the matrix products in bfloat16, with sums and parameters in float32; `auto` does so where
    the processor has units for it, and the record says which it was. `sharding` cuts the model over the ranks of
    torchrun (FSDP2; training/sharding.py says what is whole all the same); one process trains as without. In
    translation a batch is as many pairs of sentences of about one length as fit into `batch_size` rows of `window`
    tokens, padding included; `window` is also the longest sentence that there may be, and an epoch reads every pair
    once.
    """

    epochs: Positive | None = Field(default=None, description="Budget: passes over the training text.")
    steps: Positive | None = Field(default=None, description="Budget: updates.")
    tokens: Positive | None = Field(default=None, description="Budget: tokens read.")
    batch_size: Length = Field(description="Rows that are read side by side.")
    window: Length = Field(description="Tokens of a row in one update.")
    optimizer: OptimizerConfig = Field(description="How a gradient becomes an update.")
    schedule: ScheduleConfig = Field(ConstantConfig(type="constant"), description="How the learning rate changes.")
    objective: Annotated[CrossEntropyConfig | AugmentedConfig, Field(discriminator="type")] = Field(
        default=CrossEntropyConfig(type="cross_entropy"), description="What is made small."
    )
    reduction: Literal["token_mean", "window_sum"] = Field(
        default="token_mean", description="Whether the loss is a mean over tokens or a sum over the window."
    )
    accumulate: Length = Field(default=1, description="Micro-batches that a batch is cut into, to save memory.")
    random_offset: bool | None = Field(
        default=None, description="Begin the text at a place of the seed's own; recurrent models only."
    )
    drop_partial_window: bool = Field(default=False, description="Leave out a recurrent model's last, shorter window.")
    precision: Literal["fp32", "bf16", "auto"] = Field(
        default="fp32", description="Of the matrix products: fp32, bf16, or auto by the processor."
    )
    compile: bool = Field(default=False, description="Let torch compile the model.")
    sharding: bool = Field(
        default=False, description="Cut parameters, gradients and optimizer memory over the ranks of torchrun."
    )
    evaluate_every: Positive | None = Field(
        default=None, description="Steps between evaluations; an epoch unless given."
    )
    measure_gradients: bool = Field(
        default=False, description="Log how much of the embedding's gradient each of its ends asks for."
    )
    early_stopping: EarlyStoppingConfig | None = Field(
        default=None, description="Stop when validation does not improve any more."
    )

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
    def _parts_are_enough(self) -> "TrainingConfig":
        if not self.sharding:
            return self
        asked = {
            "optimizer: muon": self.optimizer.type == "muon",
            "optimizer.clip_lookups": self.optimizer.clip_lookups is not None,
            "measure_gradients": self.measure_gradients,
            "compile": self.compile,
        }
        for name in (name for name, is_asked in asked.items() if is_asked):
            raise ValueError(
                f"{name} needs whole parameters, and sharding gives each rank a part: leave one of them out"
            )
        return self

    @model_validator(mode="after")
    def _gradients_can_be_seen(self) -> "TrainingConfig":
        if self.compile and self.optimizer.clip_lookups:
            raise ValueError("optimizer.clip_lookups looks at gradients inside the model; write compile: false")
        if self.compile and self.measure_gradients:
            raise ValueError("measure_gradients looks at gradients inside the model; write compile: false")
        return self
