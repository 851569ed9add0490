"""Many runs at once find what they find one after the other; one that fails or is killed disturbs no other."""

import multiprocessing
import os
import signal
from multiprocessing import resource_tracker
from multiprocessing.context import SpawnProcess
from pathlib import Path

import pytest
import torch

from tiebench.errors import TiebenchError, UsageError
from tiebench.execution import worker_pool as fleet_module
from tiebench.execution.settings import Settings
from tiebench.execution.worker_pool import PipeCallback, choose_num_jobs, count_cores, execute_runs
from tiebench.experiment.loading import load_experiment
from tiebench.results.store import Store, find_state
from tiebench.training.callbacks import Callback
from tiebench.training.signals import catch_signals
from tiebench.training.trainer import Interrupted

DROPOUT = {"type": "lstm", "layers": 1, "width": 16, "dropout": 0.3}
ADAMW = {"type": "adamw", "learning_rate": 0.01}
LONG = {"epochs": 20, "batch_size": 4, "window": 10, "optimizer": ADAMW}
SHORT = {**LONG, "epochs": 1}


class Watching(Callback):
    """Notes what it is told, and does something at a run's second evaluation."""

    def __init__(self, run, *, at_second_evaluation=lambda run: None) -> None:
        self.run, self.at_second_evaluation = run, at_second_evaluation
        self.num_evaluations, self.said, self.finished = 0, [], False

    def report_evaluation(self, point) -> None:
        self.num_evaluations += 1
        if self.num_evaluations == 2:
            self.at_second_evaluation(self.run)

    def say(self, message) -> None:
        self.said.append(message)

    def finish_run(self, record, *, reused) -> None:
        self.finished = "reused" if reused else "trained"


class Fleet:
    """Runs of one experiment into one folder."""

    def __init__(self, config: Path, results: Path) -> None:
        self.runs = load_experiment(config).list_runs()
        self.settings = Settings(store=Store(results), device="cpu", num_threads=1)
        self.callbacks: dict[str, Watching] = {}

    def train(self, *, jobs: str, at_second_evaluation=lambda run: None):
        def watch(run, index):
            assert self.runs[index] is run
            self.callbacks[run.arm] = Watching(run, at_second_evaluation=at_second_evaluation)
            return self.callbacks[run.arm]

        return execute_runs(self.runs, settings=self.settings, watch=watch, jobs=jobs)

    def states(self) -> dict[str, str]:
        return {folder.parts[-2]: find_state(folder) for folder in self.settings.store.folders()}


@pytest.fixture
def open_fleet(write_experiment, tmp_path):
    def open_one(folder: str = "results", **blocks) -> Fleet:
        return Fleet(write_experiment(**{"architecture": DROPOUT, "training": LONG} | blocks), tmp_path / folder)

    return open_one


def read_findings(fleet: Fleet) -> list[dict]:
    """Records without times, memory and provenance, and the learning curves without times."""
    found = []
    for record in fleet.settings.store.records():
        content = record.model_dump(exclude={"provenance"})
        for key in ("train_seconds", "evaluation_seconds", "tokens_per_second", "peak_memory_bytes"):
            content["cost"].pop(key)
        content["curve"] = [point.model_dump(exclude={"seconds"}) for point in fleet.settings.store.curve(record)]
        content["test nats"] = fleet.settings.store.token_nll(record).tobytes()
        found.append(content)
    return found


@pytest.mark.parametrize(
    ("asked", "num_runs", "device", "number"),
    [
        ("3", 9, "cpu", 3),
        ("3", 2, "cpu", 2),
        ("1", 9, "cuda", 1),
        ("auto", 9, "cuda", 1),
        ("auto", 1, "cpu", 1),
        ("2", 0, "cpu", 1),
        ("packed", 9, "cpu", 1),
    ],
)
def test_the_number_of_jobs(asked, num_runs, device, number):
    assert choose_num_jobs(asked, num_runs=num_runs, device=device) == number
    assert choose_num_jobs("auto", num_runs=1000, device="cpu") == count_cores()


def test_a_user_s_number_of_threads_is_not_exceeded(monkeypatch, tmp_path):
    """OMP_NUM_THREADS=1 makes runs comparable whatever --jobs is."""
    settings = Settings(store=Store(tmp_path), device="cpu")
    monkeypatch.setattr(fleet_module, "count_cores", lambda: 16)
    shares = {}
    for allowed in (1, 16):
        monkeypatch.setattr(torch, "get_num_threads", lambda allowed=allowed: allowed)
        shares[allowed] = fleet_module.WorkerPool(settings, watch=None, num_jobs=2).settings.num_threads
    assert shares == {1: 1, 16: 8}


def test_side_by_side_survives_a_kill_and_finds_what_one_after_the_other_finds(open_fleet):
    """One of two processes is killed: the other ends well, and the same command goes on to equal figures."""
    expected = open_fleet("in-turn")
    assert [record.arm for record in expected.train(jobs="1")] == ["untied", "tied"]
    fleet = open_fleet("at-once")

    def kill(run) -> None:
        if run.arm == "untied":
            (process,) = [child for child in multiprocessing.active_children() if child.name == run.name]
            os.kill(process.pid, signal.SIGKILL)

    with pytest.raises(TiebenchError, match=r"the process of tiny/untied/seed-1 ended with exit code -9") as caught:
        fleet.train(jobs="2", at_second_evaluation=kill)
    assert "goes on from its last checkpoint" in caught.value.hint
    assert fleet.states() == {"tied": "finished", "untied": "interrupted"}
    assert [callback.finished for callback in fleet.callbacks.values()] == [False, "trained"]
    assert any("failed" in message for message in fleet.callbacks["untied"].said)
    fleet.train(jobs="2")
    assert fleet.callbacks["tied"].finished == "reused" and fleet.callbacks["untied"].finished == "trained"
    assert any("going on from step" in message for message in fleet.callbacks["untied"].said)
    assert read_findings(fleet) == read_findings(expected)
    assert multiprocessing.active_children() == []
    table = (fleet.settings.store.root / "table.md").read_text("utf-8")
    assert "untied" in table and "| tied" in table


