"""`evaluation: {checkpoint: last}` scores where training ended, though an earlier checkpoint was better."""

import math

import pytest

from tiebench.execution.run import execute_run, open_model
from tiebench.execution.settings import Settings
from tiebench.experiment.loading import load_experiment
from tiebench.results.store import Store
from tiebench.training.callbacks import Callback

LEARNING_BY_HEART = {"type": "adamw", "learning_rate": 0.05}
TRAINING = {"epochs": 8, "batch_size": 4, "window": 10, "evaluate_every": 12, "optimizer": LEARNING_BY_HEART}


@pytest.fixture
def train(write_experiment, tmp_path):
    def run_through(evaluation, **training):
        config = write_experiment(arms=None, tie=True, evaluation=evaluation, training={**TRAINING, **training})
        store = Store(tmp_path / str(evaluation))
        record = execute_run(load_experiment(config).list_runs()[0], settings=Settings(store=store, device="cpu"))
        return record, store.curve(record), open_model(record, store.folder_of(record)).embedding.input_embedding

    return run_through


def test_the_last_checkpoint_is_scored_and_kept(train):
    record, curve, table = train({"checkpoint": "last"})
    assert min(point.valid_perplexity for point in curve) < curve[-1].valid_perplexity
    assert record.checkpoint.step == curve[-1].step == record.usage.steps
    assert record.evaluations["valid"].perplexity == pytest.approx(curve[-1].valid_perplexity, rel=1e-9)
    assert record.training_perplexity == pytest.approx(math.exp(curve[-1].train_nll_per_token))
    best, same_curve, other_table = train({"checkpoint": "best"})
    assert [point.valid_perplexity for point in same_curve] == [point.valid_perplexity for point in curve]
    assert best.checkpoint.step < record.checkpoint.step and not (table == other_table).all()


def test_plateaus_and_patience_go_by_the_best(train):
    schedule = {"type": "plateau", "factor": 0.5}
    stop = {"schedule": schedule, "early_stopping": {"patience": 3}, "epochs": 9}
    last, curve, _ = train({"checkpoint": "last"}, **stop)
    _, same_curve, _ = train({"checkpoint": "best"}, **stop)
    assert [(point.step, point.learning_rate) for point in curve] == [
        (point.step, point.learning_rate) for point in same_curve
    ]
    assert curve[-1].learning_rate < curve[0].learning_rate and last.checkpoint.step == curve[-1].step


def test_both_are_scored_where_both_were_declared(train):
    both, _, table = train({"checkpoint": "both"})
    best, _, best_table = train({"checkpoint": "best"})
    last, _, _ = train({"checkpoint": "last"})
    assert (table == best_table).all() and both.checkpoint == best.checkpoint
    assert both.evaluations == best.evaluations and not best.at_last
    assert both.at_last == {split: last.evaluations[split] for split in ("valid", "test")}
    assert both.at_last["test"] != both.evaluations["test"]


def test_where_the_best_is_the_last_it_is_scored_once(train):
    record, _, _ = train({"checkpoint": "both"}, epochs=1, optimizer={"type": "sgd", "learning_rate": 0.1})
    assert record.checkpoint.step == record.usage.steps
    assert record.at_last == {split: record.evaluations[split] for split in ("valid", "test")}


def test_an_interruption_while_the_last_is_scored_loses_nothing(write_experiment, tmp_path):
    config = write_experiment(arms=None, tie=True, evaluation={"checkpoint": "both"}, training=TRAINING)
    (run,) = load_experiment(config).list_runs()[:1]

    class Stopper(Callback):
        """Interrupts the first pass over the test split."""

        def start_stage(self, name, **facts):
            if name == "test":
                raise KeyboardInterrupt

    stopped = Settings(store=Store(tmp_path / "stopped"), device="cpu")
    with pytest.raises(KeyboardInterrupt):
        execute_run(run, settings=stopped, callback=Stopper())
    found = execute_run(run, settings=stopped)
    whole = execute_run(run, settings=Settings(store=Store(tmp_path / "whole"), device="cpu"))
    assert (found.at_last, found.evaluations) == (whole.at_last, whole.evaluations)
