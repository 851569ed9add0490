"""An interrupted run ends with the figures of one that was never interrupted, wherever it was interrupted."""

import json
import os
import platform
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from tiebench.errors import TiebenchError
from tiebench.execution.run import execute_run, lock_run_dir
from tiebench.execution.settings import Settings
from tiebench.experiment.loading import load_experiment
from tiebench.results.curve import read_curve
from tiebench.results.record import WEIGHTS_FILE, read_record
from tiebench.results.store import Store, find_state
from tiebench.training import trainer
from tiebench.training.callbacks import Callback
from tiebench.training.checkpoints import CHECKPOINT_FILE
from tiebench.training.trainer import Trainer

DRIVER = Path(__file__).with_name("killed_training.py")
ADAMW = {"type": "adamw", "learning_rate": 0.01, "clip_norm": 1.0}
REST = {"learning_rate": 0.01, "roles": {"bias": {"learning_rate": 0.02, "betas": [0.8, 0.9]}}}
MUON = {"type": "muon", "learning_rate": 0.02, "clip_norm": 1.0, "clip_lookups": "unsummed", "rest": REST}
COSINE = {"type": "cosine", "warmup_steps": 5}
BUDGET = {"epochs": 2, "batch_size": 4, "window": 10}
EXPERIMENTS = {
    "lstm, muon, an offset, one bias, lookups unsummed": {
        "architecture": {"type": "lstm", "layers": 1, "width": 16, "biases": "one", "dropout": 0.3},
        "training": {**BUDGET, "optimizer": MUON, "schedule": COSINE, "random_offset": True},
    },
    "lstm, dropout, adamw": {
        "architecture": {"type": "lstm", "layers": 2, "width": 16, "dropout": 0.3},
        "training": {**BUDGET, "optimizer": ADAMW, "schedule": COSINE, "accumulate": 2},
    },
    "lstm, variational, momentum, plateau": {
        "architecture": {"type": "lstm", "layers": 1, "width": 16, "dropout": 0.3, "variational": True},
        "tie": False,
        "training": {
            **BUDGET,
            "optimizer": {"type": "sgd", "learning_rate": 3.0, "momentum": 0.8, "clip_norm": 1.0},
            "schedule": {"type": "plateau"},
            "evaluate_every": 7,
        },
    },
    "gpt2, dropout": {
        "architecture": {"type": "gpt2", "layers": 1, "width": 16, "heads": 2, "dropout": 0.2},
        "training": {**BUDGET, "optimizer": ADAMW, "schedule": COSINE, "evaluate_every": 9},
        "embedding": {"init": {"normal": 0.02}},
        "evaluation": {"context": 12, "stride": 5},
    },
    "lstm, untied late, gradients measured": {
        "architecture": {"type": "lstm", "layers": 1, "width": 16, "dropout": 0.3},
        "tie": {"type": "untied-late", "at": 0.4, "freeze": "input"},
        "training": {**BUDGET, "optimizer": ADAMW, "measure_gradients": True, "evaluate_every": 9},
    },
    "gpt2, in bands by frequency": {
        "vocabulary": {"type": "bytes"},  # which are not numbered by frequency
        "architecture": {"type": "gpt2", "layers": 1, "width": 16, "heads": 2, "dropout": 0.2},
        "training": {"steps": 48, "batch_size": 4, "window": 10, "optimizer": ADAMW, "evaluate_every": 9},
        "embedding": {"init": {"normal": 0.1}, "adaptive": {"cutoffs": [10, 40], "share_projections": True}},
    },
    "translation, dropout, smoothed labels": {
        "vocabulary": {"type": "bpe", "size": 300},
        "tie": "three-way",
        "architecture": {"type": "encoder_decoder", "layers": 1, "width": 16, "heads": 2, "dropout": 0.2},
        "training": {
            **BUDGET,
            "epochs": 4,
            "window": 80,
            "accumulate": 2,
            "optimizer": ADAMW,
            "schedule": {"type": "inverse_sqrt", "warmup_steps": 5},
            "objective": {"type": "cross_entropy", "label_smoothing": 0.1},
        },
    },
}
STOPS = {
    "SIGKILL": ["write:1", "step:1", "step:6", "write:5", "score:1", "step:11", "write:9", "step:2", "step:5"],
    "SIGINT": ["step:3", "score:1", "step:20"],
    "SIGTERM": ["step:5", "score:1"],
}
NUM_STEPS = 48


@pytest.fixture(params=EXPERIMENTS)
def config(request, write_experiment, parallel_corpus) -> Path:
    text = {}
    if request.param.startswith("translation"):
        pytest.importorskip("sacrebleu", reason="needs the extra: pip install 'tiebench[translation]'")
        text = {"corpus": parallel_corpus}
    return write_experiment(arms=None, **{"tie": True} | text | EXPERIMENTS[request.param])


