"""Packed runs from spec to record: what each finds is what it finds alone; one that ends, or fails, is alone in it."""

import signal
import subprocess
import sys
import time
import weakref
from pathlib import Path

import numpy as np
import pytest
import torch

from tiebench.errors import TiebenchError
from tiebench.experiment.loading import load_experiment
from tiebench.results.store import Store, find_state
from tiebench.training import trainer
from tiebench.training.checkpoints import CHECKPOINT_FILE
from tiebench.training.fleet import execute_runs
from tiebench.training.observer import Observer
from tiebench.training.reuse import Settings
from tiebench.training.runner import hold_folder
from tiebench.training.trainer import Interrupted, Trainer

TIMES = ("train_seconds", "evaluation_seconds", "tokens_per_second", "peak_memory_bytes")
BUDGET = {"epochs": 3, "batch_size": 4, "window": 10, "evaluate_every": 16}
SGD = {"type": "sgd", "learning_rate": 2.0, "clip_norm": 0.5}
ADAMW = {"type": "adamw", "learning_rate": 0.01, "clip_norm": 0.5}
STANDING_STILL = {"type": "sgd", "learning_rate": 1e-12}
TIES = {"untied": {"tie": False}, "tied": {"tie": True}}
DROPOUT = {
    "architecture": {"type": "lstm", "layers": 2, "width": 16, "dropout": 0.3},
    "training": {**BUDGET, "optimizer": SGD},
    "seeds": [1, 2],
    "arms": TIES,
}
EXPERIMENTS = {
    "lstm, dropout": DROPOUT,
    "gpt2, dropout": DROPOUT
    | {
        "architecture": {"type": "gpt2", "layers": 2, "width": 16, "heads": 2, "positions": 16, "dropout": 0.2},
        "training": {**BUDGET, "optimizer": ADAMW, "schedule": {"type": "cosine", "warmup_steps": 5}},
        "lexicon": {"init": {"normal": 0.02}},
    },
}


class Listening(Observer):
    """Notes when which run was evaluated and finished, and lets the test act at an evaluation or a step."""

    def __init__(self, run, log, *, act) -> None:
        self.run, self.log, self.act, self.said = run, log, act, []

    def start_stage(self, name, *, total_tokens, done_tokens=0) -> None:
        self.stage = name

    def advance(self, num_tokens, *, nats_per_token=None) -> None:
        self.act(self.run, self.stage)

    def report_evaluation(self, point) -> None:
        self.log.append((self.run.name, point.step))

    def say(self, message) -> None:
        self.said.append(message)

    def finish_run(self, record, *, reused) -> None:
        self.log.append((self.run.name, "reused" if reused else "finished"))
        self.at_finish(self.run)


class Fleet:
    """The runs of one experiment, trained into one folder."""

    def __init__(self, config: Path, results: Path) -> None:
        self.runs = load_experiment(config).plan_runs()
        self.store = Store(results)
        self.log: list[tuple] = []
        self.num_threads: int | None = 1
        self.at_finish = lambda run: None
        self.observers: dict[str, Listening] = {}

    def train(self, jobs: str, *, act=lambda run, stage: None):
        def watch(run, index):
            assert self.runs[index] is run
            self.observers[run.name] = Listening(run, self.log, act=act)
            self.observers[run.name].at_finish = self.at_finish
            return self.observers[run.name]

        settings = Settings(store=self.store, device="cpu", num_threads=self.num_threads)
        return execute_runs(self.runs, settings=settings, watch=watch, jobs=jobs)

    def folder(self, number: int) -> Path:
        run = self.runs[number]
        return self.store.folder(run.experiment, run.arm, run.seed)

    def states(self) -> list[str]:
        return [find_state(self.folder(number)) for number in range(len(self.runs))]

    def find_sharing(self) -> dict[str, int | None]:
        return {f"{record.arm} {record.seed}": record.provenance.num_packed for record in self.store.records()}


@pytest.fixture
def open_fleet(write_experiment, tmp_path):
    def open_one(folder: str, **blocks) -> Fleet:
        return Fleet(write_experiment(**blocks), tmp_path / folder)

    return open_one


def read_findings(fleet: Fleet) -> dict[str, dict]:
    """Every run's record without times, memory and provenance; its curve without times; its test nats."""
    found = {}
    for record in fleet.store.records():
        content = record.model_dump(exclude={"provenance"})
        content["cost"] = {name: value for name, value in content["cost"].items() if name not in TIMES}
        curve = [point.model_dump(exclude={"seconds"}) for point in fleet.store.curve(record)]
        nats = fleet.store.token_nats(record)
        found[f"{record.arm} {record.seed}"] = {"record": content, "curve": curve, "nats": nats}
    return found


