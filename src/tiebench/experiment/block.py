"""The base class of every block of an experiment file, and the types of its numbers.

Every number has an upper bound. It lies far above what anyone has trained, and is low enough for a machine to refuse
the value before it runs out of memory.
"""

from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from tiebench.experiment.limits import LARGEST_FLOAT


class Block(BaseModel):
    """A part of the YAML: frozen, no unknown keys, no silent conversions, no infinite numbers."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


Positive = Annotated[int, Field(gt=0, le=10**12)]
Layers = Annotated[int, Field(gt=0, le=1_000)]
Width = Annotated[int, Field(gt=0, le=1_000_000)]
Length = Annotated[int, Field(gt=0, le=10_000_000)]
PositiveFloat = Annotated[float, Field(gt=0, le=LARGEST_FLOAT)]
NonNegative = Annotated[float, Field(ge=0, le=LARGEST_FLOAT)]
Probability = Annotated[float, Field(ge=0, le=0.999_999)]  # at 1 - 1e-16 nothing is left to be scaled up


def _make_tuple(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


FromList = BeforeValidator(_make_tuple)  # YAML has lists only


class InitConfig(Block):
    """How a matrix is filled: `{uniform: a}` is U(-a, a), `{normal: s}` is N(0, s^2)."""

    uniform: PositiveFloat | None = Field(default=None, description="Bound a of U(-a, a).")
    normal: PositiveFloat | None = Field(default=None, description="Standard deviation s of N(0, s^2).")

    @model_validator(mode="after")
    def _exactly_one(self) -> "InitConfig":
        if (self.uniform is None) == (self.normal is None):
            raise ValueError("give exactly one of 'uniform' and 'normal'")
        return self
