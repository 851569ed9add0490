"""The heartbeat of a run: a small file in its folder that says which process trains it, where, and how far it is.

It is written every few seconds by the process that trains, whatever engine started it, and read by `tiebench watch` and
by engines whose runs are on other machines. It is renamed into place, so it is there whole or not at all. It is not
synced, because after a power cut only the checkpoint counts.
"""

import os
import secrets
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from tiebench.results.record import Amount, Count, Parameters

HEARTBEAT_FILE = ".owner"
LONGEST_BYTES = 1_000_000  # a longer file was not written by this module


class Heartbeat(BaseModel):
    """Times in seconds since 1970, by the clock of the machine that trains. `step` is None until it is known;
    `messages` holds the last of `num_messages`.
    """

    model_config = ConfigDict(frozen=True, extra="ignore", strict=True)

    run: str
    process: Count
    machine: str
    job: str = ""
    started_at: Amount
    beat_at: Amount
    stage: str = "preparing"
    step: Count | None = None
    done_tokens: Count = 0
    total_tokens: Count = 0
    tokens_per_second: Amount | None = None
    nll_per_token: float | None = None
    parameters: Parameters | None = None
    num_messages: Count = 0
    messages: tuple[str, ...] = ()

    @property
    def owner(self) -> str:
        """`process 12 on node-3`."""
        return f"process {self.process} on {self.machine}" + (f" ({self.job})" if self.job else "")

    @property
    def seconds_left(self) -> float | None:
        """To the end of the stage, at the speed so far; None where that is not known."""
        if not self.tokens_per_second or not self.total_tokens:
            return None
        return max(0, self.total_tokens - self.done_tokens) / self.tokens_per_second


@dataclass(frozen=True)
class Sighting:
    """What was read of a run's heartbeat, and how long ago it was written, by the clock of the file system's server."""

    heartbeat: Heartbeat
    age_seconds: float


def write_heartbeat(heartbeat: Heartbeat, *, folder: Path) -> None:
    """Raises FileNotFoundError where the folder is gone, OSError where nothing can be written."""
    file = folder / HEARTBEAT_FILE
    temporary = file.with_name(f".{file.name}.{os.getpid()}-{secrets.token_hex(4)}")
    try:
        temporary.write_text(heartbeat.model_dump_json(), "utf-8", newline="\n")
        temporary.rename(file)
    finally:
        temporary.unlink(missing_ok=True)


def read_heartbeat(folder: Path) -> Heartbeat | None:
    """The heartbeat in a run's folder; None where there is none that can be read. It is only shown: nothing depends on
    it.
    """
    file = folder / HEARTBEAT_FILE
    with suppress(OSError, ValidationError, ValueError):
        if file.stat().st_size <= LONGEST_BYTES:
            return Heartbeat.model_validate_json(file.read_bytes())
    return None


def find_heartbeats(root: Path, *, now: float) -> list[Sighting]:
    """The heartbeat of every run and trial below a folder of results, by name; `now` in seconds since 1970."""
    found = []
    for pattern in (f"*/*/seed-*/{HEARTBEAT_FILE}", f"*/tuning/*/seed-*/{HEARTBEAT_FILE}"):
        for file in sorted(root.glob(pattern)):
            heartbeat = read_heartbeat(file.parent)
            with suppress(OSError):
                if heartbeat is not None:
                    found.append(Sighting(heartbeat, max(0.0, now - file.stat().st_mtime)))
    return found