def assert_equal_findings(found: Fleet, expected: Fleet) -> None:
    """Equal up to the rounding of batched products: perplexities to 1e-5, a token's nats to 1e-3."""
    found, expected = read_findings(found), read_findings(expected)
    assert found.keys() == expected.keys()
    for name, wanted in expected.items():
        assert_close(found[name]["record"], wanted["record"], path=name)
        assert_close(found[name]["curve"], wanted["curve"], path=f"{name} curve")
        np.testing.assert_allclose(found[name]["nats"], wanted["nats"], rtol=1e-3, atol=1e-3)


def assert_close(found, wanted, *, path: str) -> None:
    if isinstance(wanted, dict):
        assert found.keys() == wanted.keys(), path
    if isinstance(wanted, dict | list):
        parts = wanted if isinstance(wanted, dict) else range(len(wanted))
        assert len(found) == len(wanted), path
        for part in parts:
            assert_close(found[part], wanted[part], path=f"{path}.{part}")
    elif isinstance(wanted, float):
        assert found == pytest.approx(wanted, rel=1e-5), path
    else:
        assert found == wanted, path


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_a_packed_run_finds_what_it_finds_alone(name, open_fleet):
    in_turn, packed = (open_fleet(folder, **EXPERIMENTS[name]) for folder in ("in-turn", "packed"))
    in_turn.train("1")
    started = time.perf_counter()
    records = packed.train("packed")
    seconds = time.perf_counter() - started
    assert [(record.arm, record.seed) for record in records] == [(run.arm, run.seed) for run in packed.runs]
    assert packed.find_sharing() == {"untied 1": 4, "untied 2": 4, "tied 1": 4, "tied 2": 4}
    assert set(in_turn.find_sharing().values()) == {None}
    assert_equal_findings(packed, in_turn)
    for number in range(4):
        left = {file.name for file in packed.folder(number).iterdir()}
        assert left == {file.name for file in in_turn.folder(number).iterdir()} and CHECKPOINT_FILE not in left
        assert packed.folder(number).joinpath("spec.yaml").read_text() == in_turn.folder(number).joinpath(
            "spec.yaml"
        ).read_text()
    table = (packed.store.root / "table.md").read_text("utf-8")
    assert "untied" in table and "| tied" in table
    shares = [record.cost.train_seconds for record in records]
    assert 0.1 * seconds < sum(shares) < seconds and max(shares) < 1.5 * min(shares)
    assert packed.train("packed") == records
    assert packed.log[-4:] == [(run.name, "reused") for run in packed.runs]


def test_a_run_that_stops_early_leaves_and_the_others_go_on(open_fleet):
    stops = {"training": {"optimizer": STANDING_STILL, "early_stopping": {"patience": 1}}}
    short = {"training": {"epochs": 2}}
    arms = {"stops": {"tie": True, **stops}, "short": {"tie": True, **short}, "goes-on": {"tie": True}}
    in_turn, packed = (open_fleet(folder, **DROPOUT | {"arms": arms, "seeds": [1]}) for folder in ("in-turn", "packed"))
    in_turn.train("1"), packed.train("packed")
    assert [(name.split("/")[1], what) for name, what in packed.log if what == "finished" or what > 32] == [
        ("stops", "finished"), ("short", 48), ("short", "finished"), ("goes-on", 48), ("goes-on", 64), ("goes-on", 72),
        ("goes-on", "finished"),
    ]
    assert packed.find_sharing() == {"goes-on 1": 3, "short 1": 3, "stops 1": 3}
    assert_equal_findings(packed, in_turn)


def watch_trainers(monkeypatch) -> weakref.WeakSet:
    """The trainers that are still in memory."""
    alive, prepare = weakref.WeakSet(), Trainer.__init__

    def note(self, *positional, **keywords) -> None:
        alive.add(self)
        prepare(self, *positional, **keywords)

    monkeypatch.setattr(Trainer, "__init__", note)
    return alive


