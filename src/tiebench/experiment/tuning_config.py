"""`tuning:`: which values are tried for each arm before it is trained, and what was chosen."""

import math
from collections.abc import Iterator
from itertools import product
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, model_validator

from tiebench.experiment.block import Block, Positive
from tiebench.experiment.limits import LARGEST_SEED

BUDGETS = ("epochs", "steps", "tokens")
Point = dict[str, Any]
"""Dotted path to value: one combination of a grid."""


def _check_path(path: str) -> str:
    key, dot, rest = path.partition(".")
    if key != "training" or not dot or not all(rest.split(".")):
        raise ValueError("write the path of a training value, such as training.optimizer.learning_rate")
    if rest in BUDGETS:
        raise ValueError(f"the budget is not tuned; give trials one of their own as tuning.{rest}")
    return path


Seed = Annotated[int, Field(ge=0, le=LARGEST_SEED)]
GridPath = Annotated[str, AfterValidator(_check_path)]


class TuningConfig(Block):
    """Values that each arm gets by trials of its own, on the validation split.

    Every combination of the values in `grid` (dotted paths below `training`) is tried for every arm at each of `seeds`,
    which serve nothing else, with a budget of the trials' own if one is given. An arm is then trained with the
    combination whose trials have the lowest validation perplexity, of equal ones the smallest values. `arms` names
    those that are tuned, where it is not all of them. A value in `training` at such a path is used only where tuning is
    left out (`--set tuning=null`), and need not be written.
    """

    grid: Annotated[dict[GridPath, Annotated[list[Any], Field(min_length=1)]], Field(min_length=1)] = Field(
        description="Values to try, by dotted path below training."
    )
    seeds: Annotated[list[Seed], Field(min_length=1)] = Field(description="Seeds of the trials, which no run may have.")
    epochs: Positive | None = Field(default=None, description="Budget of a trial: passes over the training text.")
    steps: Positive | None = Field(default=None, description="Budget of a trial: updates.")
    tokens: Positive | None = Field(default=None, description="Budget of a trial: tokens read.")
    arms: Literal["all"] | Annotated[list[str], Field(min_length=1)] = Field(
        default="all", description="Names of the arms that are tuned, or all."
    )

    @model_validator(mode="after")
    def _at_most_one_budget(self) -> "TuningConfig":
        if len(self.budget) > 1:
            raise ValueError(f"give at most one budget, found {' and '.join(self.budget)}")
        return self

    @property
    def budget(self) -> dict[str, int]:
        """The trials' own budget; empty where it is that of the runs."""
        return {name: getattr(self, name) for name in BUDGETS if getattr(self, name) is not None}

    @property
    def num_trials(self) -> int:
        """For each arm."""
        return math.prod(len(values) for values in self.grid.values()) * len(self.seeds)

    def list_points(self) -> Iterator[Point]:
        """Every combination, small values first, so that the first of equal ones is the smallest."""
        columns = [sort_values(values) for values in self.grid.values()]
        for point in product(*columns):
            yield dict(zip(self.grid, point, strict=True))


class TunedValues(Block):
    """The values that trials chose for an arm, by dotted path, and the grid that they were chosen from.

    `valid_perplexity` is that of the chosen values' trials, the geometric mean over their seeds; `edges` are the paths
    whose chosen value is the lowest or the highest that was tried, so that a better one may lie beyond.
    """

    chosen: Point
    grid: dict[str, list[Any]]
    seeds: list[int]
    budget: dict[str, int]
    num_trials: int
    valid_perplexity: float
    edges: list[str] = []


def is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def sort_values(values: list[Any]) -> list[Any]:
    """Numbers from small to large; anything else as it was written."""
    return sorted(values) if all(map(is_number, values)) else list(values)
