"""Runs on a real Slurm of one node with two slots, on this machine: the records are the local ones.

The command line is the user's, in a process of its own. Where the tests are required (`make test-services`), what is
absent fails; else it skips.
"""

import os
import shutil
import signal
import subprocess
import sys
import time
from importlib.util import find_spec
from pathlib import Path

import pytest

from tiebench.results.record import read_curve, read_record
from tiebench.results.store import Store

pytestmark = pytest.mark.services
SCRIPT = Path(__file__).parents[2] / "scripts" / "start_slurm.sh"
ADAMW = {"type": "adamw", "learning_rate": 0.01}
LONG = {"epochs": 100, "batch_size": 4, "window": 10, "optimizer": ADAMW}
SHORT = {**LONG, "epochs": 3}
COMMAND_SECONDS = 240


def require(reason: str | None) -> None:
    """Skip with a reason, or fail where the tests are required."""
    if reason and os.environ.get("TIEBENCH_SERVICES") != "required":
        pytest.skip(reason)
    assert not reason, reason


def wait_for(what, *, seconds: float = 60.0):
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
            command.process.communicate()


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


@pytest.fixture(scope="module")
def slurm(tmp_path_factory):
    """The environment of a Slurm with two slots, started for this file."""
    missing = [name for name in ("munged", "slurmctld", "slurmd", "sbatch") if shutil.which(name) is None]
    require(f"needs {', '.join(missing)} (apt-get install slurm-wlm munge)" if missing else None)
    require(None if find_spec("submitit") else "needs submitit (make test-services installs it)")
    require(None if os.getuid() == 0 else "needs root to start Slurm")
    folder = tmp_path_factory.mktemp("slurm")
    try:
        subprocess.run([SCRIPT, "start", folder], check=True, timeout=90)
        yield {"SLURM_CONF": str(folder / "slurm.conf")}
    finally:
        subprocess.run([SCRIPT, "stop", folder], check=True, timeout=90)


def test_slurm_finds_what_this_machine_finds(slurm, start, write_experiment, tmp_path):
    config = write_experiment(training=SHORT)
    assert start(config, tmp_path / "local", "--jobs", "1", environment={}).wait()[0] == 0
    code, said = start(config, tmp_path / "slurm", "--engine", "slurm", environment=slurm).wait()
    assert code == 0, said
    assert "[1/2] untied seed 1: finished" in said and "[2/2] tied seed 1: finished" in said and "epoch 3.00" in said
    assert read_found(tmp_path / "slurm") == read_found(tmp_path / "local")
    assert len(read_found(tmp_path / "slurm")) == 2
    assert (tmp_path / "slurm" / "table.md").read_bytes().count(b"tied") >= 2
    (batch,) = {read_record(folder).provenance.command.split()[0] for folder in Store(tmp_path / "slurm").folders()}
    assert "submit" in batch, "the runs were made by jobs"


def test_a_run_that_was_cancelled_goes_on_from_its_checkpoint(slurm, start, write_experiment, tmp_path):
    config = write_experiment(training=LONG, arms={"tied": {"tie": True}})
    whole = start(config, tmp_path / "local", "--jobs", "1", environment={})
    assert whole.wait()[0] == 0
    folder = tmp_path / "slurm" / "tiny" / "tied" / "seed-1"
    command = start(config, tmp_path / "slurm", "--engine", "slurm", environment=slurm)
    wait_for(has_points(folder, 2))
    asked = {**os.environ, **slurm}
    jobs = subprocess.run(["squeue", "-h", "-o", "%i"], env=asked, capture_output=True, text=True, check=True)
    subprocess.run(["scancel", *jobs.stdout.split()], env=asked, check=True)
    code, said = command.wait()
    assert code == 1 and "type the same command again" in said, said
    assert list(folder.glob("checkpoint*")) and not (folder / "record.json").exists()
    code, said = start(config, tmp_path / "slurm", "--engine", "slurm", environment=slurm).wait()
    assert code == 0 and "going on from step" in said, said
    assert read_found(tmp_path / "slurm") == read_found(tmp_path / "local")


def test_ctrl_c_checkpoints_what_slurm_trains(slurm, start, write_experiment, tmp_path):
    config = write_experiment(training={**LONG, "epochs": 10_000})
    folders = [tmp_path / "slurm" / "tiny" / arm / "seed-1" for arm in ("tied", "untied")]
    command = start(config, tmp_path / "slurm", "--engine", "slurm", environment=slurm)
    for folder in folders:
        wait_for(has_points(folder, 2))
    command.process.send_signal(signal.SIGINT)
    code, said = command.wait()
    assert code == 130 and "all runs were checkpointed" in said, said
    assert all(list(folder.glob("checkpoint*")) for folder in folders)
    jobs = subprocess.run(
        ["squeue", "-h", "-t", "PD,R"], env={**os.environ, **slurm}, capture_output=True, text=True, check=True
    )
    assert jobs.stdout == ""
