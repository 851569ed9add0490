"""The `tuning:` block: what is tried for each arm, and every problem with the block."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from tiebench.errors import did_you_mean
from tiebench.experiment.merging import is_set, merge
from tiebench.experiment.problems import Problem, explain_problems
from tiebench.experiment.schema import ArmSpec
from tiebench.experiment.tuning_config import Point, TuningConfig, is_number

MOST_TRIALS = 1_000
Arm = dict[str, Any]  # a block as it was written
Decode = Callable[[Arm], tuple[ArmSpec | None, list[Problem]]]


@dataclass(frozen=True)
class Candidate:
    """One point of an arm's grid: its values, the arm with them, and the arm as a trial trains it."""

    values: Point
    spec: ArmSpec
    trial: ArmSpec


@dataclass(frozen=True)
class Tuning:
    """What is tried for each arm that is tuned, small values first."""

    config: TuningConfig
    candidates: dict[str, tuple[Candidate, ...]]


def decode_tuning(
    data: Mapping[str, Any], *, changes: Mapping[str, Arm], overridden: Mapping[tuple, str]
) -> tuple[TuningConfig | None, list[Problem]]:
    """The `tuning:` of an experiment file, None where there is none or it is wrong, and what is wrong with it.

    `changes` are the blocks of the arms; `overridden` are the paths that the command line has set.
    """
    block = data.get("tuning")
    if block is None:
        return None, []
    try:
        config = TuningConfig.model_validate(block)
    except ValidationError as error:
        found = explain_problems(error, model=TuningConfig, data=block)
        return None, [problem.below(("tuning",)) for problem in found]
    problems = [
        *_check_grid(config),
        *_check_trial_seeds(config, data.get("seeds")),
        *_check_tuned_arms(config, changes),
    ]
    for path in (tuple(path.split(".")) for path in config.grid):
        problems += _check_unset(path, changes=changes, overridden=overridden)
    return (None if problems else config), problems


def build_tuning(config: TuningConfig, *, arms: Mapping[str, Arm], decode: Decode) -> tuple[Tuning, list[Problem]]:
    """Every candidate of the arms that are tuned, and the values that cannot be used."""
    candidates: dict[str, tuple[Candidate, ...]] = {}
    problems: list[Problem] = []
    for arm in list_tuned(config, arms):
        found = []
        for values in config.list_points():
            block = lay_values(arms[arm], values)
            spec, wrong = decode(block)
            trial, wrong_budget = decode(merge(block, {"training": config.budget}))
            problems += _explain_values([*wrong, *wrong_budget], values=values, arm=arm)
            if spec is not None and trial is not None:
                found.append(Candidate(values, spec, trial))
        candidates[arm] = tuple(found)
    return Tuning(config, candidates), problems


def list_tuned(config: TuningConfig | None, arms: Mapping[str, Arm]) -> list[str]:
    """The names of the arms that are tuned."""
    if config is None:
        return []
    return list(arms) if config.arms == "all" else [arm for arm in arms if arm in config.arms]


def lay_values(block: Arm, values: Point) -> Arm:
    """An arm's block with values at dotted paths."""
    for path, value in values.items():
        change: Any = value
        for key in reversed(path.split(".")):
            change = {key: change}
        block = merge(block, change)
    return block


def fill_values(config: TuningConfig, block: Arm) -> Arm:
    """An arm's block with the smallest tried values where it has none, because a tuned value need not be written."""
    return merge(lay_values({}, next(config.list_points())), block)


def shorten_paths(paths: list[str]) -> dict[str, str]:
    """Each path, and the shortest end that tells it from the others: `learning_rate`, or `input.learning_rate`."""
    parts = {path: path.split(".") for path in paths}
    length = 1
    while len({tuple(names[-length:]) for names in parts.values()}) < len(paths):
        length += 1
    return {path: ".".join(names[-length:]) for path, names in parts.items()}


def write_plainly(value: Any) -> str:
    """A value as a part of a folder's name: `0.5`, `1`, `0.9_0.95`."""
    if is_number(value):
        return repr(float(value)).removesuffix(".0")
    return re.sub(r"[^a-z0-9.]+", "_", str(value).lower()).strip("_") or "none"


def _check_grid(config: TuningConfig) -> list[Problem]:
    problems = [
        Problem(("tuning", "grid", path), values, "each value once")
        for path, values in config.grid.items()
        if len(set(map(write_plainly, values))) < len(values)
    ]
    if config.num_trials > MOST_TRIALS:
        problems.append(
            Problem(("tuning", "grid"), None, f"{config.num_trials:,} trials for each arm; at most {MOST_TRIALS:,}")
        )
    return problems


def _check_trial_seeds(config: TuningConfig, seeds: Any) -> list[Problem]:
    problems = []
    if len(set(config.seeds)) < len(config.seeds):
        problems.append(Problem(("tuning", "seeds"), config.seeds, "each seed once"))
    used = seeds if isinstance(seeds, list) and seeds else [1]
    if shared := [seed for seed in config.seeds if seed in used]:
        allowed = f"seeds that serve nothing else; the experiment trains at {', '.join(map(str, shared))} too"
        problems.append(Problem(("tuning", "seeds"), config.seeds, allowed))
    return problems


def _check_tuned_arms(config: TuningConfig, changes: Mapping[str, Arm]) -> list[Problem]:
    names = [] if config.arms == "all" else config.arms
    return [
        Problem(("tuning", "arms"), name, did_you_mean(name, ["all", *changes]))
        for name in names
        if name not in changes
    ]


def _check_unset(
    path: tuple[str, ...], *, changes: Mapping[str, Arm], overridden: Mapping[tuple, str]
) -> list[Problem]:
    """Problems where an arm or the command line sets the value too: tuning would replace it silently."""
    dotted = ".".join(path)
    problems = [
        Problem(("arms", arm, *path), None, f"tuning.grid chooses it for every arm; remove {dotted} here or there")
        for arm, block in changes.items()
        if is_set(block, path)
    ]
    if any(path[: len(known)] == known or known[: len(path)] == path for known in overridden):
        allowed = "tuning.grid chooses it; change the grid, or leave tuning out: --set tuning=null"
        problems.append(Problem(path, None, allowed))
    return problems


def _explain_values(problems: list[Problem], *, values: Point, arm: str) -> list[Problem]:
    """The problems of an arm, reported at the values of the grid that cause them."""
    found = []
    for problem in problems:
        dotted = ".".join(map(str, problem.path))
        path = next((path for path in values if dotted == path or dotted.startswith(f"{path}.")), None)
        if path is not None:
            found.append(Problem(("tuning", "grid", path), problem.found, problem.allowed))
        else:
            tried = ", ".join(f"{path} {value}" for path, value in values.items())
            found.append(Problem(("tuning", "grid"), None, f"{dotted} of {arm} at {tried}: {problem.allowed}"))
    return found