def test_a_run_that_leaves_takes_its_memory_with_it(open_fleet, monkeypatch):
    """Its tables and optimizer are gone at the next step; a run that remains alone is no row of a stack any more."""
    arms = {name: {"tie": True, "training": {"epochs": epochs}} for name, epochs in (("a", 1), ("b", 2), ("c", 3))}
    fleet, counts = open_fleet("packed", **DROPOUT | {"arms": arms, "seeds": [1]}), {}
    alive = watch_trainers(monkeypatch)

    def look(run, stage) -> None:
        if run.arm == "c" and stage == "train":
            finished = sum(what == "finished" for _, what in fleet.log)
            (itself,) = (trainer for trainer in alive if trainer.run is run)
            sizes = [part.untyped_storage().nbytes() // part.nbytes for part in itself.model.architecture.parameters()]
            counts[finished] = len(alive), set(sizes)

    fleet.train("packed", act=look)
    assert counts == {0: (3, {3}), 1: (2, {2}), 2: (1, {1})} and not alive


@pytest.mark.parametrize("jobs", ["1", "packed"])
def test_a_run_that_fails_keeps_no_memory(jobs, open_fleet, monkeypatch):
    """Its error is kept to the end; it came through frames that hold the model."""
    wild = {"optimizer": {"type": "sgd", "learning_rate": 1e6}}
    arms = {"bad": {"tie": True, "training": wild}, "good": {"tie": True}}
    fleet, counts = open_fleet("results", **DROPOUT | {"arms": arms, "seeds": [1]}), []
    alive = watch_trainers(monkeypatch)

    def look(run, stage) -> None:
        if run.arm == "good" and stage == "test":
            counts.append(len(alive))

    with pytest.raises(TiebenchError, match="tiny/bad/seed-1: the validation perplexity became inf"):
        fleet.train(jobs, act=look)
    assert counts and set(counts) == {1}


def test_an_interruption_at_the_very_end_is_one_still(open_fleet):
    """All runs are finished and nothing is lost, but whoever asked for an end gets it."""
    fleet = open_fleet("results", **DROPOUT | {"seeds": [1]})
    fleet.at_finish = lambda run: run.arm == "tied" and signal.raise_signal(signal.SIGINT)
    with pytest.raises(Interrupted, match="the runs that were at work are finished"):
        fleet.train("packed")
    assert fleet.states() == ["finished", "finished"]


def test_a_pack_goes_on_with_its_number_of_threads_and_leaves_others_theirs(open_fleet):
    fleet, before = open_fleet("results", **DROPOUT | {"seeds": [1]}), torch.get_num_threads()
    fleet.num_threads = before + 1
    with pytest.raises(Interrupted):
        fleet.train("packed", act=lambda run, stage: interrupt_at_evaluation(fleet, num_evaluations=3))
    assert torch.get_num_threads() == before
    fleet.num_threads = None
    assert {record.provenance.hardware["threads"] for record in fleet.train("packed")} == {before + 1}
    assert torch.get_num_threads() == before


def test_a_pack_that_is_interrupted_ends_the_same(open_fleet):
    """Between two steps, twice; in an evaluation between those of others; and while the best weights are scored."""
    whole, broken = (open_fleet(folder, **DROPOUT) for folder in ("whole", "broken"))
    whole.train("packed")
    stops = {("tied", 2, "train"): 3, ("untied", 1, "train"): 7, ("tied", 1, "valid"): 1, ("untied", 2, "test"): 1}

    def interrupt(run, stage) -> None:
        key = (run.arm, run.seed, stage)
        stops[key] = stops.get(key, 0) - 1
        if stops[key] == 0:
            signal.raise_signal(signal.SIGINT)

    for stop in list(stops):
        with pytest.raises(Interrupted, match="all runs were checkpointed") as caught:
            broken.train("packed", act=interrupt)
        assert stops[stop] == 0 and caught.traceback
        assert not list(broken.store.root.glob("*/*/*/.holder")), "though the error is still at hand"
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
        num_finished = 2 if stop[-1] == "test" else 0
        assert broken.states() == ["finished"] * num_finished + ["interrupted"] * (4 - num_finished)
    broken.train("packed", act=interrupt)
    found, expected = read_findings(broken), read_findings(whole)
    for name, wanted in expected.items():
        assert found[name].pop("nats").tobytes() == wanted.pop("nats").tobytes()
        assert found[name] == wanted
    assert any("going on from step" in message for seen in broken.observers.values() for message in seen.said)


def test_a_run_that_is_behind_catches_up_and_joins(open_fleet, monkeypatch):
    in_turn, packed = (open_fleet(folder, **DROPOUT | {"seeds": [1]}) for folder in ("in-turn", "packed"))
    in_turn.train("1")
    with pytest.raises(Interrupted):
        packed.train("packed", act=lambda run, stage: interrupt_at_evaluation(packed, num_evaluations=3))
    (packed.folder(0) / CHECKPOINT_FILE).unlink()
    alone, original = [], Trainer._step
    monkeypatch.setattr(Trainer, "_step", lambda self: (alone.append(self.run.arm), original(self)))
    packed.train("packed")
    assert 16 <= len(alone) < 40 and set(alone) == {"untied"}, "behind only"
    assert packed.find_sharing() == {"tied 1": 2, "untied 1": 2}
    assert_equal_findings(packed, in_turn)


def interrupt_at_evaluation(fleet: Fleet, *, num_evaluations: int) -> None:
    if len(fleet.log) == num_evaluations:
        signal.raise_signal(signal.SIGINT)


def test_one_that_fails_does_not_stop_the_others(open_fleet):
    arms = {
        "at-once": {"tie": False, "lexicon": {"init": {"uniform": 1e38}}},
        "later": {"tie": False, "training": {"optimizer": {"type": "sgd", "learning_rate": 1e6}}},
        **TIES,
    }
    blocks = DROPOUT | {"arms": arms, "seeds": [1], "lexicon": {"init": {"uniform": 0.1}, "output_bias": True}}
    in_turn, packed = open_fleet("in-turn", **blocks), open_fleet("packed", **blocks)
    held = []

    def look(run, stage) -> None:
        if run.arm == "tied":
            held.append([file.parent.parent.name for file in packed.store.root.glob("*/*/*/.holder")])

    for fleet, jobs in ((in_turn, "1"), (packed, "packed")):
        with pytest.raises(TiebenchError, match="tiny/at-once/seed-1: the loss became .* at step 1 ") as caught:
            fleet.train(jobs, act=look)
        assert "training.optimizer.learning_rate" in caught.value.hint
    assert all("at-once" not in names for names in held[-71:]) and held[-1] == ["tied"], "who ended holds no folder"
    said = {name.split("/")[1]: observer.said for name, observer in packed.observers.items()}
    assert "failed" in said["at-once"][0] and "at step 16" in said["later"][0]
    assert packed.states() == ["empty", "empty", "finished", "finished"]
    assert packed.find_sharing() == {"tied 1": 4, "untied 1": 4}
    assert_equal_findings(packed, in_turn)


def test_one_that_another_process_trains_is_left_to_it(open_fleet):
    fleet = open_fleet("results", **DROPOUT | {"seeds": [1]})
    with hold_folder(fleet.folder(0), run=fleet.runs[0]):
        with pytest.raises(TiebenchError, match="is being trained by process"):
            fleet.train("packed")
    assert [find_state(fleet.folder(number)) for number in range(2)] == ["empty", "finished"]
    assert fleet.find_sharing() == {"tied 1": None}


def test_runs_that_are_not_alike_are_trained_in_packs_and_alone(open_fleet):
    arms = {
        **TIES,
        "wider-window": {"tie": True, "training": {"window": 12}},
        "in-parts": {"tie": True, "training": {"accumulate": 2}},
    }
    in_turn, packed = (open_fleet(folder, **DROPOUT | {"arms": arms, "seeds": [1]}) for folder in ("in-turn", "packed"))
    in_turn.train("1"), packed.train("packed")
    assert packed.find_sharing() == {"in-parts 1": None, "tied 1": 2, "untied 1": 2, "wider-window 1": None}
    assert_equal_findings(packed, in_turn)


def test_every_run_of_a_pack_is_checkpointed_in_time(open_fleet, monkeypatch):
    """A checkpoint of a packed run holds that run, not the whole stack of which its parameters are rows."""
    monkeypatch.setattr(trainer, "CHECKPOINT_SECONDS", 0.0)
    sizes = {}
    for jobs in ("1", "packed"):
        fleet, seen = open_fleet(jobs, **DROPOUT | {"arms": {"tied": {"tie": True}}}), set()

        def look(run, stage, fleet=fleet, seen=seen) -> None:
            file = fleet.folder(0) / CHECKPOINT_FILE
            if file.exists() and not fleet.log:
                seen.add(file.stat().st_size)

        fleet.train(jobs, act=look)
        sizes[jobs] = max(seen)
    assert sizes["packed"] == pytest.approx(sizes["1"], rel=0.02)


def test_sigterm_is_answered_with_checkpoints_and_130(write_experiment, tmp_path):
    config = write_experiment(**DROPOUT | {"training": {**BUDGET, "epochs": 100_000, "optimizer": SGD}})
    options = ["--results", str(tmp_path / "r"), "--device", "cpu", "--jobs", "packed"]
    command = [sys.executable, "-m", "tiebench", "compare", "untied", "tied", "--config", str(config), *options]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        give_up = time.monotonic() + 120
        while len(list((tmp_path / "r").glob("*/*/*/curve.jsonl"))) < 4:
            assert time.monotonic() < give_up and process.poll() is None, process.communicate()[1]
            time.sleep(0.05)
        process.send_signal(signal.SIGTERM)
        _, errors = process.communicate(timeout=60)
    finally:
        process.kill()
        process.wait()
    assert process.returncode == 130, errors
    assert "all runs were checkpointed" in errors and "the same command goes on" in errors
    assert "Traceback" not in errors
    assert len(list((tmp_path / "r").glob(f"*/*/*/{CHECKPOINT_FILE}"))) == 4
