"""The gradient of each end of the embedding is the one that a model with two copies of the matrix gets."""

import pytest
import torch
from precision import bound_error
from torch.func import functional_call
from torch.nn import functional as F

from tiebench.experiment.training_config import AdamWConfig, SGDConfig
from tiebench.models.language_model import build_model, initialise_model
from tiebench.training.gradient_shares import add_gradients, measure_ends, take_share
from tiebench.training.optimizers import build_optimizer
from tiebench.training.train_state import TrainState

pytestmark = pytest.mark.numeric
VOCABULARY, NUM_TOKENS = 37, 24
OPTIMIZERS = [SGDConfig(type="sgd", learning_rate=1.0), AdamWConfig(type="adamw", learning_rate=0.1)]


def open_model(spec):
    model = build_model(spec, vocabulary_size=VOCABULARY)
    initialise_model(model, seed=1)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(3)  # ends of like size
    return model


def draw_batch():
    ids = torch.randint(VOCABULARY, (4, 7), generator=torch.Generator().manual_seed(3))
    return ids[:, :-1], ids[:, 1:]


def take_reference(model, twin) -> tuple[torch.Tensor, torch.Tensor]:
    """Plain autograd through an untied twin with the same values: its two gradients."""
    weights = dict(model.state_dict())
    if "embedding.shared" in weights:
        matrix = weights.pop("embedding.shared")
        weights |= {"embedding.input": matrix.clone(), "embedding.output": matrix.clone()}
    weights = {name: tensor.clone().requires_grad_() for name, tensor in weights.items()}
    inputs, targets = draw_batch()
    loss = F.cross_entropy(functional_call(twin, weights, (inputs,)).flatten(0, 1), targets.flatten())
    return torch.autograd.grad(loss, [weights["embedding.input"], weights["embedding.output"]])


@pytest.mark.parametrize("options", OPTIMIZERS, ids=lambda options: options.type)
@pytest.mark.parametrize("body", ["lstm", "gpt2"])
@pytest.mark.parametrize("tie", ["tied", "untied"])
@pytest.mark.parametrize("factor", [None, 5.0])
def test_each_end_is_measured_as_autograd_gives_it(factor, tie, body, options, make_arm):
    embedding = {"input_gradient_scale": factor, "input_scale": 2.0}
    model = open_model(make_arm(tie, architecture=body, embedding=embedding))
    twin = build_model(
        make_arm("untied", architecture=body, embedding={"input_scale": 2.0}), vocabulary_size=VOCABULARY
    )
    build_optimizer(model, options)
    model.embedding.lookups = []
    inputs, targets = draw_batch()
    for rows, wanted in zip(inputs.chunk(2), targets.chunk(2), strict=True):  # two micro-batches
        hidden, _ = model.encode(rows)
        model.embedding.loss(hidden, wanted, scale=1 / NUM_TOKENS).backward()
    of_input, of_output = take_reference(model, twin)
    of_input = of_input * (factor or 1.0)
    found = measure_ends(model.embedding)
    # what is off is a few roundings of a sum over tokens, vocabulary and width, each of at most the largest gradient
    limit = bound_error(NUM_TOKENS + VOCABULARY + 8 * 24, size=4.0)
    assert found.input_norm == pytest.approx(of_input.norm().item(), rel=limit)
    assert found.output_norm == pytest.approx(of_output.norm().item(), rel=limit)
    cosine = F.cosine_similarity(of_input.flatten(), of_output.flatten(), dim=0).item()
    assert found.cosine == pytest.approx(cosine, abs=limit)


def test_a_scaled_gradient_leaves_the_scores_as_they_are(make_arm):
    plain, scaled = (open_model(make_arm("tied", embedding={"input_gradient_scale": scale})) for scale in (None, 0.0))
    assert torch.equal(plain(draw_batch()[0]), scaled(draw_batch()[0]))


def test_the_share_is_that_of_the_means_since_the_evaluation_before(make_arm):
    state = TrainState()
    assert take_share(state) is None
    model = open_model(make_arm("tied"))
    build_optimizer(model, OPTIMIZERS[1])
    model.embedding.lookups = []
    inputs, targets = draw_batch()
    found = []
    for rows, wanted in zip(inputs.chunk(2), targets.chunk(2), strict=True):
        model.zero_grad()
        model.embedding.lookups.clear()
        hidden, _ = model.encode(rows)
        model.embedding.loss(hidden, wanted).backward()
        found.append(measure_ends(model.embedding))
        add_gradients(state, found[-1])
    share = take_share(state)
    assert share.num_steps == 2 and share.input_norm == pytest.approx(sum(each.input_norm for each in found) / 2)
    both = sum(each.input_norm + each.output_norm for each in found)
    assert share.of_output == pytest.approx(sum(each.output_norm for each in found) / both)
    assert share.cosine == pytest.approx(sum(each.cosine for each in found) / 2)
    assert take_share(state) is None, "it starts afresh"