def test_ctrl_c_checkpoints_every_process(open_fleet):
    fleet = open_fleet(training={**LONG, "epochs": 10_000})
    with pytest.raises(Interrupted, match="all runs were checkpointed"):
        fleet.train(jobs="2", at_second_evaluation=lambda run: signal.raise_signal(signal.SIGINT))
    assert multiprocessing.active_children() == []
    assert "interrupted" in fleet.states().values() and "finished" not in fleet.states().values()
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


@pytest.mark.parametrize("number", [1, 2])
def test_ctrl_c_while_a_process_is_started_is_heard_by_the_parent_and_not_by_the_child(number, open_fleet, monkeypatch):
    fleet, started, start = open_fleet(), [], SpawnProcess.start

    def start_interrupted(process) -> None:
        started.append(process)
        if len(started) == number:
            signal.raise_signal(signal.SIGINT)
        start(process)
        status = Path(f"/proc/{process.pid}/status")
        if status.exists():
            blocked = status.read_text("ascii").partition("SigBlk:")[2].split()[0]
            assert int(blocked, 16) >> (signal.SIGINT - 1) & 1

    resource_tracker._resource_tracker._stop()  # the first process starts it, whatever other tests did before
    monkeypatch.setattr(SpawnProcess, "start", start_interrupted)
    with pytest.raises(Interrupted):
        fleet.train(jobs="2")
    assert len(started) == number and multiprocessing.active_children() == []
    assert "finished" not in fleet.states().values()


def test_a_process_that_nobody_listens_to_is_told_to_stop():
    events, theirs = multiprocessing.Pipe(duplex=False)
    events.close()
    told = []
    with catch_signals(lambda: told.append(True)):
        PipeCallback(theirs).say("is anybody there?")
    assert told == [True]


def test_one_that_is_told_to_stop_stops_all(open_fleet):
    """A signal to one process: what the message says of all runs is so."""
    arms = {name: {"tie": name == "tied", "embedding": {"output_bias": name == "odd"}} for name in ("tied", "untied", "odd")}
    fleet = open_fleet(arms=arms, training={**LONG, "epochs": 10_000})

    def tell(run) -> None:
        (process,) = [child for child in multiprocessing.active_children() if child.name == run.name]
        process.terminate()

    with pytest.raises(Interrupted, match="all runs were checkpointed"):
        fleet.train(jobs="2", at_second_evaluation=tell)
    assert multiprocessing.active_children() == []
    assert "finished" not in fleet.states().values() and "odd" not in fleet.states()


def test_a_command_that_breaks_leaves_what_is_in_training_checkpointed(open_fleet):
    """The processes find out that nobody listens any more, and end as if they had been told to."""
    fleet, children = open_fleet(training={**LONG, "epochs": 10_000}), {}

    def break_down(run) -> None:
        children.update({child.name == run.name: child for child in multiprocessing.active_children()})
        raise OSError("no space left on device")

    with pytest.raises(OSError, match="no space left"):
        fleet.train(jobs="2", at_second_evaluation=break_down)
    assert children[True].exitcode == 0
    assert children[False].exitcode in (0, -signal.SIGTERM), "it may not have begun to train yet"
    assert "interrupted" in fleet.states().values() and multiprocessing.active_children() == []


def test_an_arm_that_cannot_be_built_costs_no_training(open_fleet):
    arms = {"tied": {"tie": True}, "odd": {"tie": False, "training": {"window": 99}}}
    gpt2 = {"type": "gpt2", "layers": 1, "width": 16, "heads": 2, "positions": 32}
    for jobs in ("1", "2"):
        fleet = open_fleet(arms=arms, architecture=gpt2)
        with pytest.raises(UsageError, match="training.window is 99"):
            fleet.train(jobs=jobs)
        assert fleet.states() == {} and fleet.callbacks == {}


def test_one_that_fails_does_not_stop_the_others(open_fleet):
    arms = {"wild": {"tie": False, "embedding": {"init": {"uniform": 1e38}}}, "tied": {"tie": True}}
    fleet = open_fleet(arms=arms, training=SHORT)
    with pytest.raises(TiebenchError, match="tiny/wild/seed-1: the loss became"):
        fleet.train(jobs="1")
    assert fleet.states()["tied"] == "finished" and fleet.callbacks["tied"].finished == "trained"
    side_by_side = open_fleet("at-once", arms=arms, training=SHORT)
    with pytest.raises(TiebenchError, match="tiny/wild/seed-1: the loss became") as caught:
        side_by_side.train(jobs="2")
    assert "training.optimizer.learning_rate" in caught.value.hint, "the hint travels between processes"
    assert side_by_side.states()["tied"] == "finished"
