"""`match:` in an arm: make it as large as another arm, in parameters, operations or bytes."""

from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import Field, model_validator

from tiebench.experiment.block import Block
from tiebench.experiment.schema import ArmSpec

Quantity = Literal["parameters", "flops", "bytes"]
QUANTITIES: tuple[Quantity, ...] = ("parameters", "flops", "bytes")
ArmName = Annotated[str, Field(min_length=1)]


class MatchConfig(Block):
    """`match: {parameters: untied}` in an arm gives it the width at which its total is nearest to that of `untied`.

    Exactly one amount: `parameters`, `flops` (a token of training) or `bytes` (parameters as they are stored).
    `by: layers` looks for a number of layers instead. The arm's own width (or number of layers) is replaced.
    """

    parameters: ArmName | None = Field(default=None, description="Arm whose number of parameters is matched.")
    flops: ArmName | None = Field(default=None, description="Arm whose operations per token are matched.")
    bytes: ArmName | None = Field(default=None, description="Arm whose stored bytes are matched.")
    by: Literal["width", "layers"] = Field(
        default="width", description="What is changed until it matches: the width or the number of layers."
    )

    @model_validator(mode="after")
    def _one_amount(self) -> "MatchConfig":
        if sum(getattr(self, amount) is not None for amount in QUANTITIES) != 1:
            raise ValueError(f"give exactly one of {', '.join(QUANTITIES)}, each with the name of another arm")
        return self

    @property
    def amount(self) -> Quantity:
        return next(amount for amount in QUANTITIES if getattr(self, amount) is not None)

    @property
    def arm(self) -> str:
        """The arm to be as large as."""
        return getattr(self, self.amount)


@dataclass(frozen=True)
class Match:
    """A match that is still to be found: the amount, what may change, and the other arm, resolved."""

    config: MatchConfig
    reference: ArmSpec
