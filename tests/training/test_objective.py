"""What a step minimises, worked out by hand: two conventions of averaging, the penalty, the augmented loss."""

import math

import pytest
import torch
from precision import bound_error
from torch import Tensor

from tiebench.experiment.training_config import AugmentedConfig, CrossEntropyConfig
from tiebench.models.language_model import LanguageModel, build_model, initialise_model
from tiebench.training.objective import choose_scale, compute_loss, compute_penalty, measure_similarity_divergence

pytestmark = pytest.mark.numeric
VOCABULARY, BATCH, WINDOW, WIDTH = 11, 4, 5, 16
# Roundings of a gradient, which is a sum over the tokens, and the vocabulary, of vectors that stand on sums over the
# width. Terms of both signs cancel to no less than a fourth in its largest element.
NUM_ROUNDINGS = BATCH * WINDOW + VOCABULARY + 4 * WIDTH
BUDGET = {"steps": 1, "batch_size": BATCH, "window": WINDOW, "optimizer": {"type": "sgd", "learning_rate": 0.1}}
PLAIN = CrossEntropyConfig(type="cross_entropy")

# Three words with two-dimensional vectors, and the scores of two positions.
TABLE = [[1.0, 0.0], [0.5, 2.0], [-1.0, 1.0]]
SCORES = [[0.3, -1.2, 2.0], [1.5, 0.0, -0.7]]
TARGETS = [1, 2]
TEMPERATURE = 2.0


def build(spec) -> LanguageModel:
    model = build_model(spec, vocabulary_size=VOCABULARY)
    initialise_model(model, seed=1)
    return model


def take_gradients(model: LanguageModel, training, *, objective=PLAIN) -> list[Tensor]:
    ids = torch.randint(VOCABULARY, (BATCH, WINDOW + 1), generator=torch.Generator().manual_seed(1))
    hidden, _ = model.encode(ids[:, :-1])
    scale = choose_scale(training, num_tokens=BATCH * WINDOW)
    loss, _ = compute_loss(model, hidden, ids[:, 1:], objective=objective, scale=scale)
    loss.backward()
    return [parameter.grad for parameter in model.parameters()]


def assert_as_rounded(found: Tensor, expected: Tensor) -> None:
    limit = bound_error(NUM_ROUNDINGS, size=4 * float(expected.abs().max()))
    torch.testing.assert_close(found, expected, rtol=0.0, atol=limit)


def soften(values: list[float]) -> list[float]:
    powers = [math.exp(value / TEMPERATURE) for value in values]
    return [power / sum(powers) for power in powers]


def diverge(wanted: list[float], found: list[float]) -> float:
    return sum(p * math.log(p / q) for p, q in zip(wanted, found, strict=True))


def measure_by_hand() -> float:
    """The sum over positions of KL(y~ || y^), in plain floats (Inan et al. 2017, equations 3.2 to 3.4)."""
    total = 0.0
    for scores, target in zip(SCORES, TARGETS, strict=True):
        similarities = [sum(a * b for a, b in zip(row, TABLE[target], strict=True)) for row in TABLE]
        total += diverge(soften(similarities), soften(scores))
    return total


def test_a_sum_over_the_window_is_the_mean_times_the_window(make_arm):
    specs = [make_arm(training={**BUDGET, "reduction": reduction}) for reduction in ("token_mean", "window_sum")]
    mean, total = (take_gradients(build(spec), spec.training) for spec in specs)
    for small, large in zip(mean, total, strict=True):
        assert_as_rounded(large, small * WINDOW)


def test_the_reported_nats_do_not_depend_on_the_scale(make_arm):
    model = build(make_arm())
    ids = torch.arange(BATCH * WINDOW).view(BATCH, WINDOW) % VOCABULARY
    hidden, _ = model.encode(ids)
    for objective in (PLAIN, AugmentedConfig(type="augmented")):
        reported = [compute_loss(model, hidden, ids, objective=objective, scale=scale)[1] for scale in (1.0, 0.01)]
        rounded = {"rtol": bound_error(NUM_ROUNDINGS), "atol": 0.0}  # a sum of positive terms
        torch.testing.assert_close(reported[0], reported[1], **rounded)
        expected = torch.nn.functional.cross_entropy(
            model.embedding.logits(hidden).flatten(0, 1), ids.flatten(), reduction="sum"
        )
        torch.testing.assert_close(reported[0], expected, **rounded)


