"""Runs on a real Slurm of one node with two slots, on this machine: the records are the local ones.

Where the tests are required (`make test-services`), what is absent fails; else it skips.
"""

import os
import shutil
import signal
import subprocess
from importlib.util import find_spec
from pathlib import Path

import pytest
from engine_command import LONG, SHORT, has_points, read_found, require, wait_for
from engine_command import start as start  # a fixture

from tiebench.results.record import read_record
from tiebench.results.store import Store

pytestmark = pytest.mark.services
SCRIPT = Path(__file__).parents[2] / "scripts" / "start_slurm.sh"


@pytest.fixture(scope="module")
def slurm(tmp_path_factory):
    """The environment of a Slurm with two slots, started for this file."""
    missing = [name for name in ("munged", "slurmctld", "slurmd", "sbatch") if shutil.which(name) is None]
    require(f"needs {', '.join(missing)} (apt-get install slurm-wlm munge)" if missing else None)
    require(None if find_spec("submitit") else "needs submitit (make test-services installs it)")
    require(None if os.getuid() == 0 else "needs root to start Slurm")
    folder = tmp_path_factory.mktemp("slurm")
    try:
        subprocess.run([SCRIPT, "start", folder], check=True, timeout=300)
        yield {"SLURM_CONF": str(folder / "slurm.conf")}
    finally:
        subprocess.run([SCRIPT, "stop", folder], check=True, timeout=150)


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
