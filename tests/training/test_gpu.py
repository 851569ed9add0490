"""What must hold on a GPU: the same loss and gradients, the same run, and a host that never waits for a step."""

from pathlib import Path

import pytest
import torch
from torch.nn import functional

from tiebench.execution.bench import build_trainer
from tiebench.execution.workloads import Workload, draw_stream
from tiebench.experiment.loading import resolve_document
from tiebench.experiment.yaml_file import Document
from tiebench.losses.linear_cross_entropy import linear_cross_entropy
from tiebench.losses.workspace import Workspace
from tiebench.training.evaluation import score_stream
from tiebench.training.trainer import Trainer

pytestmark = pytest.mark.gpu
VOCABULARY = 300
ARCHITECTURES = {
    "lstm": {"type": "lstm", "layers": 2, "width": 32},
    "gpt2": {"type": "gpt2", "layers": 2, "width": 32, "heads": 2, "positions": 16},
}
OPTIMIZERS = {
    "lstm": {"type": "sgd", "learning_rate": 1.0, "clip_norm": 0.25},
    "gpt2": {"type": "adamw", "learning_rate": 1e-3, "weight_decay": 0.1, "clip_norm": 1.0},
}


@pytest.fixture
def device() -> torch.device:
    return torch.device("cuda")


def make_trainer(
    name: str,
    folder: Path,
    *,
    tie: bool,
    device: torch.device,
    seed: int = 1,
    dropout: float = 0.2,
    embedding: dict | None = None,
    **training,
) -> Trainer:
    """4 rows of 8 tokens."""
    asked = {"epochs": 50, "batch_size": 4, "window": 8, "optimizer": OPTIMIZERS[name], **training}
    data = {"name": "gpu", "corpus": "ptb", "tie": tie, "training": asked, "embedding": embedding or {}}
    data["architecture"] = ARCHITECTURES[name] | {"dropout": dropout}
    run = resolve_document(Document("gpu", data)).list_runs(seeds=[seed])[0]
    streams = {split: draw_stream(2_000, vocabulary_size=VOCABULARY) for split in ("train", "valid")}
    folder.mkdir(parents=True, exist_ok=True)
    return build_trainer(Workload("gpu", run, VOCABULARY, streams), device=device, folder=folder)


def measure_gradients(dtype: torch.dtype, device: torch.device, *, compiled: bool) -> list[torch.Tensor]:
    """How far loss and gradients of hidden vectors, table and bias, by our loss in `dtype`, are from float64."""
    torch.manual_seed(0)
    hidden, table = torch.randn(70, 16, device=device), torch.randn(VOCABULARY, 16, device=device)
    bias, targets = torch.randn(VOCABULARY, device=device), torch.arange(70, device=device) * 4
    targets[3] = -100
    leaves = [part.requires_grad_() for part in (hidden, table, bias)]
    workspace = Workspace()
    workspace.compiled = compiled
    loss = linear_cross_entropy(hidden.to(dtype), table, bias, targets, scale=1 / 69, workspace=workspace)
    loss.backward()
    wanted = [part.detach().double().cpu().requires_grad_() for part in leaves]
    plain = functional.cross_entropy(functional.linear(*wanted), targets.cpu())
    plain.backward()
    found = [loss.detach(), *(part.grad for part in leaves)]
    return [
        (ours.double().cpu() - theirs).norm() / theirs.norm()
        for ours, theirs in zip(found, [plain.detach(), *(part.grad for part in wanted)], strict=True)
    ]


