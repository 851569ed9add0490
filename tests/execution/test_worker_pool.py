"""Many runs at once find what they find one after the other; one that fails or is killed disturbs no other."""

import multiprocessing
import os
import signal
from multiprocessing.context import SpawnProcess
from pathlib import Path

import pytest
import torch

from tiebench.errors import TiebenchError, UsageError
from tiebench.execution import worker_pool
from tiebench.execution.execute import choose_num_jobs, execute
from tiebench.execution.plan import plan_runs
from tiebench.execution.settings import Settings
from tiebench.execution.worker_pool import PipeCallback, count_cores
from tiebench.experiment.loading import load_experiment
from tiebench.reporting.pages import refresh_tables
from tiebench.results.store import Store, find_state
from tiebench.training.callbacks import Callback
from tiebench.training.checkpoints import CHECKPOINT_FILE
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


class Runs:
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

        plan = plan_runs(self.runs, settings=self.settings)
        refresh = lambda record: refresh_tables(self.settings.store)  # noqa: E731
        return execute(plan, settings=self.settings, watch=watch, jobs=jobs, on_record=refresh)

    def states(self) -> dict[str, str]:
        return {folder.parts[-2]: find_state(folder) for folder in self.settings.store.folders()}


@pytest.fixture
def open_runs(write_experiment, tmp_path):
    def open_one(folder: str = "results", **blocks) -> Runs:
        return Runs(write_experiment(**{"architecture": DROPOUT, "training": LONG} | blocks), tmp_path / folder)

    return open_one


def read_found(pool: Runs) -> list[dict]:
    """Records without times, memory and provenance, and the learning curves without times."""
    found = []
    for record in pool.settings.store.records():
        content = record.model_dump(exclude={"provenance"})
        for key in ("train_seconds", "evaluation_seconds", "tokens_per_second", "peak_memory_bytes"):
            content["usage"].pop(key)
        content["curve"] = [point.model_dump(exclude={"seconds"}) for point in pool.settings.store.curve(record)]
        content["test nats"] = pool.settings.store.token_nll(record).tobytes()
        found.append(content)
    return found


def describe_checkpoints(pool: Runs) -> str:
    """What is to be said of two runs at work; one that was told to stop before its first step has no checkpoint."""
    num_checkpointed = len(list(pool.settings.store.root.rglob(CHECKPOINT_FILE)))
    assert num_checkpointed
    return "all runs were checkpointed" if num_checkpointed == 2 else f"{num_checkpointed} of 2 runs at work"


@pytest.mark.parametrize(
    ("asked", "num_runs", "device", "number"),
    [
        ("3", 9, "cpu", 3),
        ("3", 2, "cpu", 2),
        ("1", 9, "cuda", 1),
        ("auto", 9, "cuda", 1),
        ("auto", 1, "cpu", 1),
        ("2", 0, "cpu", 1),
    ],
)
def test_the_number_of_jobs(asked, num_runs, device, number):
    assert choose_num_jobs(asked, num_runs=num_runs, device=device) == number
    assert choose_num_jobs("auto", num_runs=1000, device="cpu") == count_cores()


def test_a_user_s_number_of_threads_is_not_exceeded(monkeypatch, tmp_path):
    """OMP_NUM_THREADS=1 makes runs comparable whatever --jobs is."""
    settings = Settings(store=Store(tmp_path), device="cpu")
    monkeypatch.setattr(worker_pool, "count_cores", lambda: 16)
    shares = {}
    for allowed in (1, 16):
        monkeypatch.setattr(torch, "get_num_threads", lambda allowed=allowed: allowed)
        shares[allowed] = worker_pool.WorkerPool(settings, watch=None, num_jobs=2, on_record=None).settings.num_threads
    assert shares == {1: 1, 16: 8}


def test_side_by_side_survives_a_kill_and_finds_what_one_after_the_other_finds(open_runs):
    """One of two processes is killed: the other ends well, and the same command goes on to equal figures."""
    expected = open_runs("in-turn")
    assert [record.arm for record in expected.train(jobs="1")] == ["untied", "tied"]
    pool = open_runs("at-once")

    def kill(run) -> None:
        if run.arm == "untied":
            (process,) = [child for child in multiprocessing.active_children() if child.name == run.name]
            os.kill(process.pid, signal.SIGKILL)

    with pytest.raises(TiebenchError, match=r"the process of tiny/untied/seed-1 ended with exit code -9") as caught:
        pool.train(jobs="2", at_second_evaluation=kill)
    assert "goes on from its last checkpoint" in caught.value.hint
    assert pool.states() == {"tied": "finished", "untied": "interrupted"}
    assert [callback.finished for callback in pool.callbacks.values()] == [False, "trained"]
    assert any("failed" in message for message in pool.callbacks["untied"].said)
    pool.train(jobs="2")
    assert pool.callbacks["tied"].finished == "reused" and pool.callbacks["untied"].finished == "trained"
    assert any("going on from step" in message for message in pool.callbacks["untied"].said)
    assert read_found(pool) == read_found(expected)
    assert multiprocessing.active_children() == []
    table = (pool.settings.store.root / "table.md").read_text("utf-8")
    assert "untied" in table and "| tied" in table


