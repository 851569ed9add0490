"""A run in a pack finds what it would have found alone: parameters, losses, states, masks, norms, checkpoints."""

import copy
from pathlib import Path

import pytest
import torch

from tiebench.errors import UsageError
from tiebench.experiment.loading import load_experiment, resolve_document
from tiebench.experiment.yaml_file import Document
from tiebench.training.bench import build_trainer
from tiebench.training.packing import Pack, group_alike
from tiebench.training.trainer import Trainer
from tiebench.training.workloads import Workload, draw_stream

VOCABULARY, NUM_STEPS = 60, 12
SGD = {"type": "sgd", "learning_rate": 1.0, "clip_norm": 0.25}
ADAMW = {"type": "adamw", "learning_rate": 3e-3, "weight_decay": 0.1, "clip_norm": 0.5}
ARCHITECTURES = {
    "lstm": {"type": "lstm", "layers": 2, "width": 16, "dropout": 0.3},
    "variational lstm": {"type": "lstm", "layers": 2, "width": 16, "dropout": 0.3, "variational": True},
    "lstm with masks per gate": {
        "type": "lstm", "layers": 2, "width": 16, "dropout": 0.3, "variational": True, "masks": "per_gate",
    },
    "gpt2": {"type": "gpt2", "layers": 2, "width": 16, "heads": 2, "positions": 16, "dropout": 0.2},
    "gpt2 without dropout": {"type": "gpt2", "layers": 2, "width": 16, "heads": 2, "positions": 16},
    "llama": {"type": "llama", "layers": 1, "width": 16, "heads": 2, "dropout": 0.1},
}
ARMS = {
    "untied": {"tie": False},
    "tied": {"tie": True},
    "projected": {"tie": True, "lexicon": {"projection": {"penalty": 0.15}}},
    "words-dropped": {"tie": False, "lexicon": {"word_dropout": 0.2}},
}


def make_trainers(
    architecture: str, folder: Path, *, optimizer: dict = SGD, window: int = 7, precision: str = "fp32"
) -> list[Trainer]:
    """Four arms at two seeds, on 4 rows of 7 tokens; an epoch is 9 steps, so training passes its end."""
    training = {"epochs": 5, "batch_size": 4, "window": window, "optimizer": optimizer, "precision": precision}
    data = {"name": "pack", "corpus": "ptb", "tie": True, "architecture": ARCHITECTURES[architecture], "arms": ARMS}
    experiment = resolve_document(Document("pack", {**data, "training": training, "lexicon": {"output_bias": True}}))
    streams = {split: draw_stream(250, vocabulary_size=VOCABULARY) for split in ("train", "valid")}
    trainers = []
    for run in experiment.plan_runs(seeds=[1, 2]):
        place = folder / run.name
        place.mkdir(parents=True)
        workload = Workload("pack", run, VOCABULARY, streams)
        trainers.append(build_trainer(workload, device=torch.device("cpu"), folder=place))
    return trainers


def assert_equal_runs(packed: Trainer, alone: Trainer) -> None:
    for (name, found), wanted in zip(packed.model.named_parameters(), alone.model.parameters(), strict=True):
        label = f"{packed.run.name} {name}"
        torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-5, msg=lambda text, at=label: f"{at}: {text}")
    assert packed.progress.step == alone.progress.step
    assert packed.progress.nats_since_evaluation == pytest.approx(alone.progress.nats_since_evaluation, rel=1e-6)
    assert torch.equal(packed.dropout_stream.get_state(), alone.dropout_stream.get_state())


@pytest.mark.parametrize("optimizer", [SGD, ADAMW], ids=["sgd", "adamw"])
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_every_packed_run_equals_its_solo_run(architecture, optimizer, tmp_path):
    packed = make_trainers(architecture, tmp_path / "packed", optimizer=optimizer)
    solo = make_trainers(architecture, tmp_path / "solo", optimizer=optimizer)
    starts = [copy.deepcopy(trainer.model) for trainer in packed]
    pack = Pack(packed)
    for _ in range(NUM_STEPS):
        assert pack.step() == [None] * len(packed)
        for trainer in solo:
            trainer._step()
    for trainer, alone, start in zip(packed, solo, starts, strict=True):
        assert_equal_runs(trainer, alone)
        moved = [not torch.equal(a, b) for a, b in zip(trainer.model.parameters(), start.parameters(), strict=True)]
        assert all(moved)


