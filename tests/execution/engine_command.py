"""`tiebench` with an engine as a user types it, in a process of its own; for the tests of every engine."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tiebench.results.curve import read_curve
from tiebench.results.store import Store

ADAMW = {"type": "adamw", "learning_rate": 0.01}
LONG = {"epochs": 100, "batch_size": 4, "window": 10, "optimizer": ADAMW}
SHORT = {**LONG, "epochs": 3}
COMMAND_SECONDS = 600


def require(reason: str | None) -> None:
    """Skip with a reason, or fail where the tests are required."""
    if reason and os.environ.get("TIEBENCH_SERVICES") != "required":
        pytest.skip(reason)
    assert not reason, reason


def wait_for(what, *, seconds: float = 600.0):
    """What `what()` gives once it is true."""
    ends = time.monotonic() + seconds
    while time.monotonic() < ends:
        if found := what():
            return found
        time.sleep(0.2)
    raise AssertionError("it did not come in time")


class Command:
    """`tiebench train` with an engine, in a process that is killed at the end of the test if it is still there."""

    def __init__(self, config: Path, results: Path, *options: str, environment: dict[str, str]) -> None:
        typed = [sys.executable, "-m", "tiebench", "train", str(config), "--results", str(results), "--device", "cpu"]
        self.process = subprocess.Popen(
            [*typed, *options],
            cwd=config.parent,
            env={**os.environ, "OMP_NUM_THREADS": "1", **environment},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def wait(self) -> tuple[int, str]:
        """Exit code, and what was said on stderr."""
        _, said = self.process.communicate(timeout=COMMAND_SECONDS)
        return self.process.returncode, said


@pytest.fixture
def start():
    commands = []

    def start_command(*arguments, **keywords) -> Command:
        commands.append(Command(*arguments, **keywords))
        return commands[-1]

    yield start_command
    for command in commands:
        if command.process.poll() is None:
            command.process.kill()
            print(command.process.communicate()[1])  # what a test that failed will want to know


def read_found(results: Path) -> list[dict]:
    """Records and curves without what depends on machine and time."""
    found = []
    for record in Store(results).records():
        content = record.model_dump(exclude={"provenance"})
        for key in ("train_seconds", "evaluation_seconds", "tokens_per_second", "peak_memory_bytes"):
            content["usage"].pop(key)
        folder = Store(results).folder_of(record)
        content["curve"] = [point.model_dump(exclude={"seconds"}) for point in read_curve(folder)]
        content["files"] = {name: record.provenance.files[name] for name in ("test-nll.npy", "weights.safetensors")}
        found.append(content)
    return found


def has_points(folder: Path, number: int):
    """Whether a run has been scored so often, and so has a checkpoint."""
    return lambda: len(read_curve(folder)) >= number