@pytest.mark.filterwarnings("ignore::DeprecationWarning:torch")
@pytest.mark.parametrize("compiled", [False, True], ids=["plain", "compiled"])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.bfloat16, 2e-2)])
def test_the_loss_and_its_gradients_are_those_of_the_plain_path(dtype, tolerance, compiled, device):
    assert max(measure_gradients(dtype, device, compiled=compiled)) < tolerance


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("tie", [False, True], ids=["untied", "tied"])
@pytest.mark.parametrize("name", ARCHITECTURES)
def test_the_host_never_waits_inside_a_step(name, tie, precision, device, tmp_path):
    trainer = make_trainer(name, tmp_path, tie=tie, device=device, precision=precision)
    for _ in range(8):
        trainer.train_step()
    torch.cuda.set_sync_debug_mode("error")
    try:
        for _ in range(5):
            trainer.train_step()
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert trainer.state.step == 13


@pytest.mark.filterwarnings("ignore::DeprecationWarning:torch")
@pytest.mark.parametrize("adaptive", [None, {"cutoffs": [20, 100]}], ids=["one width", "bands"])
@pytest.mark.parametrize(("name", "compiled"), [("lstm", False), ("gpt2", False), ("gpt2", True)])
@pytest.mark.parametrize("tie", [False, True], ids=["untied", "tied"])
def test_a_run_on_a_gpu_learns_what_it_learns_on_a_cpu(name, tie, compiled, adaptive, device, tmp_path):
    """Without dropout, whose masks another device draws differently."""
    perplexities = []
    embedding = {"adaptive": adaptive}
    for place in (device, torch.device("cpu")):
        folder = tmp_path / place.type
        trainer = make_trainer(name, folder, tie=tie, device=place, dropout=0.0, embedding=embedding, compile=compiled)
        for _ in range(40):
            trainer.train_step()
        score = score_stream(trainer.model, trainer.streams["valid"], spec=trainer.run.spec)
        perplexities.append(score.perplexity)
    assert perplexities[0] == pytest.approx(perplexities[1], rel=1e-3)
    assert perplexities[0] < VOCABULARY


@pytest.mark.parametrize("tie", [False, True], ids=["untied", "tied"])
@pytest.mark.parametrize("name", ARCHITECTURES)
def test_an_interrupted_run_goes_on_as_if_it_had_not_been(name, tie, device, tmp_path):
    """Dropout included: the state of its generator on the device is kept."""
    whole = make_trainer(name, tmp_path / "whole", tie=tie, device=device)
    for _ in range(6):
        whole.train_step()
    first = make_trainer(name, tmp_path / "parts", tie=tie, device=device)
    for _ in range(3):
        first.train_step()
    first.save()
    second = make_trainer(name, tmp_path / "parts", tie=tie, device=device)
    for _ in range(3):
        second.train_step()
    assert second.state.step == 6
    assert_same_training(second, whole)


@pytest.mark.parametrize("tie", [False, True], ids=["untied", "tied"])
def test_updates_from_a_graph_are_the_updates(tie, device, tmp_path):
    """Over an epoch's end: a shorter window, then states that begin anew; measured gradients keep a run from graphs."""
    graphed = make_trainer("lstm", tmp_path / "graph", tie=tie, device=device)
    plain = make_trainer("lstm", tmp_path / "plain", tie=tie, device=device, measure_gradients=True)
    assert graphed.update != graphed._update and plain.update == plain._update
    for _ in range(70):
        for trainer in (graphed, plain):
            trainer.train_step()
    assert graphed.batches.steps_per_epoch < 70
    assert graphed.update.__self__.captured is not None
    assert_same_training(graphed, plain)


def assert_same_training(found: Trainer, expected: Trainer) -> None:
    """The same masks to the bit, and so the same perplexity but for rounding, as a GPU adds in another order each time.

    Weights may differ by more: Adam makes whole steps of what is zero but for rounding (the biases of keys, say).
    """
    assert torch.equal(found.dropout_generator.get_state(), expected.dropout_generator.get_state())
    scores = [
        score_stream(trainer.model, trainer.streams["valid"], spec=trainer.run.spec).perplexity
        for trainer in (found, expected)
    ]
    assert scores[0] == pytest.approx(scores[1], rel=1e-3)
