"""What other runs of a recipe tell: how much its seeds vary, where the arms compared have one run each."""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence

from tiebench.comparison.sources import SeedDeviation
from tiebench.experiment.differences import find_differences, is_declared
from tiebench.results.record import Record


def find_seed_deviation(
    pair: Mapping[str, Sequence[Record]],
    *,
    others: Iterable[Record],
    read: Callable[[Record], float],
    split: str,
) -> tuple[SeedDeviation | None, int]:
    """The deviation over seeds of `read`, pooled over other arms of the recipe, and the number of runs it rests on.

    An arm is of the recipe when its specs agree with those compared in everything but the tie and what these declare,
    on the same text with the same vocabulary and mathematics. Only arms with at least two seeds count; those of
    `pair` are left out, because their runs are counted elsewhere. None where no arm is left.
    """
    first = next(iter(pair.values()))[0]
    compared = {(record.experiment, record.arm) for records in pair.values() for record in records}
    declared = ["tie", *sorted({path for records in pair.values() for record in records for path in record.declared})]
    arms: dict[tuple[str, str], dict[int, float]] = {}
    for record in others:
        place = (record.experiment, record.arm)
        if place not in compared and split in record.evaluations and is_same_recipe(record, first, declared=declared):
            arms.setdefault(place, {})[record.seed] = read(record)
    usable = [list(values.values()) for values in arms.values() if len(values) > 1]
    freedom = sum(len(values) - 1 for values in usable)
    if not freedom:
        return None, 0
    squares = math.fsum(square_deviations(values) for values in usable)
    return SeedDeviation(math.sqrt(squares / freedom), freedom), sum(map(len, usable))


def is_same_recipe(record: Record, other: Record, *, declared: list[str]) -> bool:
    """Whether two runs differ in nothing but what is declared, and their seeds."""
    facts = [(each.corpus.checksum, each.vocabulary.identity, each.numerics) for each in (record, other)]
    if facts[0] != facts[1]:
        return False
    specs = {
        str(name): each.spec.model_dump(mode="json", exclude={"corpus"}) for name, each in enumerate((record, other))
    }
    return all(is_declared(path, declared) for path, _ in find_differences(specs))


def square_deviations(values: Sequence[float]) -> float:
    """The sum of squared deviations from the mean."""
    mean = math.fsum(values) / len(values)
    return math.fsum((value - mean) ** 2 for value in values)