@pytest.mark.parametrize("reduction", ["window_sum", "token_mean"])
@pytest.mark.parametrize("form", ["paper", "code"])
def test_the_penalty_in_both_forms(form, reduction, make_arm):
    """Press & Wolf 2017, section 3: lambda ||P||, or what their program has: half its square over the batch size."""
    embedding = {"output_projection": {"penalty": 0.15, "form": form}}
    spec = make_arm(embedding=embedding, training={**BUDGET, "reduction": reduction})
    model = build(spec)
    with torch.no_grad():
        model.embedding.output_projection.weight.zero_()
        model.embedding.output_projection.weight[0, :2] = torch.tensor([3.0, 4.0])
    penalty = compute_penalty(model, spec.training)
    by_hand = {"paper": 0.15 * 5.0, "code": 0.15 * 25.0 / (2 * BATCH)}[form]
    assert penalty.item() == pytest.approx(by_hand / (WINDOW if reduction == "token_mean" else 1))
    penalty.backward()
    assert model.embedding.output_projection.weight.grad[0, 0] > 0


def test_no_penalty_where_none_was_asked_for(make_arm):
    for embedding in ({}, {"output_projection": {}}, {"width": 8}):
        spec = make_arm(embedding=embedding)
        assert compute_penalty(build(spec), spec.training) is None


def test_the_divergence_is_the_one_worked_out_by_hand():
    found = measure_similarity_divergence(
        torch.tensor(SCORES), torch.tensor(TARGETS), matrix=torch.tensor(TABLE), temperature=TEMPERATURE
    )
    assert float(found) == pytest.approx(measure_by_hand(), rel=1e-5)


def test_swapped_arguments_would_be_seen():
    """The example tells the two directions of the divergence, and the two tables' uses, apart."""
    swapped = 0.0
    for scores, target in zip(SCORES, TARGETS, strict=True):
        similarities = [sum(a * b for a, b in zip(row, TABLE[target], strict=True)) for row in TABLE]
        swapped += diverge(soften(scores), soften(similarities))
    assert abs(swapped - measure_by_hand()) > 0.01 * measure_by_hand()


def test_no_gradient_flows_through_the_target():
    table, scores = torch.tensor(TABLE, requires_grad=True), torch.tensor(SCORES, requires_grad=True)
    measure_similarity_divergence(scores, torch.tensor(TARGETS), matrix=table, temperature=TEMPERATURE).backward()
    assert table.grad is None
    wanted = [
        soften([sum(a * b for a, b in zip(row, TABLE[target], strict=True)) for row in TABLE]) for target in TARGETS
    ]
    expected = (torch.tensor([soften(row) for row in SCORES]) - torch.tensor(wanted)) / TEMPERATURE
    torch.testing.assert_close(scores.grad, expected)


@pytest.mark.parametrize("tie", ["tied", "untied"])
def test_the_augmented_loss_is_cross_entropy_plus_gamma_tau_divergence(tie, make_arm):
    spec = make_arm(tie, embedding={"output_bias": True, "init": {"uniform": 1.0}})
    model, objective = build(spec), AugmentedConfig(type="augmented", temperature=3.0, gamma=0.25)
    torch.nn.init.normal_(model.embedding.output_bias)
    hidden, targets = torch.randn(2, 3, 16), torch.tensor([[1, 2, 3], [4, 5, 10]])
    loss, nats = compute_loss(model, hidden, targets, objective=objective, scale=0.5)
    scores = hidden.flatten(0, 1) @ model.embedding.output_embedding.t()  # the paper's distance knows no bias
    divergence = measure_similarity_divergence(
        scores, targets.flatten(), matrix=model.embedding.input_embedding, temperature=3.0
    )
    # six tokens, whose nats and divergence stand on scores, similarities and sums of probabilities
    limit = 6 * 2 * bound_error(WIDTH + VOCABULARY, size=20.0)
    torch.testing.assert_close(loss, 0.5 * (nats + 0.25 * 3.0 * divergence), rtol=0.0, atol=limit)
    assert divergence.item() > 0.1


def test_without_weight_the_augmented_loss_has_the_plain_gradient(make_arm):
    spec = make_arm(training=BUDGET)
    plain = take_gradients(build(spec), spec.training)
    augmented = take_gradients(build(spec), spec.training, objective=AugmentedConfig(type="augmented", gamma=0.0))
    for one, other in zip(plain, augmented, strict=True):
        assert_as_rounded(one, other)
