"""`tiebench watch`: what is being trained below a folder of results, wherever it runs. It only reads heartbeats."""

import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tiebench.cli.options import RESULTS, AsJson
from tiebench.cli.output import format_duration, print_json, print_line
from tiebench.errors import UsageError

if TYPE_CHECKING:
    from tiebench.results.heartbeat_file import Sighting

LOOK_SECONDS = 2.0
LOOK_SECONDS_IN_A_LOG = 30.0
SILENT_SECONDS = 60.0  # a run gives a sign every few seconds, and a file system over a network may be late


def watch(
    results: Annotated[Path, typer.Argument(help="The folder of runs.")] = RESULTS,
    once: Annotated[bool, typer.Option("--once", help="Look once, and end.")] = False,
    as_json: AsJson = False,
) -> None:
    """Show the runs that are being trained: where, how far, how fast, their last sign of life; until none is left."""
    if not results.is_dir():
        raise UsageError(f"{results} is no folder of results", "name the one that train was given: tiebench watch DIR")
    while True:
        sightings = _look(results)
        if as_json:
            print_json([describe_sighting(sighting) for sighting in sightings])
            return
        if sys.stdout.isatty() and not once:
            typer.echo("\x1b[2J\x1b[H", nl=False)  # an empty screen, from its top
        for line in list_lines(sightings):
            print_line(line, indent=4)
        if once or not any(sighting.age_seconds < SILENT_SECONDS for sighting in sightings):
            return
        time.sleep(LOOK_SECONDS if sys.stdout.isatty() else LOOK_SECONDS_IN_A_LOG)


def _look(results: Path) -> list["Sighting"]:
    from tiebench.results.heartbeat_file import find_heartbeats

    return find_heartbeats(results, now=time.time())


def describe_sighting(sighting: "Sighting") -> dict[str, Any]:
    """As plain data; times in seconds, null where they are not known."""
    heartbeat = sighting.heartbeat
    shown = heartbeat.model_dump(include={"run", "process", "machine", "job", "stage", "step", "tokens_per_second"})
    tokens = {"done_tokens": heartbeat.done_tokens, "total_tokens": heartbeat.total_tokens}
    times = {"seconds_left": heartbeat.seconds_left, "last_sign_seconds": sighting.age_seconds}
    return shown | tokens | times | {"silent": sighting.age_seconds >= SILENT_SECONDS}


def list_lines(sightings: list["Sighting"]) -> list[str]:
    """Two lines for each run: where it is, and how far."""
    lines = []
    for sighting in sightings:
        heartbeat = sighting.heartbeat
        lines.append(f"{heartbeat.run}: {heartbeat.owner}")
        share = f" {heartbeat.done_tokens / heartbeat.total_tokens:.0%}" if heartbeat.total_tokens else ""
        parts = [f"{heartbeat.stage}{share}"]
        parts += [f"step {heartbeat.step:,}"] if heartbeat.step is not None else []
        parts += [f"{heartbeat.tokens_per_second:,.0f} tokens/s"] if heartbeat.tokens_per_second else []
        left = heartbeat.seconds_left
        parts += [f"{format_duration(left)} left"] if left is not None else []
        ago = f"{format_duration(sighting.age_seconds)} ago"
        silent = sighting.age_seconds >= SILENT_SECONDS
        parts.append(f"no sign of life since {ago.removesuffix(' ago')}" if silent else f"last sign {ago}")
        lines.append("    " + ", ".join(parts))
    return lines or ["nothing is being trained"]
