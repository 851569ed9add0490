"""`training.precision` and `evaluation.precision`: what is chosen, what it does, and that the record says so."""

import math

import pytest
import torch

from tiebench.execution.run import execute_run, load_data
from tiebench.execution.settings import Settings
from tiebench.experiment.loading import load_experiment
from tiebench.models.language_model import build_model, initialise_model
from tiebench.results.store import Store
from tiebench.training import precision as module
from tiebench.training.callbacks import Callback
from tiebench.training.precision import choose_precision, has_bf16_units
from tiebench.training.trainer import Trainer

CPU = torch.device("cpu")
SGD = {"type": "sgd", "learning_rate": 1.0, "clip_norm": 5.0}


@pytest.fixture
def train(write_experiment, tmp_path):
    """Train the only arm of an experiment; returns its record."""

    def run_through(*, training: dict, name: str = "tiny", tie: bool = True, **blocks):
        training = {"batch_size": 4, "window": 10, "optimizer": SGD, **training}
        file = write_experiment(name=name, arms=None, tie=tie, training=training, **blocks)
        (run,) = load_experiment(file).list_runs()
        return execute_run(run, settings=Settings(store=Store(tmp_path / "results"), device="cpu"))

    return run_through


@pytest.fixture(params=[True, False], ids=["units", "no units"])
def units(request, monkeypatch):
    monkeypatch.setattr(module, "has_bf16_units", lambda device: request.param)
    return request.param


def test_auto_takes_bf16_only_where_there_are_units_and_says_which(units):
    chosen, remark = choose_precision("auto", device=CPU)
    assert chosen == ("bf16" if units else "fp32")
    assert chosen in remark


def test_what_is_asked_for_is_done_and_slower_products_are_announced(units):
    assert choose_precision("fp32", device=CPU) == ("fp32", None)
    chosen, remark = choose_precision("bf16", device=CPU)
    assert chosen == "bf16"
    assert (remark is None) == units


@pytest.mark.parametrize(
    ("capabilities", "expected"),
    [({"avx512_bf16": True}, True), ({"amx_bf16": True}, True), ({"bf16": True}, True), ({"avx512_f": True}, False)],
)
def test_units_are_those_that_torch_finds(capabilities, expected, monkeypatch):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: capabilities, raising=False)
    assert has_bf16_units(CPU) == expected
    assert not has_bf16_units(torch.device("mps"))


@pytest.mark.parametrize(("asked", "used"), [("fp32", "fp32"), ("bf16", "bf16"), ("auto", None)])
def test_the_record_says_which_precision_was_used(asked, used, units, train):
    record = train(training={"steps": 5, "precision": asked})
    assert record.provenance.precision == (used or ("bf16" if units else "fp32"))


def test_a_run_that_goes_on_elsewhere_keeps_its_precision(write_experiment, tmp_path, monkeypatch):
    training = {"batch_size": 4, "window": 10, "steps": 2, "optimizer": SGD, "precision": "auto"}
    (run,) = load_experiment(write_experiment(arms=None, tie=True, training=training)).list_runs()
    data, found = load_data(run), []
    for there in (True, False):
        monkeypatch.setattr(module, "has_bf16_units", lambda device, there=there: there)
        model = build_model(run.spec, vocabulary_size=data.vocabulary.size)
        initialise_model(model, seed=1)
        trainer = Trainer(run, model, streams=data.streams, folder=tmp_path, callback=Callback())
        trainer.train_step()
        trainer.save()
        found.append((trainer.state.step, trainer.state.precision))
    assert found == [(1, "bf16"), (2, "bf16")]


def test_auto_is_what_it_turned_out_to_be(units, train):
    """The same weights as the precision by its name, so that `auto` is no third way of training."""
    found = [
        train(training={"steps": 5, "precision": asked}, name=asked).evaluations["test"].nll
        for asked in ("auto", "bf16" if units else "fp32")
    ]
    assert found[0] == found[1]


@pytest.mark.parametrize("tie", [True, False], ids=["tied", "untied"])
@pytest.mark.parametrize("architecture", ["lstm", "gpt2"])
def test_scoring_in_bf16_stands_in_the_protocol_and_is_near_float32(architecture, tie, train, make_block):
    """A score within 2^-8 of its size: hidden vectors, weights and the product are each rounded to half of that.

    Here scores stay below 8, and the nats of a token move by no more than twice what its scores do.
    """
    shared = {"training": {"steps": 5}, "architecture": make_block(architecture), "tie": tie}
    exact = train(**shared, name="exact")
    half = train(**shared, name="half", evaluation={"precision": "bf16"})
    for split, found in half.evaluations.items():
        assert found.protocol == exact.evaluations[split].protocol | {"precision": "bf16"}
        apart = abs(found.nll_per_token - exact.evaluations[split].nll_per_token)
        assert 0 < apart < 2 * 8 * 2**-8
    assert math.isfinite(half.evaluations["test"].perplexity)


def test_scoring_is_float32_after_training_in_bf16(train):
    record = train(training={"steps": 5, "precision": "bf16"})
    assert all("precision" not in found.protocol for found in record.evaluations.values())


@pytest.mark.parametrize("tie", [True, False], ids=["tied", "untied"])
@pytest.mark.parametrize("architecture", ["lstm", "gpt2", "llama"])
def test_training_in_bf16_lowers_the_loss_as_float32_does(architecture, tie, train, make_block):
    """To first order, what steps gain is off by as much as their gradients are.

    Behind a gradient lie some eight roundings of 2^-8 each, forward and back, and they do not all point one way.
    """
    starts, ends = [], []
    for asked in ("fp32", "bf16"):
        for learning_rate, found in ((1e-12, starts), (1.0, ends)):
            optimizer = {"type": "sgd", "learning_rate": learning_rate, "clip_norm": 1.0}
            training = {"steps": 20, "optimizer": optimizer, "precision": asked}
            record = train(
                training=training, tie=tie, architecture=make_block(architecture), name=f"{asked}-{learning_rate}"
            )
            found.append(record.evaluations["valid"].nll_per_token)
    assert starts[0] == pytest.approx(starts[1], abs=1e-6)
    gains = [start - end for start, end in zip(starts, ends, strict=True)]
    assert gains[0] > 0.1
    assert gains[1] == pytest.approx(gains[0], rel=8 * 2**-8)