@pytest.mark.parametrize("architecture", ["lstm", "gpt2"])
def test_packed_runs_in_bfloat16_equal_their_solo_runs_to_its_rounding(architecture, tmp_path):
    """Products of 8 significant bits: losses to 2^-8, and what a parameter has moved to 2 % of the largest move."""
    packed, solo = (make_trainers(architecture, tmp_path / name, precision="bf16") for name in ("packed", "solo"))
    starts, exact = [copy.deepcopy(t.model) for t in packed], make_trainers(architecture, tmp_path / "exact")
    pack = Pack(packed)
    for _ in range(3):
        pack.step()
        for trainer in (*solo, *exact):
            trainer._step()
    for trainer, alone, start, full in zip(packed, solo, starts, exact, strict=True):
        nats = [t.progress.nats_since_evaluation for t in (trainer, alone, full)]
        assert nats[0] == pytest.approx(nats[1], rel=2**-8) and nats[0] != nats[2], "not in bfloat16"
        for found, wanted, before in zip(*(m.parameters() for m in (trainer.model, alone.model, start)), strict=True):
            assert (found - wanted).abs().max() <= 0.02 * (wanted - before).abs().max()
        assert torch.equal(trainer.dropout_stream.get_state(), alone.dropout_stream.get_state())


def test_models_of_a_pack_share_the_memory_of_their_scores(tmp_path):
    packed = make_trainers("lstm", tmp_path)
    Pack(packed).step()
    rows = {id(row) for t in packed for row in t.model.lexicon.workspace._scratch.values()}
    assert len(rows) == 1


def test_a_loss_that_is_no_number_concerns_no_other_run(tmp_path):
    packed, solo = (make_trainers("lstm", tmp_path / name) for name in ("packed", "solo"))
    with torch.no_grad():
        packed[2].model.lexicon.input_table.fill_(torch.inf)
    _, _, error, *others = Pack(packed).step()
    assert "the loss became nan at step 1" in error.message and packed[2].run.name in error.message
    assert others == [None] * (len(packed) - 3)
    for index, alone in enumerate(solo):
        alone._step()
        if index != 2:
            assert_equal_runs(packed[index], alone)


def test_a_packed_run_can_leave_and_go_on_alone(tmp_path):
    packed, solo = (make_trainers("lstm", tmp_path / name) for name in ("packed", "solo"))
    pack = Pack(packed)
    for _ in range(5):
        pack.step()
    trainer, alone = packed[1], solo[1]
    trainer.save()
    resumed = Trainer(trainer.run, copy.deepcopy(trainer.model), streams=trainer.streams, folder=trainer.folder,
                      observer=trainer.observer)
    assert resumed.progress.step == 5
    for _ in range(4):
        resumed._step()
    for _ in range(9):
        alone._step()
    assert_equal_runs(resumed, alone)


def test_runs_that_differ_where_they_are_stacked_are_refused(tmp_path):
    long = make_trainers("lstm", tmp_path / "long", window=8)
    short = make_trainers("lstm", tmp_path / "short")
    other = make_trainers("gpt2", tmp_path / "other")
    with pytest.raises(UsageError, match="window"):
        Pack([short[0], long[0]])
    with pytest.raises(UsageError, match="architecture"):
        Pack([short[0], other[0]])
    short[0]._step()
    with pytest.raises(UsageError, match="step"):
        Pack(short)


def test_runs_are_grouped_with_those_that_they_can_be_trained_with(write_experiment):
    arms = {
        "untied": {"tie": False, "training": {"optimizer": ADAMW, "epochs": 1}},
        "wide": {"tie": True, "architecture": {"width": 24}},
        "tied": {"tie": True, "lexicon": {"width": 8, "output_bias": True}},
        "in-parts": {"tie": True, "training": {"accumulate": 2}},
        "compiled": {"tie": True, "training": {"compile": True}},
        "bytes": {"tie": True, "vocabulary": {"type": "bytes"}},
    }
    runs = load_experiment(write_experiment(arms=arms, seeds=[1, 2])).plan_runs()
    groups = [[f"{run.arm} {run.seed}" for run in group] for group in group_alike(runs)]
    assert groups == [
        ["untied 1", "tied 1", "untied 2", "tied 2"],
        ["wide 1", "wide 2"],
        ["in-parts 1"],
        ["compiled 1"],
        ["bytes 1", "bytes 2"],
        ["in-parts 2"],
        ["compiled 2"],
    ]
