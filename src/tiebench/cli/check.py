"""`tiebench check`: validate an experiment without training it."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tiebench.cli.options import NO_LIST, RESULTS, ArmNames, AsJson, Config, DataDir, Overrides, Results
from tiebench.cli.output import format_duration, print_counts, print_json, print_line, print_table, show_value
from tiebench.cli.workflow import gather_settings
from tiebench.errors import TiebenchError, UsageError

if TYPE_CHECKING:
    from tiebench.execution.counting import ArmCount
    from tiebench.execution.devices import PlannedDevice
    from tiebench.execution.forecast import RunTime
    from tiebench.execution.tuning import Trial
    from tiebench.experiment.run_spec import RunSpec

On = Annotated[
    str | None,
    typer.Option(
        "--on",
        metavar="DEVICE",
        help="Plan for this device: a100 or h100, which need not be here, or cpu, this machine's.",
    ),
]
Devices = Annotated[
    int, typer.Option("--devices", metavar="N", min=1, help="With --on: so many devices share out a batch's rows.")
]


def check(
    config: Config,
    overrides: Overrides = NO_LIST,
    arms: ArmNames = NO_LIST,
    results: Results = RESULTS,
    data_dir: DataDir = None,
    on: On = None,
    devices: Devices = 1,
    as_json: AsJson = False,
) -> None:
    """Validate an experiment: count the parameters of every arm, show how the arms differ, and warn of surprises."""
    from tiebench.comparison.pairing import difference_table
    from tiebench.execution.counting import count_arms
    from tiebench.execution.devices import find_device, require_fit, share_out
    from tiebench.execution.forecast import estimate_times, estimate_trials, list_surprises
    from tiebench.execution.matching import match_runs
    from tiebench.execution.tuning import list_missing_trials, list_trials
    from tiebench.experiment.grid import is_grid
    from tiebench.experiment.loading import load_experiment

    if on is None and devices > 1:
        raise UsageError("--devices says how many of the device that --on names", "say which: --on h100")
    device = find_device(on, number=devices) if on is not None else None
    if is_grid(config):
        if device is not None:
            raise UsageError(
                "--on plans the arms of an experiment, not a grid", "Check an experiment, or leave --on out."
            )
        check_grid(config, overrides, data_dir=data_dir, as_json=as_json)
        return
    experiment = load_experiment(config, overrides=overrides)
    runs = match_runs(experiment.list_runs(arms=arms, seeds=[experiment.seeds[0]]), data_dir=data_dir)
    counts = count_arms(runs, data_dir=data_dir)
    if device is not None:
        counts = share_out(runs, counts, device=device, data_dir=data_dir)
        require_fit(runs, counts, device=device, data_dir=data_dir)
    differences = difference_table({run.arm: run.resolved for run in runs}) if len(runs) > 1 else []
    trials = list_trials(experiment, arms=arms)
    surprises = list_surprises(runs, counts, data_dir=data_dir, here=device is None)
    times = estimate_times(runs, counts, data_dir=data_dir, device=device)
    settings = gather_settings(results, device="cpu", data_dir=data_dir, force=False)
    missing = list_missing_trials(experiment, settings=settings, arms=arms)
    tuning = estimate_trials(missing, data_dir=data_dir, device=device) if missing else None
    if as_json:
        rows = [{"path": path, **values} for path, values in differences]
        found_arms = [{**vars(found), "time": vars(times[found.arm])} for found in counts]
        content = {"experiment": experiment.name, "arms": found_arms, "differences": rows, "warnings": surprises}
        finished = len(trials) - len(missing)
        time = vars(tuning) if tuning else None
        content["tuning"] = {"trials": len(trials), "finished": finished, "time": time} if trials else None
        speeds = {"speeds": _list_speeds(runs, counts, device=device)} if device else {}
        content["device"] = {**vars(device), "kept": [vars(each) for each in device.kept], **speeds} if device else None
        print_json(content | {"remarks": {run.arm: list(run.remarks) for run in runs if run.remarks}})
        return
    from tiebench.reporting.tables import Column, Table

    print_counts(counts, title=experiment.name, caption=experiment.description)
    if differences:
        columns = (Column("what differs"), *(Column(run.arm) for run in runs))
        rows = tuple((path, *(show_value(values.get(run.arm)) for run in runs)) for path, values in differences)
        print_table(Table("arms", columns, rows))
    for run in runs:
        for remark in run.remarks:
            print_line(f"{run.arm}: {remark}")
    print_line(_describe_left_out(runs, counts))
    if device is not None:
        _print_plan(runs, counts, times, device=device)
    else:
        said = ", ".join(f"{arm} {_tell_time(time)}" for arm, time in times.items())
        print_line(f"A run takes, on one core of this machine: {said}.")
    if trials:
        print_line(_describe_trials(trials, missing, tuning, is_planned=device is not None))
    for line in surprises:
        print_line(f"warning: {line}")
    numbers = f"{count_things(len(experiment.arms), 'arm')} x {count_things(len(experiment.seeds), 'seed')}"
    print_line(f"{numbers}. Nothing is wrong with {experiment.source}.")


def _describe_trials(trials: list["Trial"], missing: list["Trial"], time: "RunTime | None", *, is_planned: bool) -> str:
    """What `tuning:` still takes before the runs."""
    if time is None:
        return f"All {count_things(len(trials), 'trial')} of tuning are finished."
    spent = f"about {format_duration(time.seconds)}" if is_planned else _tell_time(time)
    arms = list(dict.fromkeys(trial.arm for trial in trials))
    first = "come" if len(missing) > 1 else "comes"
    if len(missing) < len(trials):
        finished = f"the other {len(trials) - len(missing)} of {len(trials)} are finished"
        return f"{count_things(len(missing), 'trial')} {first} first ({finished}): {spent} in all."
    each = f"{len(trials) // len(arms)} for each of {', '.join(arms)}"
    return f"{count_things(len(trials), 'trial')} {first} first, {each}: {spent} in all."


def _describe_left_out(runs: "list[RunSpec]", counts: "list[ArmCount]") -> str:
    """How much of the training text an epoch does not read, and which part of it."""
    from tiebench.comparison.checks import RECURRENT

    told: dict[str, str] = {}
    for run, count in zip(runs, counts, strict=True):
        which = "other ones in every epoch"
        if run.spec.architecture.type in RECURRENT:
            which = "other ones at every seed" if run.spec.training.random_offset else "always those at its end"
        told[count.arm] = f"{count.num_left_out:,} tokens ({which})" if count.num_left_out else "no token"
    if len(set(told.values())) == 1:
        return f"Of the training text, an epoch leaves out {next(iter(told.values()))}."
    return f"Of the training text, an epoch leaves out {'; '.join(f'{part} in {arm}' for arm, part in told.items())}."


def _list_speeds(runs: "list[RunSpec]", counts: "list[ArmCount]", *, device: "PlannedDevice") -> dict[str, str]:
    """Where the speed of each arm comes from."""
    pairs = zip(runs, counts, strict=True)
    return {
        count.arm: device.describe_speed(run.spec.training.precision, flops_per_token=count.flops_per_token)
        for run, count in pairs
    }


def _print_plan(
    runs: "list[RunSpec]", counts: "list[ArmCount]", times: "dict[str, RunTime]", *, device: "PlannedDevice"
) -> None:
    from tiebench.execution.costs import HOUR
    from tiebench.execution.devices import GIBIBYTE
    from tiebench.reporting.tables import Column, Table

    memory = "GiB" if device.number == 1 else "GiB each"
    names = ("tokens", "TFLOP", memory, "hours")
    columns = (Column("arm"), Column(names[0], "count"), *(Column(name, "number") for name in names[1:]))
    rows = tuple(
        (
            count.arm,
            count.num_tokens,
            times[count.arm].flops / 1e12,
            count.memory_bytes / GIBIBYTE,
            times[count.arm].seconds / HOUR,
        )
        for count in counts
    )
    stated = "; ".join(dict.fromkeys(_list_speeds(runs, counts, device=device).values()))
    notes = ["A recurrent model, and a small one, reach less of the peak and take longer."] if not device.kept else []
    if device.number > 1:
        parts = {"its part of the model" if run.spec.training.sharding else "the whole model" for run in runs}
        notes.append(
            f"Each device holds {' or '.join(sorted(parts))} and its part of every batch; "
            "what they send each other is not counted."
        )
    typer.echo()
    place = f"one {device.name}" if device.number == 1 else f"{device.number} x {device.name}"
    print_table(Table(f"A run on {place}", columns, rows, caption=stated, notes=tuple(notes)))


def _tell_time(time: "RunTime") -> str:
    return f"{'about' if time.timed else 'at least'} {format_duration(time.seconds)}"


def check_grid(config: str, overrides: list[str], *, data_dir: Path | None, as_json: bool) -> None:
    """Resolve every cell, and say how many there are and how long all of them will take."""
    from tiebench.execution.forecast import estimate_experiments
    from tiebench.experiment.grid import load_grid

    grid = load_grid(config, overrides=overrides)
    time, reason = None, ""
    try:
        time = estimate_experiments([cell.experiment for cell in grid.cells], data_dir=data_dir)
    except UsageError:
        raise
    except TiebenchError as error:  # the text is not on this machine
        reason = error.message
    if as_json:
        axes = {axis.key: [value.shown for value in axis.values] for axis in grid.axes}
        content = {"grid": grid.name, "axes": axes, "cells": [cell.experiment.name for cell in grid.cells]}
        print_json(content | {"time": vars(time) if time else None})
        return
    for axis in grid.axes:
        print_line(f"{axis.key}: {', '.join(value.shown for value in axis.values)}")
    if time is None:
        print_line(f"How long it takes cannot be said: {reason}.")
    else:
        print_line(f"All of it takes, on one core of this machine, {_tell_time(time)}.")
    first = grid.cells[0].experiment
    numbers = (count_things(len(found), name) for found, name in ((first.arms, "arm"), (first.seeds, "seed")))
    print_line(f"{count_things(len(grid.cells), 'cell')} x {' x '.join(numbers)}. Nothing is wrong with {grid.source}.")


def count_things(number: int, name: str) -> str:
    """`1 seed`, `3 seeds`."""
    return f"{number:,} {name}{'' if number == 1 else 's'}"