def train(config: Path, plan: dict[Path, list[str]]) -> dict[Path, list[int]]:
    """Train until done, ending the process at the moments of the plan; returns every attempt's exit status."""
    asked = json.dumps({str(results): moments for results, moments in plan.items()})
    done = subprocess.run(
        [sys.executable, str(DRIVER), str(config), asked], capture_output=True, text=True, timeout=300
    )
    assert "Traceback" not in done.stderr, done.stderr
    statuses = json.loads(done.stdout.rpartition("statuses:")[2])
    return {Path(results): found for results, found in statuses.items()}


def find_only_run(results: Path) -> Path:
    (folder,) = Store(results).folders()
    return folder


def read_measurements(results: Path) -> dict:
    """All that a run found: everything but times, memory and provenance."""
    folder = find_only_run(results)
    record = read_record(folder).model_dump(exclude={"provenance"})
    measured = {key: record["usage"].pop(key) for key in ("train_seconds", "evaluation_seconds", "tokens_per_second")}
    assert all(value > 0 for value in measured.values())
    record["usage"].pop("peak_memory_bytes")
    curve = [point.model_dump(exclude={"seconds"}) for point in read_curve(folder)]
    return {
        "record": record,
        "curve": curve,
        "test nats": (folder / "test-nll.npy").read_bytes(),
        "weights": (folder / WEIGHTS_FILE).read_bytes(),
    }


def test_a_run_that_is_stopped_again_and_again_ends_the_same(config, tmp_path):
    plan = {tmp_path / name: [name, *moments] for name, moments in STOPS.items()}
    statuses = train(config, {tmp_path / "whole": ["SIGKILL"], **plan})
    assert statuses.pop(tmp_path / "whole") == [0]
    whole = read_measurements(tmp_path / "whole")
    assert len(whole["curve"]) >= 2
    for results, (name, *moments) in plan.items():
        stopped = {"SIGKILL": -signal.SIGKILL, "SIGINT": 130, "SIGTERM": 143}[name]
        assert statuses[results] == [stopped] * len(moments) + [0], name
        measurements = read_measurements(results)
        for part in whole:
            assert measurements[part] == whole[part], f"{part} after {name}"
        assert not (find_only_run(results) / CHECKPOINT_FILE).exists()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_from_outside_is_answered_with_a_checkpoint_and_its_exit_code(number, write_experiment, tmp_path):
    config = write_experiment(arms=None, tie=True, training={**BUDGET, "epochs": 100_000, "optimizer": ADAMW})
    command = [
        sys.executable,
        "-m",
        "tiebench",
        "train",
        str(config),
        "--results",
        str(tmp_path / "r"),
        "--device",
        "cpu",
    ]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        give_up = time.monotonic() + 120
        while not list((tmp_path / "r").glob("*/*/*/curve.jsonl")):
            assert time.monotonic() < give_up and process.poll() is None, process.communicate()[1]
            time.sleep(0.05)
        process.send_signal(number)
        _, errors = process.communicate(timeout=60)
    finally:
        process.kill()
        process.wait()
    assert process.returncode == 128 + number, errors
    assert "interrupted" in errors and "checkpointed at step" in errors and "type the same command again" in errors
    assert "Traceback" not in errors
    assert (find_only_run(tmp_path / "r") / CHECKPOINT_FILE).exists()


def load_run(config: Path):
    (run,) = load_experiment(config).list_runs()
    return run


