"""Runs on a real Ray of two nodes with a slot each, on this machine: the local records, and a node may die.

Where the tests are required (`make test-services`), what is absent fails; else it skips.
"""

import shutil
import signal
import subprocess
import sys
import tempfile
from importlib.util import find_spec
from pathlib import Path

import psutil
import pytest
from engine_command import LONG, has_points, read_found, require, wait_for
from engine_command import start as start  # a fixture

from tiebench.results.heartbeat_file import read_heartbeat
from tiebench.training.checkpoints import read_checkpoint

pytestmark = pytest.mark.services
SCRIPT = Path(__file__).parents[2] / "scripts" / "start_ray.py"
ARMS = ("tied", "untied")
TRAINING = {**LONG, "epochs": 20}


@pytest.fixture
def cluster():
    """The folder of a Ray with two nodes, of the test's own: some kill one. Its path is short, for Ray's sockets."""
    require(None if find_spec("ray") else "needs ray (make test-services installs it)")
    folder = Path(tempfile.mkdtemp(prefix="ray-", dir="/tmp"))
    try:
        subprocess.run([sys.executable, SCRIPT, "start", folder], check=True, timeout=360)
        yield folder
    finally:
        subprocess.run([sys.executable, SCRIPT, "stop", folder], check=True, timeout=120)
        shutil.rmtree(folder)


@pytest.fixture
def ray(cluster):
    """The environment that finds the cluster."""
    return {"RAY_TMPDIR": str(cluster), "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0"}


def find_node(process: int, *, cluster: Path) -> int:
    """The number of the node whose raylet is above this process."""
    raylets = [int((cluster / f"node-{number}.pid").read_text()) for number in range(2)]
    above = {parent.pid for parent in psutil.Process(process).parents()}
    (number,) = [number for number, raylet in enumerate(raylets) if raylet in above]
    return number


def kill_node(number: int, *, cluster: Path) -> None:
    """As a power cut would: everything that it runs, at once."""
    raylet = psutil.Process(int((cluster / f"node-{number}.pid").read_text()))
    for process in [raylet, *raylet.children(recursive=True)]:
        process.kill()


def folder_of(results: Path, arm: str) -> Path:
    return results / "tiny" / arm / "seed-1"


def hold_runs(results: Path) -> dict[str, psutil.Process]:
    """The process of each arm's run, paused once the run was scored twice: none ends before the other is so far."""
    held: dict[str, psutil.Process] = {}

    def hold_next() -> bool:
        for arm in ARMS:
            beat = read_heartbeat(folder_of(results, arm))
            if arm not in held and beat is not None and has_points(folder_of(results, arm), 2)():
                held[arm] = psutil.Process(beat.process)
                held[arm].suspend()
        return len(held) == len(ARMS)

    wait_for(hold_next)
    return held


def test_ray_finds_what_this_machine_finds_and_a_node_that_dies_costs_no_checkpoint(
    ray, cluster, start, write_experiment, tmp_path
):
    config, there = write_experiment(training=TRAINING), tmp_path / "ray"
    local = start(config, tmp_path / "local", "--jobs", "1", environment={})
    assert local.wait()[0] == 0
    command = start(config, there, "--engine", "ray", environment=ray)
    held = hold_runs(there)
    nodes = {arm: find_node(process.pid, cluster=cluster) for arm, process in held.items()}
    assert sorted(nodes.values()) == [0, 1], "a run on each node"
    kept, lost = sorted(ARMS, key=nodes.__getitem__)
    kill_node(1, cluster=cluster)  # node 0 is the head, without which there is no Ray
    checkpoint = read_checkpoint(folder_of(there, lost))
    held[kept].resume()
    code, said = command.wait()
    assert code == 0, said
    assert f"tiny/{lost}/seed-1: its node or process died" in said, said
    assert "submitted again, from its last checkpoint" in said
    (gone_on,) = [int(part.split()[0].rstrip(",.;:")) for part in said.split("going on from step ")[1:]]
    assert checkpoint and gone_on == checkpoint["train_state"]["step"], "no checkpointed step was trained again"
    assert read_found(there) == read_found(tmp_path / "local")
    assert len(read_found(there)) == 2


def test_ctrl_c_checkpoints_what_ray_trains_and_it_goes_on(ray, start, write_experiment, tmp_path):
    config, there = write_experiment(training={**LONG, "epochs": 60}), tmp_path / "ray"
    assert start(config, tmp_path / "local", "--jobs", "1", environment={}).wait()[0] == 0
    command = start(config, there, "--engine", "ray", environment=ray)
    held = hold_runs(there)
    command.process.send_signal(signal.SIGINT)
    for process in held.values():
        process.resume()
    code, said = command.wait()
    assert code == 130 and "all runs were checkpointed" in said, said
    assert all(list(folder_of(there, arm).glob("checkpoint*")) for arm in ARMS)
    assert not any((folder_of(there, arm) / "record.json").exists() for arm in ARMS)
    code, said = start(config, there, "--engine", "ray", environment=ray).wait()
    assert code == 0 and said.count("going on from step") == 2, said
    assert read_found(there) == read_found(tmp_path / "local")
