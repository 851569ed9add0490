"""The norm that counts looked-up rows unsummed: each place of a batch by itself, a shared table's two ends apart."""

import pytest
import torch
from precision import bound_error
from pydantic import ValidationError
from torch.nn import functional as F

from tiebench.experiment.training_config import AdamWConfig, SGDConfig, TrainingConfig
from tiebench.models.language_model import LanguageModel, build_model, initialise_model
from tiebench.training.optimizers import build_optimizer

pytestmark = pytest.mark.numeric
VOCABULARY, WIDTH, NUM_TOKENS = 23, 16, 4 * 9
UNSUMMED = SGDConfig(type="sgd", learning_rate=0.5, clip_norm=0.05, clip_lookups="unsummed")
# A squared norm is a sum of squares of gradients, each a sum over tokens, vocabulary and width; the root halves.
RELATIVE = bound_error(NUM_TOKENS + VOCABULARY + 8 * WIDTH)


def build(make_arm, tie: str, **embedding) -> LanguageModel:
    model = build_model(
        make_arm(tie, embedding={"output_bias": True, "init": {"uniform": 0.5}, **embedding}),
        vocabulary_size=VOCABULARY,
    )
    initialise_model(model, seed=1)
    return model


def draw_batch() -> tuple[torch.Tensor, torch.Tensor]:
    """Words that occur many times."""
    ids = torch.randint(5, (4, 10), generator=torch.Generator().manual_seed(2))
    return ids[:, :-1], ids[:, 1:]


def spread_gradients(model: LanguageModel) -> list[torch.Tensor]:
    """Every gradient by autograd, with the looked-up vectors and the output embedding as parameters of their own."""
    inputs, targets = draw_batch()
    looked_up = model.embedding.input_embedding.detach()[inputs].requires_grad_()
    table = model.embedding.output_embedding.detach().clone().requires_grad_()
    hidden, _ = model.architecture(looked_up * model.embedding.input_scale, None)
    loss = F.cross_entropy(F.linear(hidden, table, model.embedding.output_bias).flatten(0, 1), targets.flatten())
    others = [*model.architecture.parameters(), model.embedding.output_bias]
    return list(torch.autograd.grad(loss, [looked_up, table, *others]))


def take_step(model: LanguageModel, options, *, num_parts: int = 1) -> float:
    optimizer = build_optimizer(model, options)
    inputs, targets = draw_batch()
    optimizer.zero_grad()
    for part, wanted in zip(inputs.chunk(num_parts), targets.chunk(num_parts), strict=True):
        hidden, _ = model.encode(part)
        model.embedding.loss(hidden, wanted, scale=1 / targets.numel()).backward()
    return float(optimizer.step(options.learning_rate))


@pytest.mark.parametrize("num_parts", [1, 2])
@pytest.mark.parametrize("embedding", [{}, {"input_scale": 3.0}], ids=str)
@pytest.mark.parametrize("kind", ["sgd", "sgd, dense", "adamw"])
@pytest.mark.parametrize("tie", ["tied", "untied"])
def test_it_is_the_norm_of_the_gradients_before_they_are_summed(tie, kind, embedding, num_parts, make_arm):
    clip = {"clip_norm": 0.05, "clip_lookups": "unsummed"}
    options = {
        "sgd": UNSUMMED,
        "sgd, dense": SGDConfig(type="sgd", learning_rate=0.5, momentum=0.5, **clip),
        "adamw": AdamWConfig(type="adamw", learning_rate=0.01, **clip),
    }[kind]
    model = build(make_arm, tie, **embedding)
    wanted = sum(float(grad.double().square().sum()) for grad in spread_gradients(model)) ** 0.5
    summed = take_step(build(make_arm, tie, **embedding), options.model_copy(update={"clip_lookups": None}))
    found = take_step(model, options, num_parts=num_parts)
    assert found == pytest.approx(wanted, rel=RELATIVE)
    assert abs(found - summed) > 20 * RELATIVE * summed, "words repeat, so the two norms differ"


@pytest.mark.parametrize("tie", ["tied", "untied"])
def test_only_the_factor_of_the_update_changes(tie, make_arm):
    before = list(build(make_arm, tie).parameters())
    moves, norms = [], []
    for options in (UNSUMMED, UNSUMMED.model_copy(update={"clip_lookups": None})):
        model = build(make_arm, tie)
        norms.append(take_step(model, options))
        moves.append([(after - start).detach() for after, start in zip(model.parameters(), before, strict=True)])
    assert min(norms) > UNSUMMED.clip_norm
    for unsummed, summed in zip(*moves, strict=True):
        # a parameter below 1 is rounded when it is moved, and the move is found by subtracting again
        torch.testing.assert_close(unsummed * norms[0], summed * norms[1], rtol=RELATIVE, atol=4 * bound_error(2))


def test_the_lookups_of_a_step_are_forgotten_in_the_next(make_arm):
    model = build(make_arm, "untied")
    optimizer = build_optimizer(model, UNSUMMED)
    norms = []
    for _ in range(2):
        inputs, targets = draw_batch()
        optimizer.zero_grad()
        hidden, _ = model.encode(inputs)
        model.embedding.loss(hidden, targets, scale=1 / targets.numel()).backward()
        norms.append(float(optimizer.step(1e-12)))
    assert norms[0] == pytest.approx(norms[1], rel=RELATIVE)


def test_it_needs_something_to_clip_and_a_model_that_is_not_compiled():
    with pytest.raises(ValidationError, match="give clip_norm too"):
        SGDConfig(type="sgd", learning_rate=1.0, clip_lookups="unsummed")
    budget = {"epochs": 1, "batch_size": 4, "window": 10, "compile": True}
    with pytest.raises(ValidationError, match="compile: false"):
        TrainingConfig(**budget, optimizer=UNSUMMED)