def interrupt_after(num_steps: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the process be told to stop at a step, as Ctrl-C would."""
    original = Trainer.train_step

    def step(self) -> None:
        original(self)
        if self.state.step == num_steps:
            signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(Trainer, "train_step", step)


@pytest.fixture
def interrupted(write_experiment, tmp_path, monkeypatch):
    """A run that was interrupted at its fifth step: the run, its settings and its folder."""
    run = load_run(write_experiment(arms=None, tie=True))
    settings = Settings(store=Store(tmp_path / "results"), device="cpu")
    with monkeypatch.context() as patch:
        interrupt_after(5, patch)
        with pytest.raises(trainer.Interrupted, match="checkpointed at step 5"):
            execute_run(run, settings=settings)
    return run, settings, settings.store.folder(run.experiment, run.arm, run.seed)


def test_the_lock_is_released_by_an_interruption(interrupted):
    run, settings, folder = interrupted
    assert find_state(folder) == "interrupted" and not (folder / ".owner").exists()
    assert execute_run(run, settings=settings).usage.steps == NUM_STEPS


@pytest.mark.parametrize(("first", "second"), [(1, 2), (2, 1)])
def test_a_run_goes_on_with_its_threads_or_says_that_its_share_is_smaller(
    first, second, write_experiment, tmp_path, monkeypatch
):
    """Another number would round differently; but more than a command's share would be in the way of its other runs."""
    run = load_run(write_experiment(arms=None, tie=True))
    settings, before = Settings(store=Store(tmp_path / "results"), device="cpu"), torch.get_num_threads()
    with monkeypatch.context() as patch:
        interrupt_after(5, patch)
        with pytest.raises(trainer.Interrupted):
            execute_run(run, settings=replace(settings, num_threads=first))
    assert torch.get_num_threads() == before
    said = []
    callback = Callback()
    monkeypatch.setattr(callback, "say", said.append)
    record = execute_run(run, settings=replace(settings, num_threads=second), callback=callback)
    assert record.provenance.hardware["threads"] == 1
    assert any("rounding" in message for message in said) == (second < first)
    assert torch.get_num_threads() == before


@pytest.mark.parametrize("damage", ["a byte", "the end", "everything"])
def test_a_damaged_checkpoint_is_recognised_and_said(damage, interrupted):
    run, settings, folder = interrupted
    file = folder / CHECKPOINT_FILE
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes({"a byte": bytes(content), "the end": file.read_bytes()[:-100], "everything": b""}[damage])
    with pytest.raises(TiebenchError, match="checkpoint.pt is damaged") as caught:
        execute_run(run, settings=settings)
    assert "--force" in caught.value.hint
    forced = Settings(store=settings.store, device="cpu", force=True)
    assert execute_run(run, settings=forced).usage.steps == NUM_STEPS


def test_an_unfinished_run_of_another_spec_is_not_continued(interrupted, write_experiment):
    _, settings, _ = interrupted
    other = load_run(write_experiment(arms=None, tie=True, embedding={"init": {"uniform": 0.2}}))
    with pytest.raises(TiebenchError, match="unfinished run of another spec") as caught:
        execute_run(other, settings=settings)
    assert "--force" in caught.value.hint and "--results" in caught.value.hint


@contextmanager
def hold_lock(folder: Path) -> Iterator[subprocess.Popen]:
    """Another process, which holds the lock of a run until its stdin ends."""
    program = (
        "import sys; from pathlib import Path; from types import SimpleNamespace\n"
        "from tiebench.execution.run import lock_run_dir\n"
        f"with lock_run_dir(Path({str(folder)!r}), run=SimpleNamespace(name='first')):\n"
        "    print('holding', flush=True); sys.stdin.read()\n"
    )
    owner = subprocess.Popen([sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        assert owner.stdout.readline() == "holding\n"
        yield owner
    finally:
        owner.stdin.close()
        owner.wait()
        owner.stdout.close()


def test_two_processes_never_write_one_run(write_experiment, tmp_path):
    run = load_run(write_experiment(arms=None, tie=True))
    results = tmp_path / "results"
    folder = Store(results).folder(run.experiment, run.arm, run.seed)
    with hold_lock(folder) as owner:
        with pytest.raises(TiebenchError, match=rf"{run.name} is being trained by process {owner.pid} on"):
            execute_run(run, settings=Settings(store=Store(results), device="cpu"))
        assert not (folder / "record.json").exists()
    with lock_run_dir(folder, run=run):
        assert str(os.getpid()) in (folder / ".owner").read_text()


def test_who_waits_is_told_for_whom_and_trains_what_the_other_left(write_experiment, tmp_path):
    run = load_run(write_experiment(arms=None, tie=True))
    settings = Settings(store=Store(tmp_path / "results"), device="cpu", wait=True)
    folder = settings.store.folder(run.experiment, run.arm, run.seed)
    said: list[str] = []

    class Releasing(Callback):
        def say(self, message: str) -> None:
            said.append(message)
            if message.endswith("waiting"):
                owner.stdin.close()

    with hold_lock(folder) as owner:
        record = execute_run(run, settings=settings, callback=Releasing())
    assert said[0] == f"{run.name} is being trained by process {owner.pid} on {platform.node()}: waiting"
    assert record.evaluations["test"].perplexity > 1 and read_record(folder) == record


def test_a_finished_run_is_not_trained_again(write_experiment, tmp_path):
    run = load_run(write_experiment(arms=None, tie=True))
    settings = Settings(store=Store(tmp_path / "results"), device="cpu")
    first = execute_run(run, settings=settings)
    folder = settings.store.folder_of(first)
    times = {file: file.stat().st_mtime_ns for file in folder.iterdir()}
    assert execute_run(run, settings=settings) == first
    assert {file: file.stat().st_mtime_ns for file in folder.iterdir()} == times
    again = execute_run(run, settings=Settings(store=settings.store, device="cpu", force=True))
    assert again.evaluations == first.evaluations
