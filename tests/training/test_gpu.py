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
    "lstm": {"type": "lstm", "layers": 2, "width": 32, "dropout": 0.2},
    "gpt2": {"type": "gpt2", "layers": 2, "width": 32, "heads": 2, "positions": 16},
}
OPTIMIZERS = {
    "lstm": {"type": "sgd", "learning_rate": 1.0, "clip_norm": 0.25},
    "gpt2": {"type": "adamw", "learning_rate": 1e-3, "weight_decay": 0.1, "clip_norm": 1.0},
}


@pytest.fixture
def device() -> torch.device:
    return torch.device("cuda")


def make_trainer(name: str, folder: Path, *, tie: bool, device: torch.device, seed: int = 1, **training) -> Trainer:
    """4 rows of 8 tokens; the transformer has no dropout, so that two devices can be compared."""
    asked = {"epochs": 50, "batch_size": 4, "window": 8, "optimizer": OPTIMIZERS[name], **training}
    data = {"name": "gpu", "corpus": "ptb", "tie": tie, "architecture": ARCHITECTURES[name], "training": asked}
    run = resolve_document(Document("gpu", data)).list_runs(seeds=[seed])[0]
    streams = {split: draw_stream(2_000, vocabulary_size=VOCABULARY) for split in ("train", "valid")}
    folder.mkdir(parents=True, exist_ok=True)
    return build_trainer(Workload("gpu", run, VOCABULARY, streams), device=device, folder=folder)


def measure_gradients(dtype: torch.dtype, device: torch.device) -> list[torch.Tensor]:
    """Loss and gradients of hidden vectors, table and bias, by our loss in `dtype`."""
    torch.manual_seed(0)
    hidden, table = torch.randn(70, 16, device=device), torch.randn(VOCABULARY, 16, device=device)
    bias, targets = torch.randn(VOCABULARY, device=device), torch.arange(70, device=device) * 4
    targets[3] = -100
    leaves = [part.requires_grad_() for part in (hidden, table, bias)]
    loss = linear_cross_entropy(hidden.to(dtype), table, bias, targets, scale=1 / 69, workspace=Workspace())
    loss.backward()
    wanted = [part.detach().double().cpu().requires_grad_() for part in leaves]
    plain = functional.cross_entropy(functional.linear(*wanted), targets.cpu())
    plain.backward()
    found = [loss.detach(), *(part.grad for part in leaves)]
    return [
        (ours.double().cpu() - theirs).norm() / theirs.norm()
        for ours, theirs in zip(found, [plain.detach(), *(part.grad for part in wanted)], strict=True)
    ]


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.bfloat16, 2e-2)])
def test_the_loss_and_its_gradients_are_those_of_the_plain_path(dtype, tolerance, device):
    assert max(measure_gradients(dtype, device)) < tolerance


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("tie", [False, True], ids=["untied", "tied"])
@pytest.mark.parametrize("name", ARCHITECTURES)
def test_the_host_never_waits_inside_a_step(name, tie, precision, device, tmp_path):
    trainer = make_trainer(name, tmp_path, tie=tie, device=device, precision=precision)
    for _ in range(3):
        trainer.train_step()
    torch.cuda.set_sync_debug_mode("error")
    try:
        for _ in range(5):
            trainer.train_step()
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert trainer.state.step == 8


@pytest.mark.parametrize("tie", [False, True], ids=["untied", "tied"])
def test_a_run_on_a_gpu_learns_what_it_learns_on_a_cpu(tie, device, tmp_path):
    perplexities = []
    for place in (device, torch.device("cpu")):
        trainer = make_trainer("gpt2", tmp_path / place.type, tie=tie, device=place)
        for _ in range(40):
            trainer.train_step()
        score = score_stream(trainer.model, trainer.streams["valid"], spec=trainer.run.spec)
        perplexities.append(score.perplexity)
    assert perplexities[0] == pytest.approx(perplexities[1], rel=1e-3)
    assert perplexities[0] < VOCABULARY
