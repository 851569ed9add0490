"""`tiebench compare --until-decided`: add seeds to two arms, a pair at a time, until the comparison is decided."""

from collections.abc import Iterator
from itertools import count, islice
from typing import TYPE_CHECKING

from tiebench.cli.output import print_note
from tiebench.cli.workflow import complete_runs, tune_experiment
from tiebench.errors import UsageError

if TYPE_CHECKING:
    from tiebench.comparison.looking import Looks
    from tiebench.comparison.sequential import Decision
    from tiebench.execution.settings import Settings
    from tiebench.experiment.loading import Experiment
    from tiebench.results.record import Record


def add_seeds(
    config: str,
    names: list[str],
    overrides: list[str],
    seeds: list[int],
    *,
    settings: "Settings",
    jobs: str,
    margin: float | None,
    max_seeds: int,
    allow: list[str],
    train: bool,
    quiet: bool,
) -> tuple[dict[str, list["Record"]], "Decision"]:
    """The runs that were looked at, by arm, and what was decided; each look is printed and kept when it is taken.

    Pairs are taken in the order of earlier looks, then of the experiment file, then at the next free seeds; `seeds`
    replaces the last two. Raises UsageError for anything but two arms, and where fewer than two pairs can be had.
    """
    from tiebench.comparison.checks import check_specs
    from tiebench.comparison.looking import describe_look, look_at_pairs, read_looks, write_looks
    from tiebench.experiment.loading import load_experiment

    experiment = load_experiment(config, overrides=overrides)
    arms = _order_arms(experiment, names or list(experiment.arms))
    check_specs({arm: experiment.arms[arm] for arm in arms}, allow=allow)
    experiment.list_runs(arms=list(arms), seeds=seeds)
    experiment = tune_experiment(experiment, list(arms), settings=settings, jobs=jobs, quiet=quiet, train=train)
    folder = settings.store.root / experiment.name
    before = read_looks(folder, arms=arms)
    order = _order_seeds(experiment, seeds, before)
    pairs: list[tuple[Record, Record]] = []
    looks, num_told = None, 0
    for group in _group_seeds(order, first=max(2, len(before.seeds) if before else 0), most=max_seeds):
        found = _find_finished_pairs(experiment, arms, group, settings=settings, jobs=jobs, train=train, quiet=quiet)
        if not found:
            break
        pairs += found
        if len(pairs) < 2:
            continue
        looks = look_at_pairs(pairs, margin=margin, allow=allow)
        if before is not None and before.runs != looks.runs[: len(before.runs)]:
            print_note("the runs have changed since the last look: the looks begin anew")
        before = None
        write_looks(looks, folder)
        for look in looks.decision.looks[num_told:] if not quiet else ():
            print_note(describe_look(look, unit=looks.unit))
        num_told = len(looks.decision.looks)
        if looks.decision.outcome != "undecided":
            break
    if looks is None:
        raise UsageError(f"{experiment.name} has fewer than two finished pairs", "leave --no-train out, or add seeds")
    return {arm: [pair[place] for pair in pairs] for place, arm in enumerate(arms)}, looks.decision


def _order_arms(experiment: "Experiment", names: list[str]) -> tuple[str, str]:
    """The baseline first: of two arms, the untied one."""
    names = list(dict.fromkeys(names))
    if len(names) != 2:
        raise UsageError(
            f"--until-decided compares two arms, found {len(names)}", "name two: tiebench compare tied untied"
        )
    experiment.list_runs(arms=names)
    untied = [name for name in names if experiment.arms[name].tie.type == "untied"]
    first = untied[0] if len(untied) == 1 else names[0]
    return first, next(name for name in names if name != first)


def _order_seeds(experiment: "Experiment", seeds: list[int], before: "Looks | None") -> Iterator[int]:
    """Every seed once: those looked at, those of the file, then 1, 2, 3 and so on; `seeds` instead of the last two."""
    taken: dict[int, None] = dict.fromkeys([*(before.seeds if before else []), *(seeds or experiment.seeds)])
    yield from list(taken)
    if not seeds:
        yield from (seed for seed in count(1) if seed not in taken and seed not in experiment.tuning_seeds)


def _group_seeds(order: Iterator[int], *, first: int, most: int) -> Iterator[list[int]]:
    """At first those that were looked at before, or two, since nothing can be seen in one pair; then one at a time."""
    limited = islice(order, max(most, first))
    yield list(islice(limited, first))
    yield from ([seed] for seed in limited)


def _find_finished_pairs(
    experiment: "Experiment",
    arms: tuple[str, str],
    seeds: list[int],
    *,
    settings: "Settings",
    jobs: str,
    train: bool,
    quiet: bool,
) -> list[tuple["Record", "Record"]]:
    """The pairs at these seeds, trained side by side where they are missing; without training, those that are there."""
    from tiebench.execution.finished import list_finished
    from tiebench.execution.tuning import enter_choices

    runs = [run for run in experiment.list_runs(arms=list(arms), seeds=seeds) if not run.is_untuned]
    if len(runs) < len(arms) * len(seeds):
        return []
    found = list_finished(runs, settings=settings)
    if train and not all(found):
        found = complete_runs(experiment, runs, settings=settings, jobs=jobs, quiet=quiet)
    kept = [record and enter_choices([record], experiment)[0] for record in found]
    return [(one, other) for one, other in zip(kept[::2], kept[1::2], strict=True) if one and other]
