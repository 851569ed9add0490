"""What every block of an experiment file is: frozen, strict, and without unknown keys; and the numbers that stand in it."""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, model_validator


class Block(BaseModel):
    """A part of the YAML: frozen, no unknown keys, no silent conversions, no infinite numbers."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


Positive = Annotated[int, Field(gt=0)]
PositiveFloat = Annotated[float, Field(gt=0)]
NonNegative = Annotated[float, Field(ge=0)]
Probability = Annotated[float, Field(ge=0, lt=1)]


class InitConfig(Block):
    """How a matrix is filled: `{uniform: a}` is U(-a, a), `{normal: s}` is N(0, s^2)."""

    uniform: PositiveFloat | None = None
    normal: PositiveFloat | None = None

    @model_validator(mode="after")
    def _exactly_one(self) -> "InitConfig":
        if (self.uniform is None) == (self.normal is None):
            raise ValueError("give exactly one of 'uniform' and 'normal'")
        return self
