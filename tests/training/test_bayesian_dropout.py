"""Gal & Ghahramani's dropout in training: gates and words draw from the run's own stream, also across a stop."""

import os
import signal

import pytest
import torch

from tiebench.execution.run import execute_run, open_model
from tiebench.execution.settings import Settings
from tiebench.experiment.loading import load_experiment
from tiebench.results.store import Store
from tiebench.training.callbacks import Callback

GAL = {"type": "lstm", "layers": 2, "width": 16, "variational": True, "masks": "per_gate", "dropout": 0.4}
WORDS = {"init": {"uniform": 0.1}, "output_bias": True, "word_dropout": 0.3}
TRAINING = {"epochs": 1, "batch_size": 4, "window": 10, "optimizer": {"type": "sgd", "learning_rate": 1.0}}


@pytest.fixture
def plan(write_experiment):
    def make(**blocks):
        blocks = {"architecture": GAL, "embedding": WORDS, "training": TRAINING} | blocks
        return {run.arm: run for run in load_experiment(write_experiment(**blocks)).list_runs()}

    return make


@pytest.fixture
def train(tmp_path):
    def run_through(run, folder="results", callback=None):
        return execute_run(run, settings=Settings(store=Store(tmp_path / folder), device="cpu"), callback=callback)

    return run_through


class StopsAt(Callback):
    """Sends its own process the signal of Ctrl-C after some steps of training."""

    def __init__(self, num_steps: int) -> None:
        self.left, self.stage = num_steps, ""

    def start_stage(self, name, *, total_tokens, done_tokens=0) -> None:
        self.stage = name

    def advance(self, num_tokens, *, nll_per_token=None) -> None:
        self.left -= self.stage == "train"
        if self.left == 0:
            os.kill(os.getpid(), signal.SIGINT)


def test_an_interrupted_run_ends_like_one_that_was_not(plan, train):
    run = plan()["tied"]
    whole = train(run, "whole")
    with pytest.raises(KeyboardInterrupt):
        train(run, "broken", StopsAt(7))
    broken = train(run, "broken")
    assert broken.evaluations == whole.evaluations
    assert broken.training_perplexity == whole.training_perplexity


@pytest.mark.parametrize(
    "off",
    [{"embedding": {**WORDS, "word_dropout": None}}, {"architecture": {**GAL, "dropout": 0.0}}],
    ids=["words", "gates"],
)
def test_each_of_the_two_dropouts_changes_the_run(plan, train, off):
    both, one = train(plan()["tied"], "both"), train(plan(**off)["tied"], "one")
    assert both.training_perplexity != pytest.approx(one.training_perplexity, rel=1e-3)
    assert both.usage.flops_per_token == one.usage.flops_per_token and both.parameters == one.parameters


def test_a_trained_model_gives_the_same_scores_each_time(plan, train, tmp_path):
    tokens = torch.arange(12).view(2, 6)
    for arm, run in plan().items():
        record = train(run)
        assert record.evaluations["valid"].perplexity < record.vocabulary.size, arm
        model = open_model(record, Store(tmp_path / "results").folder_of(record))
        assert model.embedding.options.word_dropout == 0.3 and torch.equal(model(tokens), model(tokens))
