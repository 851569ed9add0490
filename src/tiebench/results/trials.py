"""What trials found: the perplexities of the whole grid, arm by arm, and what was chosen, kept beside the runs."""

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from statistics import geometric_mean
from typing import Annotated, Any

from pydantic import Field, ValidationError

from tiebench.errors import TiebenchError
from tiebench.experiment.block import Block
from tiebench.experiment.candidates import shorten_paths, write_plainly
from tiebench.experiment.tuning_config import Point, TunedValues, TuningConfig, is_number, sort_values
from tiebench.files import write_text
from tiebench.results.record import NUMERICS, Record

TUNING_FILE = "tuning.json"


class TrialResult(Block):
    """One trial: the values that it tried, and the perplexity on the validation split; None where it diverged.

    `signature` and `corpus` (the checksum of its text) identify the run, `numerics` is the version of the mathematics.
    """

    values: Point
    seed: int
    signature: str
    corpus: str
    numerics: int
    valid_perplexity: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None


class ArmTuning(Block):
    """What was chosen for an arm, and every trial that it was chosen from."""

    tuned: TunedValues
    trials: list[TrialResult]


class TuningResult(Block):
    """`tuning.json`: the trials of an experiment by arm."""

    experiment: str
    arms: dict[str, ArmTuning]


def read_trial(record: Record, values: Point) -> TrialResult:
    """What the record of a trial says."""
    valid = record.evaluations.get("valid")
    return TrialResult(
        values=values,
        seed=record.seed,
        signature=record.signature,
        corpus=record.corpus.checksum,
        numerics=record.numerics,
        valid_perplexity=valid.perplexity if valid else None,
    )


def average_trials(trials: Iterable[TrialResult]) -> list[tuple[Point, float | None]]:
    """Each combination of values, in order, with the geometric mean over its seeds; None where one of them diverged."""
    seeds: dict[str, list[TrialResult]] = {}
    for trial in trials:
        seeds.setdefault(json.dumps(trial.values), []).append(trial)
    found = []
    for group in seeds.values():
        finite = [trial.valid_perplexity for trial in group if trial.valid_perplexity is not None]
        mean = None if len(finite) < len(group) else finite[0] if len(finite) == 1 else geometric_mean(finite)
        found.append((group[0].values, mean))
    return found


def choose_values(config: TuningConfig, trials: Sequence[TrialResult]) -> TunedValues | None:
    """The values with the lowest validation perplexity, of equal ones the first; None where all diverged at some seed.

    `trials` are in the order of the grid, small values first.
    """
    finite = [(values, mean) for values, mean in average_trials(trials) if mean is not None]
    if not finite:
        return None
    chosen, lowest = min(finite, key=lambda pair: pair[1])
    return TunedValues(
        chosen=chosen,
        grid={path: sort_values(tried) for path, tried in config.grid.items()},
        seeds=config.seeds,
        budget=config.budget,
        num_trials=len(trials),
        valid_perplexity=lowest,
        edges=_find_edges(chosen, config.grid),
    )


def describe_choice(arm: str, tuned: TunedValues) -> str:
    """`tied: learning_rate 2 of 0.5, 1, 2: valid perplexity 120.3; at the edge of its grid: widen it`."""
    names = shorten_paths(list(tuned.grid))
    told = [f"{names[path]} {_write(tuned.chosen[path])} of {_write_list(tried)}" for path, tried in tuned.grid.items()]
    text = f"{arm}: {', '.join(told)}: valid perplexity {tuned.valid_perplexity:,.1f}"
    if not tuned.edges:
        return text
    whose = (
        "its grid" if len(tuned.grid) == 1 else f"the grid of {' and of '.join(names[path] for path in tuned.edges)}"
    )
    return f"{text}; at the edge of {whose}: widen it"


def describe_trials(tuned: TunedValues) -> str:
    """`4 trials for each arm on the validation split, at seed 101 for 2 epochs; the test split was not looked at`."""
    many = len(tuned.seeds) > 1
    budget = "".join(f" for {number:,} {name[: -1 if number == 1 else None]}" for name, number in tuned.budget.items())
    where = f"at seed{'s' if many else ''} {', '.join(map(str, tuned.seeds))}{budget}"
    return f"{tuned.num_trials} trials for each arm on the validation split, {where}; the test split was not looked at"


def write_tuning(result: TuningResult, folder: Path) -> Path:
    """Write `tuning.json` in the folder of the experiment, renamed into place. Returns the file."""
    file = folder / TUNING_FILE
    write_text(json.dumps(result.model_dump(mode="json"), indent=1, allow_nan=False) + "\n", file=file)
    return file


def read_tuning(folder: Path) -> TuningResult | None:
    """What trials found before; None where there were none. Raises TiebenchError when the file is damaged."""
    file = folder / TUNING_FILE
    if not file.exists():
        return None
    try:
        return TuningResult.model_validate_json(file.read_text("utf-8"))
    except (OSError, ValueError, ValidationError) as error:
        reason = str(error).splitlines()[0]
        hint = "remove it: it is written anew from the trials beside it"
        raise TiebenchError(f"{file} is damaged: {reason}", hint) from error


def has_our_numerics(trial: TrialResult) -> bool:
    """Whether a trial is by the mathematics of this version."""
    return trial.numerics == NUMERICS


def _find_edges(values: Point, grid: dict[str, list[Any]]) -> list[str]:
    """The paths at which these values are the lowest or the highest of several numbers."""
    return [
        path
        for path, tried in grid.items()
        if len(tried) > 1 and all(map(is_number, tried)) and values[path] in (min(tried), max(tried))
    ]


def _write(value: Any) -> str:
    """As it would be typed."""
    return write_plainly(value) if is_number(value) else json.dumps(value)


def _write_list(values: Sequence[Any]) -> str:
    return ", ".join(map(_write, values))