def test_ctrl_c_checkpoints_every_process(open_runs):
    pool, before = open_runs(training={**LONG, "epochs": 10_000}), signal.getsignal(signal.SIGINT)
    with pytest.raises(Interrupted) as caught:
        pool.train(jobs="2", at_second_evaluation=lambda run: signal.raise_signal(signal.SIGINT))
    assert str(caught.value).startswith(describe_checkpoints(pool))
    assert multiprocessing.active_children() == []
    assert "interrupted" in pool.states().values() and "finished" not in pool.states().values()
    assert signal.getsignal(signal.SIGINT) is before


@pytest.mark.parametrize("number", [1, 2])
def test_ctrl_c_while_a_process_is_being_started_stops_all(number, open_runs, monkeypatch):
    pool, started, start = open_runs(), [], SpawnProcess.start

    def start_interrupted(process) -> None:
        started.append(process)
        if len(started) == number:
            signal.raise_signal(signal.SIGINT)
        start(process)

    monkeypatch.setattr(SpawnProcess, "start", start_interrupted)
    with pytest.raises(Interrupted):
        pool.train(jobs="2")
    assert len(started) == number and multiprocessing.active_children() == []
    assert "finished" not in pool.states().values()


def test_a_process_that_nobody_listens_to_is_told_to_stop():
    events, theirs = multiprocessing.Pipe(duplex=False)
    events.close()
    told = []
    with catch_signals(lambda: told.append(True)):
        PipeCallback(theirs).say("is anybody there?")
    assert told == [True]


def test_one_that_is_told_to_stop_stops_all(open_runs):
    """A signal to one process: what the message says of all runs is so."""
    arms = {
        name: {"tie": name == "tied", "embedding": {"output_bias": name == "odd"}} for name in ("tied", "untied", "odd")
    }
    pool = open_runs(arms=arms, training={**LONG, "epochs": 10_000})

    def tell(run) -> None:
        (process,) = [child for child in multiprocessing.active_children() if child.name == run.name]
        process.terminate()

    with pytest.raises(Interrupted) as caught:
        pool.train(jobs="2", at_second_evaluation=tell)
    assert str(caught.value).startswith(describe_checkpoints(pool))
    assert multiprocessing.active_children() == []
    assert "finished" not in pool.states().values() and "odd" not in pool.states()


def test_a_command_that_breaks_leaves_what_is_in_training_checkpointed(open_runs):
    """The processes find out that nobody listens any more, and end as if they had been told to."""
    pool, children = open_runs(training={**LONG, "epochs": 10_000}), {}

    def break_down(run) -> None:
        children.update({child.name == run.name: child for child in multiprocessing.active_children()})
        raise OSError("no space left on device")

    with pytest.raises(OSError, match="no space left"):
        pool.train(jobs="2", at_second_evaluation=break_down)
    assert children[True].exitcode == 0
    assert children[False].exitcode in (0, -signal.SIGTERM), "it may not have begun to train yet"
    assert "interrupted" in pool.states().values() and multiprocessing.active_children() == []


def test_an_arm_that_cannot_be_built_costs_no_training(open_runs):
    arms = {"tied": {"tie": True}, "odd": {"tie": False, "training": {"window": 99}}}
    gpt2 = {"type": "gpt2", "layers": 1, "width": 16, "heads": 2, "positions": 32}
    for jobs in ("1", "2"):
        pool = open_runs(arms=arms, architecture=gpt2)
        with pytest.raises(UsageError, match="training.window is 99"):
            pool.train(jobs=jobs)
        assert pool.states() == {} and pool.callbacks == {}


def test_one_that_fails_does_not_stop_the_others(open_runs):
    arms = {"wild": {"tie": False, "embedding": {"init": {"uniform": 1e38}}}, "tied": {"tie": True}}
    pool = open_runs(arms=arms, training=SHORT)
    with pytest.raises(TiebenchError, match="tiny/wild/seed-1: the loss became"):
        pool.train(jobs="1")
    assert pool.states()["tied"] == "finished" and pool.callbacks["tied"].finished == "trained"
    side_by_side = open_runs("at-once", arms=arms, training=SHORT)
    with pytest.raises(TiebenchError, match="tiny/wild/seed-1: the loss became") as caught:
        side_by_side.train(jobs="2")
    assert "training.optimizer.learning_rate" in caught.value.hint, "the hint travels between processes"
    assert side_by_side.states()["tied"] == "finished"
