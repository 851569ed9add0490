"""A model that is cut over ranks is the same model: one parameter where two uses share it, the same gradients, the same
state. One rank is enough to see that; two of them train in tests/execution/test_several_ranks.py.
"""

import copy
from collections.abc import Iterator

import pytest
import torch
import torch.distributed as dist

from tiebench.experiment.schema import ArmSpec
from tiebench.models.language_model import LanguageModel, build_model, count_parameters, initialise_model
from tiebench.training.checkpoints import read_weights, write_weights
from tiebench.training.objective import compute_loss, compute_penalty
from tiebench.training.optimizers import build_optimizer
from tiebench.training.sharding import is_sharded, only_score, put_together, shard_model

VOCABULARY, SHAPE = 23, (4, 10)
TRAINING = {"epochs": 1, "batch_size": 4, "window": 10, "sharding": True}
OPTIMIZERS = {
    "sgd": {"type": "sgd", "learning_rate": 0.5, "momentum": 0.5, "weight_decay": 0.01, "clip_norm": 0.1},
    "adamw": {"type": "adamw", "learning_rate": 0.01, "clip_norm": 0.1, "epsilon": 1e-3},
}  # with a small epsilon, Adam makes a whole step of a gradient that is zero but for rounding, as that of a key's bias
NUM_STEPS = 3


@pytest.fixture(scope="module", autouse=True)
def process_group() -> Iterator[None]:
    """One rank, which needs no network."""
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    yield
    dist.destroy_process_group()


@pytest.fixture
def open_models(make_arm):
    """A model, and the same cut over the one rank."""

    def build(spec: ArmSpec) -> LanguageModel:
        model = build_model(spec, vocabulary_size=VOCABULARY)
        initialise_model(model, seed=1)
        return model.train()

    def open_two(tie: str, *, architecture: str, optimizer: str = "sgd", **blocks):
        training = {**TRAINING, "optimizer": OPTIMIZERS[optimizer], **blocks.pop("training", {})}
        spec = make_arm(tie, architecture=architecture, training=training, **blocks)
        plain, cut = build(spec), build(spec)
        shard_model(cut, device=torch.device("cpu"))
        return spec, plain, cut

    return open_two


def take_steps(model: LanguageModel, spec: ArmSpec, *, num_steps: int = NUM_STEPS, state: dict | None = None) -> dict:
    """Some updates on batches that are always the same; returns the optimizer's state, whole."""
    optimizer, generator = build_optimizer(model, spec.training.optimizer), torch.Generator().manual_seed(2)
    if state is not None:
        optimizer.load_state_dict(copy.deepcopy(state))
    for _ in range(num_steps):
        inputs, targets = torch.randint(VOCABULARY, (2, *SHAPE), generator=generator)
        optimizer.zero_grad()
        hidden, _ = model.encode(inputs)
        loss, _ = compute_loss(model, hidden, targets, objective=spec.training.objective, scale=1 / targets.numel())
        loss.backward()
        penalty = compute_penalty(model, spec.training)
        if penalty is not None:
            penalty.backward()
        optimizer.step(spec.training.optimizer.learning_rate)
    return put_together(optimizer.state_dict())


def assert_equal_tensors(found: dict, wanted: dict) -> None:
    assert found.keys() == wanted.keys()
    for name, tensor in wanted.items():
        torch.testing.assert_close(found[name], tensor, rtol=1e-6, atol=1e-7, msg=name)  # sums in another order


@pytest.mark.parametrize("architecture", ["lstm", "gpt2", "llama"])
def test_a_tied_matrix_is_one_parameter_that_both_ends_move(open_models, architecture):
    spec, plain, cut = open_models("tied", architecture=architecture)
    embedding, matrix = cut.embedding, cut.embedding.shared
    assert embedding.input_embedding is matrix and embedding.output_embedding is matrix
    assert sum(each is matrix for each in cut.parameters()) == 1
    assert count_parameters(cut) == count_parameters(plain)
    assert all(is_sharded(each) for each in cut.parameters())
    cut.encode(torch.zeros(SHAPE, dtype=torch.int64))[0].sum().backward()
    looked_up = cut.embedding.shared.grad
    assert looked_up is not None and put_together(looked_up)[1:].abs().sum() == 0, "only token 0 was looked up"
    take_steps(cut, spec, num_steps=1)
    assert cut.embedding.shared is matrix and cut.embedding.input_embedding is cut.embedding.output_embedding
    assert put_together(matrix.grad).abs().sum(1).min() > 0, "every row is scored"


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("architecture", ["lstm", "gpt2", "llama"])
@pytest.mark.parametrize("tie", ["tied", "untied"])
def test_steps_and_memory_are_those_of_the_whole_model(open_models, tie, architecture, optimizer):
    blocks = {"embedding": {"output_projection": {"penalty": 0.3}, "output_bias": True}}
    blocks["training"] = {"objective": {"type": "cross_entropy", "label_smoothing": 0.1}}
    spec, plain, cut = open_models(tie, architecture=architecture, optimizer=optimizer, **blocks)
    memory = {model: take_steps(model, spec) for model in (plain, cut)}
    assert_equal_tensors(put_together(cut.state_dict()), plain.state_dict())
    if optimizer == "sgd":
        for found, wanted in zip(memory[cut]["momenta"], memory[plain]["momenta"], strict=True):
            torch.testing.assert_close(found, wanted, rtol=1e-5, atol=1e-6)
    else:
        for index, wanted in memory[plain]["state"].items():
            assert_equal_tensors(memory[cut]["state"][index], wanted)


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_the_state_of_a_cut_model_goes_on_whole_and_the_other_way_round(open_models, optimizer, tmp_path):
    spec, plain, cut = open_models("tied", architecture="gpt2", optimizer=optimizer)
    states = {model: take_steps(model, spec) for model in (plain, cut)}
    digests = {}
    for model, folder in ((plain, tmp_path / "plain"), (cut, tmp_path / "cut")):
        folder.mkdir()
        digests[folder] = write_weights(put_together(model.state_dict()), folder, signature="0" * 8)
    _, other_plain, other_cut = open_models("tied", architecture="gpt2", optimizer=optimizer)
    read_weights(other_plain, tmp_path / "cut", digest=digests[tmp_path / "cut"])
    read_weights(other_cut, tmp_path / "plain", digest=digests[tmp_path / "plain"])
    take_steps(other_plain, spec, state=states[cut])
    take_steps(other_cut, spec, state=states[plain])
    take_steps(plain, spec, state=states[plain])
    assert_equal_tensors(put_together(other_cut.state_dict()), plain.state_dict())
    assert_equal_tensors(other_plain.state_dict(), plain.state_dict())


def test_scoring_before_the_first_step_changes_nothing(open_models):
    spec, plain, cut = open_models("untied", architecture="llama")
    for model in (plain, cut):
        model.eval()
        for _ in range(2):
            with only_score(model):
                model.encode(torch.zeros(SHAPE, dtype=torch.int64))
        model.train()
        take_steps(model, spec)
    assert_equal_tensors(put_together(cut.state_dict()), plain.state_dict())
