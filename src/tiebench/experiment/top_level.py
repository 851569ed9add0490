"""The keys at the top of an experiment file: those that name and order its runs, and the blocks that make up an arm."""

from typing import Any

from tiebench.errors import did_you_mean
from tiebench.experiment.limits import LARGEST_SEED
from tiebench.experiment.problems import Problem, shorten
from tiebench.experiment.schema import NAME, ArmSpec

TOP_KEYS = ("name", "description", "seeds", "tuning", "arms")
ARM_BLOCKS = tuple(ArmSpec.model_fields)
GRID = "grid"  # of many experiments in one file (experiment/grid.py)
LONGEST_NAME = 100
MOST_SEEDS = 10_000


def check_top(data: dict[str, Any]) -> list[Problem]:
    """The problems of the keys at the top, not of what is inside the blocks."""
    known = (*TOP_KEYS, *ARM_BLOCKS)
    problems = [
        Problem((key,), None, f"unknown key; {did_you_mean(shorten(key), known)}") for key in data if key not in known
    ]
    if not isinstance(data.get("description", ""), str | None):
        problems.append(Problem(("description",), data["description"], "expected text"))
    return [*problems, *_check_names(data), *_check_seeds(data), *_check_arms(data)]


def _check_names(data: dict[str, Any]) -> list[Problem]:
    arms = data.get("arms")
    names = [(("name",), data.get("name")), *((("arms", arm), arm) for arm in (arms if isinstance(arms, dict) else ()))]
    allowed = f"a name of small letters, digits and . _ + -, at most {LONGEST_NAME}, as it becomes a folder"
    return [Problem(path, name, allowed) for path, name in names if name is not None and not _is_name(name)]


def _is_name(name: Any) -> bool:
    return isinstance(name, str) and len(name) <= LONGEST_NAME and NAME.fullmatch(name) is not None


def _check_seeds(data: dict[str, Any]) -> list[Problem]:
    seeds = data.get("seeds", [1])
    if not (isinstance(seeds, list) and seeds and all(_is_seed(seed) for seed in seeds)):
        allowed = f"a list of whole numbers of 0 to {LARGEST_SEED}, such as [1, 2, 3]"
        return [Problem(("seeds",), seeds, allowed)]
    if len(seeds) > MOST_SEEDS:
        return [Problem(("seeds",), None, f"{len(seeds):,} seeds; at most {MOST_SEEDS:,}")]
    return [Problem(("seeds",), seeds, "each seed once")] if len(set(seeds)) < len(seeds) else []


def _is_seed(value: Any) -> bool:
    return type(value) is int and 0 <= value <= LARGEST_SEED


def _check_arms(data: dict[str, Any]) -> list[Problem]:
    arms = data.get("arms")
    if arms is None:
        return []
    if not (isinstance(arms, dict) and arms):
        return [Problem(("arms",), arms, "at least one arm, each `name: {what differs}`")]
    return [
        Problem(("arms", arm), change, "what differs, such as {tie: true}")
        for arm, change in arms.items()
        if not (change is None or isinstance(change, dict))
    ]
