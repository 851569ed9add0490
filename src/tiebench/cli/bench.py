"""`tiebench bench`: measure how fast this machine trains and scores."""

import functools
from contextlib import suppress
from typing import Annotated

import typer

from tiebench.cli.options import NO_LIST, AsJson, DataDir, Device
from tiebench.cli.output import print_json, print_table
from tiebench.errors import TiebenchError


def bench(
    workloads: Annotated[
        list[str], typer.Argument(metavar="WORKLOAD", help="Names such as lstm-200-ptb, or experiments.")
    ] = NO_LIST,
    seconds: Annotated[float, typer.Option(min=0.1, help="Seconds of training, and of scoring, for each arm.")] = 10.0,
    threads: Annotated[int | None, typer.Option(min=1, help="Number of CPU threads.")] = None,
    device: Device = "auto",
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """Measure how fast this machine trains and scores, beside how fast it multiplies matrices; check --on reads it."""
    from tiebench.cli.speed_table import tabulate_measurements
    from tiebench.execution.bench import describe_setting, measure_workloads
    from tiebench.execution.kept_speeds import keep_speeds

    announce = functools.partial(typer.echo, err=True)
    asked = measure_workloads(
        workloads, seconds=seconds, device=device, num_threads=threads, data_dir=data_dir, announce=announce
    )
    found = list(asked)
    setting = describe_setting(found[0].device, num_threads=found[0].num_threads)
    with suppress(OSError, TiebenchError):  # a cache that cannot be written: what was measured is printed all the same
        keep_speeds(found, setting=setting)
    if as_json:
        print_json({**setting, "measurements": [measurement.figures() for measurement in found]})
    else:
        print_table(tabulate_measurements(found))
