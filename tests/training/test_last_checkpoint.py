"""`evaluation: {checkpoint: last}` scores where training ended, though an earlier checkpoint was better."""

import math

import pytest

from tiebench.execution.run import execute_run, open_model
from tiebench.execution.settings import Settings
from tiebench.experiment.loading import load_experiment
from tiebench.results.store import Store

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
    best, same_curve, other_table = train({"checkpoint": None})
    assert [point.valid_perplexity for point in same_curve] == [point.valid_perplexity for point in curve]
    assert best.checkpoint.step < record.checkpoint.step and not (table == other_table).all()


def test_plateaus_and_patience_go_by_the_best(train):
    schedule = {"type": "plateau", "factor": 0.5}
    stop = {"schedule": schedule, "early_stopping": {"patience": 3}, "epochs": 9}
    last, curve, _ = train({"checkpoint": "last"}, **stop)
    _, same_curve, _ = train({"checkpoint": None}, **stop)
    assert [(point.step, point.learning_rate) for point in curve] == [
        (point.step, point.learning_rate) for point in same_curve
    ]
    assert curve[-1].learning_rate < curve[0].learning_rate and last.checkpoint.step == curve[-1].step
