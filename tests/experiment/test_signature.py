"""A run's signature changes with everything that its result depends on, and with nothing else."""

import re

import pytest

from tiebench.experiment.loading import resolve_document
from tiebench.experiment.yaml_file import Document

SGD = {"type": "sgd", "learning_rate": 1.0}
TRAINING = {"epochs": 2, "batch_size": 4, "window": 10, "random_offset": False, "optimizer": SGD}
DATA = {
    "corpus": {"type": "text", "train": "a.txt", "valid": "b.txt", "test": "c.txt"},
    "architecture": {"type": "lstm", "layers": 1, "width": 16},
    "embedding": {"init": {"uniform": 0.1}},
    "tie": True,
    "training": TRAINING,
    "seeds": [1],
}


def sign(**changes) -> str:
    (run,) = resolve_document(Document("x.yaml", {**DATA, **changes})).list_runs()
    assert re.fullmatch("[0-9a-f]{8}", run.signature)
    return run.signature


def test_equal_specs_have_equal_signatures_in_any_order_of_writing():
    assert sign() == sign(**dict(reversed(DATA.items())))
    assert sign() == sign(tie={"type": "tied"}) == sign(tie="tied")


@pytest.mark.parametrize(
    "changes",
    [
        {"name": "another"},
        {"description": "text"},
        {"corpus": {"type": "text", "train": "/elsewhere/a.txt", "valid": "b.txt", "test": "c.txt"}},
        {"vocabulary": {"type": "words"}},
        {"embedding": {"init": {"uniform": 0.1}, "output_projection": None, "output_bias": False, "width": None}},
        {"training": {**TRAINING, "compile": False, "sharding": False, "early_stopping": None, "steps": None}},
        {"evaluation": {"train": False, "checkpoint": "best"}},
        {"embedding": {"init": {"uniform": 0.1}, "word_dropout": None}},
        {"architecture": {"type": "lstm", "layers": 1, "width": 16, "masks": None, "dropout_hidden": None}},
        {"arms": {"a-name": {}}},
    ],
    ids=lambda changes: next(iter(changes)),
)
def test_names_paths_and_switches_that_are_off_leave_it(changes):
    assert sign(**changes) == sign()


@pytest.mark.parametrize(
    "changes",
    [
        {"seeds": [2]},
        {"tie": False},
        {"corpus": {"type": "pydocs"}},
        {"vocabulary": {"type": "words", "min_count": 2}},
        {"vocabulary": {"type": "bytes"}},
        {"architecture": {"type": "lstm", "layers": 1, "width": 17}},
        {"architecture": {"type": "lstm", "layers": 1, "width": 16, "dropout": 0.1}},
        {"embedding": {"init": {"uniform": 0.2}}},
        {"embedding": {"init": {"normal": 0.1}}},
        {"embedding": {"init": {"uniform": 0.1}, "output_bias": True}},
        {"architecture": {"type": "lstm", "layers": 1, "width": 16, "variational": True}},
        {"architecture": {"type": "lstm", "layers": 1, "width": 16, "variational": True, "masks": "per_gate"}},
        {"embedding": {"init": {"uniform": 0.1}, "word_dropout": 0.3}},
        {"embedding": {"init": {"uniform": 0.1}, "output_projection": {}}},
        {"embedding": {"init": {"uniform": 0.1}, "input_scale": "sqrt_width"}},
        {"training": {**TRAINING, "reduction": "window_sum"}},
        {"training": {**TRAINING, "accumulate": 2}},
        {"training": {**TRAINING, "optimizer": {"type": "sgd", "learning_rate": 1.5}}},
        {"training": {**TRAINING, "schedule": {"type": "plateau"}}},
        {"training": {**TRAINING, "random_offset": True}},
        {"training": {**TRAINING, "drop_partial_window": True}},
        {"training": {**TRAINING, "optimizer": {**SGD, "roles": {"shared": {"learning_rate": 0.5}}}}},
        {"training": {**TRAINING, "optimizer": {"type": "muon", "learning_rate": 1.0, "rest": {"learning_rate": 0.1}}}},
        {"architecture": {"type": "lstm", "layers": 1, "width": 16, "biases": "one"}},
        {"evaluation": {"batch_size": 2}},
        {"evaluation": {"valid_batch_size": 2}},
        {"evaluation": {"train": True}},
        {"evaluation": {"checkpoint": "last"}},
    ],
    ids=str,
)
def test_everything_that_a_result_depends_on_changes_it(changes):
    assert sign(**changes) != sign()


def test_zero_is_a_value_and_not_a_switch_that_is_off():
    step = {"type": "step", "hold_epochs": 0, "factor": 0.5}
    held = {**step, "hold_epochs": 1}
    assert sign(training={**TRAINING, "schedule": step}) != sign(training={**TRAINING, "schedule": held})


def test_it_is_the_same_in_every_process_and_version():
    """Pinned: when it changes, every run that anyone has is a stranger. A new switch is to be off as null or false."""
    (run,) = resolve_document(Document("x.yaml", DATA)).list_runs()
    assert run.signature == "e6e47292"
