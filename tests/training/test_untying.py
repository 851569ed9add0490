"""A late tie is a tied model until its moment, the same function at it, and an untied model after it."""

import pytest
import torch

from tiebench.errors import UsageError
from tiebench.execution.counting import count_arms
from tiebench.execution.run import execute_run, load_data, open_model
from tiebench.execution.settings import Settings
from tiebench.experiment.loading import load_experiment
from tiebench.models.language_model import build_model, count_parameters, initialise_model
from tiebench.results.store import Store
from tiebench.training.callbacks import Callback
from tiebench.training.checkpoints import read_weights, write_weights
from tiebench.training.trainer import Trainer

WIDTH, NUM_STEPS, MOMENT = 16, 10, 6
BODIES = {
    "lstm": {"type": "lstm", "layers": 1, "width": WIDTH},
    "gpt2": {"type": "gpt2", "layers": 1, "width": WIDTH, "heads": 2},
    "llama": {"type": "llama", "layers": 1, "width": WIDTH, "heads": 2},
}
REST = {"learning_rate": 0.01}
OPTIMIZERS = {
    "sgd": {"type": "sgd", "learning_rate": 0.5, "clip_norm": 1.0},
    "momentum": {"type": "sgd", "learning_rate": 0.5, "momentum": 0.9, "weight_decay": 0.01},
    "adamw": {"type": "adamw", "learning_rate": 0.01, "clip_norm": 1.0},
    "muon": {"type": "muon", "learning_rate": 0.02, "rest": REST},
}
LATE = {"type": "untied-late", "at": MOMENT / NUM_STEPS}


@pytest.fixture
def load_run(write_experiment):
    def load(*, tie, body="lstm", optimizer="adamw", **training):
        training = {"steps": NUM_STEPS, "batch_size": 4, "window": 10, "optimizer": OPTIMIZERS[optimizer], **training}
        file = write_experiment(arms=None, tie=tie, architecture=BODIES[body], training=training)
        (run,) = load_experiment(file).list_runs()
        return run

    return load


@pytest.fixture
def open_trainer(load_run, tmp_path):
    def open_one(**options) -> Trainer:
        run = load_run(**options)
        data = load_data(run)
        model = build_model(run.spec, vocabulary_size=data.vocabulary.size)
        initialise_model(model, seed=run.seed)
        return Trainer(run, model, streams=data.streams, folder=tmp_path / "fresh", callback=Callback())

    return open_one


def take_steps(trainer: Trainer, number: int) -> list[float]:
    return [float(trainer.train_step()) for _ in range(number)]


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("body", BODIES)
def test_until_its_moment_it_is_tied_and_from_then_on_untied_from_there(body, optimizer, open_trainer):
    late, tied = (open_trainer(tie=tie, body=body, optimizer=optimizer) for tie in (LATE, True))
    assert take_steps(late, MOMENT) == take_steps(tied, MOMENT)
    shared = tied.model.embedding.shared
    assert torch.equal(late.model.embedding.shared, shared)
    # an untied model with the tied one's weights, whose optimizer remembers of both matrices what that of the one did
    untied = open_trainer(tie=False, body=body, optimizer=optimizer)
    weights = tied.model.state_dict()
    matrix = weights.pop("embedding.shared")
    untied.model.load_state_dict({**weights, "embedding.input": matrix, "embedding.output": matrix})
    theirs = dict(tied.model.named_parameters())
    for name, parameter in untied.model.named_parameters():
        memory = tied.optimizer.recall(theirs.get(name, shared))
        assert (memory is not None) is (optimizer != "sgd")
        untied.optimizer.remember(parameter, memory)
    untied.state, untied.recurrent_states = tied.state.model_copy(), tied.recurrent_states
    untied.dropout_generator.set_state(tied.dropout_generator.get_state())
    assert take_steps(late, NUM_STEPS - MOMENT) == take_steps(untied, NUM_STEPS - MOMENT)
    found = late.model.state_dict()
    assert all(torch.equal(found[name], tensor) for name, tensor in untied.model.state_dict().items())
    assert not torch.equal(found["embedding.input"], found["embedding.output"])


def test_the_moment_itself_changes_no_score(open_trainer):
    trainer = open_trainer(tie=LATE)
    take_steps(trainer, MOMENT)
    tokens = torch.arange(20).view(2, 10)
    before = trainer.model(tokens)
    trainer._untie()
    assert torch.equal(trainer.model(tokens), before)


@pytest.mark.parametrize(("frozen", "moving"), [("input", "output"), ("output", "input")])
def test_a_frozen_end_stays_as_it_was_at_the_moment(frozen, moving, open_trainer):
    trainer = open_trainer(tie={**LATE, "freeze": frozen}, optimizer="momentum")
    take_steps(trainer, MOMENT)
    matrix = trainer.model.embedding.shared.detach().clone()
    take_steps(trainer, NUM_STEPS - MOMENT)
    found = trainer.model.state_dict()
    assert torch.equal(found[f"embedding.{frozen}"], matrix)
    assert not torch.equal(found[f"embedding.{moving}"], matrix)


def test_parameters_are_counted_before_and_after_and_the_scored_model_opens(load_run, tmp_path):
    run = load_run(tie=LATE)
    store = Store(tmp_path / "results")
    record = execute_run(run, settings=Settings(store=store, device="cpu"))
    before, after = record.parameters_before, record.parameters
    assert before is not None and before.shared == after.input == after.output == record.vocabulary.size * WIDTH
    assert (before.input, before.output, after.shared) == (0, 0, 0) and after.total - before.total == after.output
    assert count_parameters(open_model(record, store.folder(run.experiment, run.arm, run.seed))) == after
    assert count_arms([run])[0].parameters == after, "what is promised is what comes out"


def test_weights_that_were_kept_before_the_moment_are_scored_as_a_tied_model(open_trainer, tmp_path):
    trainer = open_trainer(tie=LATE)
    tokens = torch.arange(20).view(2, 10)
    take_steps(trainer, MOMENT)
    kept = trainer.model(tokens)
    digest = write_weights(trainer.model.state_dict(), tmp_path, signature=trainer.run.signature)
    take_steps(trainer, NUM_STEPS - MOMENT)
    read_weights(trainer.model, tmp_path, digest=digest)
    assert torch.equal(trainer.model(tokens), kept) and count_parameters(trainer.model).shared


def test_each_end_may_have_a_learning_rate_of_its_own_after_the_moment(open_trainer, monkeypatch):
    still = {**OPTIMIZERS["sgd"], "roles": {"input": {"learning_rate": 1e-30}}}
    monkeypatch.setitem(OPTIMIZERS, "sgd", still)
    trainer = open_trainer(tie=LATE, optimizer="sgd")
    take_steps(trainer, MOMENT)
    matrix = trainer.model.embedding.shared.detach().clone()
    take_steps(trainer, 1)
    found = trainer.model.state_dict()
    assert torch.equal(found["embedding.input"], matrix) and not torch.equal(found["embedding.output"], matrix)


def test_an_output_init_is_refused(write_experiment):
    file = write_experiment(arms=None, tie=LATE, embedding={"output_init": {"normal": 0.1}})
    (run,) = load_experiment(file).list_runs()
    with pytest.raises(UsageError, match="output_init"):
        build_model(run.spec, vocabulary_size=10)
