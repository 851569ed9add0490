"""Sparse lookups, fused loss and own optimizers against plain torch: after every step the same parameters."""

import copy

import pytest
import torch
from precision import BFLOAT16_ROUNDING, FLOAT32_ROUNDING, bound_error
from torch import Tensor, nn
from torch.nn import functional as F

from tiebench.experiment.training_config import AdamWConfig, SGDConfig
from tiebench.models.language_model import LanguageModel, build_model, initialise_model
from tiebench.training.clipping import NORM_BLOCK, measure_norm
from tiebench.training.optimizers import build_optimizer
from tiebench.tying.tied import Tied

pytestmark = pytest.mark.numeric
VOCABULARY, WIDTH, NUM_TOKENS, NUM_STEPS = 53, 16, 28, 5
OPTIONS = {
    "sgd": SGDConfig(type="sgd", learning_rate=0.5),
    "sgd, clipped": SGDConfig(type="sgd", learning_rate=0.5, clip_norm=0.1),
    "sgd, hardly clipped": SGDConfig(type="sgd", learning_rate=0.5, clip_norm=1000.0),
    "sgd, momentum": SGDConfig(type="sgd", learning_rate=0.3, momentum=0.9, clip_norm=0.1),
    "sgd, decay": SGDConfig(type="sgd", learning_rate=0.3, weight_decay=0.05, clip_norm=0.1),
    "sgd, momentum and decay": SGDConfig(type="sgd", learning_rate=0.3, momentum=0.5, weight_decay=0.05),
    # A smaller epsilon would divide gradients near zero, and their rounding, by themselves.
    "adamw": AdamWConfig(type="adamw", learning_rate=0.01, weight_decay=0.1, epsilon=1e-2),
    "adamw, clipped": AdamWConfig(type="adamw", learning_rate=0.01, betas=(0.8, 0.95), epsilon=1e-2, clip_norm=0.1),
}
# An element of a gradient is a mean over the tokens of products of vectors of entries below 0.2 with probabilities and
# weights, each a sum over vocabulary or width. It is rounded once for each term, and moves a parameter by no more than
# twice itself at the rates here (up to four times with momentum, but then clipped).
GRADIENTS = bound_error(NUM_TOKENS + VOCABULARY + 4 * WIDTH, size=0.2)
PARAMETERS = {"rtol": 0.0, "atol": NUM_STEPS * 2 * GRADIENTS}


def build(spec) -> LanguageModel:
    model = build_model(spec, vocabulary_size=VOCABULARY)
    initialise_model(model, seed=1)
    return model


def draw_batches() -> list[tuple[Tensor, Tensor]]:
    """Batches in which words repeat and most of the vocabulary does not occur."""
    ids = torch.randint(VOCABULARY // 3, (NUM_STEPS, 4, 8), generator=torch.Generator().manual_seed(2))
    return [(rows[:, :-1], rows[:, 1:]) for rows in ids]


def build_plain(model: nn.Module, options: SGDConfig | AdamWConfig) -> torch.optim.Optimizer:
    parameters = list(model.parameters())
    if isinstance(options, SGDConfig):
        return torch.optim.SGD(parameters, momentum=options.momentum, weight_decay=options.weight_decay)
    groups = [
        {"params": [parameter for parameter in parameters if parameter.ndim > 1], "weight_decay": options.weight_decay},
        {"params": [parameter for parameter in parameters if parameter.ndim == 1], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, betas=options.betas, eps=options.epsilon)


def step_plainly(model: nn.Module, optimizer, batch, *, clip_norm: float | None, learning_rate: float) -> float:
    """The textbook's step: dense lookup, all scores, autograd, torch's own clipping and optimizer."""
    inputs, targets = batch
    optimizer.zero_grad()
    vectors = F.embedding(inputs, model.embedding.input_embedding)
    hidden, _ = model.architecture(vectors, None)
    scores = F.linear(hidden, model.embedding.output_embedding, model.embedding.output_bias)
    F.cross_entropy(scores.flatten(0, 1), targets.flatten()).backward()
    limit = float("inf") if clip_norm is None else clip_norm
    norm = torch.nn.utils.clip_grad_norm_(list(model.parameters()), limit)
    for group in optimizer.param_groups:
        group["lr"] = learning_rate
    optimizer.step()
    return float(norm)


def step_fused(model: LanguageModel, optimizer, batch, *, learning_rate: float) -> float:
    inputs, targets = batch
    optimizer.zero_grad()
    hidden, _ = model.encode(inputs)
    model.embedding.loss(hidden, targets, scale=1 / targets.numel()).backward()
    return float(optimizer.step(learning_rate))


@pytest.mark.parametrize("name", OPTIONS)
@pytest.mark.parametrize("tie", ["tied", "untied"])
def test_every_step_is_that_of_plain_torch(tie, name, make_arm):
    options = OPTIONS[name]
    model = build(make_arm(tie, embedding={"output_bias": True}))
    plain = copy.deepcopy(model)
    ours, theirs = build_optimizer(model, options), build_plain(plain, options)
    for index, batch in enumerate(draw_batches()):
        rate = options.learning_rate * (1 + 0.5 * index)
        norm = step_fused(model, ours, batch, learning_rate=rate)
        expected = step_plainly(plain, theirs, batch, clip_norm=options.clip_norm, learning_rate=rate)
        num_elements = sum(parameter.numel() for parameter in model.parameters())
        assert norm == pytest.approx(expected, abs=num_elements**0.5 * (index + 1) * GRADIENTS)
        for (key, found), wanted in zip(model.named_parameters(), plain.parameters(), strict=True):
            torch.testing.assert_close(
                found, wanted, **PARAMETERS, msg=lambda text, index=index, key=key: f"{index} {key}: {text}"
            )


def test_adamw_at_its_default_epsilon_is_torchs_given_the_same_gradients(make_arm):
    """It divides gradients near zero by themselves, so the gradients must be equal, not just close."""
    options = AdamWConfig(type="adamw", learning_rate=0.01, weight_decay=0.1)
    model = build(make_arm("untied", embedding={"output_bias": True}))
    plain = copy.deepcopy(model)
    ours, theirs = build_optimizer(model, options), build_plain(plain, options)
    for step in range(NUM_STEPS):
        for index, (one, other) in enumerate(zip(model.parameters(), plain.parameters(), strict=True)):
            generator = torch.Generator().manual_seed(10 * step + index)
            one.grad = torch.randn(one.shape, generator=generator) * 1e-8
            other.grad = one.grad.clone()
        rate = options.learning_rate * (1 + 0.5 * step)
        for group in theirs.param_groups:
            group["lr"] = rate
        ours.step(rate), theirs.step()
        for found, wanted in zip(model.parameters(), plain.parameters(), strict=True):
            largest = rate + float(wanted.detach().abs().max())
            limit = (step + 1) * bound_error(20, size=largest)  # some ten operations a step
            torch.testing.assert_close(found, wanted, rtol=0.0, atol=limit)


def test_momentum_belongs_to_its_parameter(make_arm):
    """A parameter that gets its first gradient later has a momentum of its own, also after a checkpoint."""
    found = []
    for resumed in (False, True):
        model = build(make_arm("untied", embedding={"output_bias": True}))
        options = OPTIONS["sgd, momentum and decay"]
        optimizer, plain = build_optimizer(model, options), copy.deepcopy(model)
        theirs = torch.optim.SGD(
            plain.parameters(), lr=0.3, momentum=options.momentum, weight_decay=options.weight_decay
        )
        for step in range(4):
            for trained in (model, plain):
                for number, parameter in enumerate(trained.parameters()):
                    parameter.grad = None if number == 0 and step < 2 else torch.full_like(parameter, 1e-3 * (step + 1))
            optimizer.step(0.3), theirs.step()
            if resumed:
                state = copy.deepcopy(optimizer.state_dict())
                optimizer = build_optimizer(model, options)
                optimizer.load_state_dict(state)
        for parameter, wanted in zip(model.parameters(), plain.parameters(), strict=True):
            torch.testing.assert_close(parameter, wanted)
        found.append([parameter.detach().clone() for parameter in model.parameters()])
    assert all(torch.equal(one, other) for one, other in zip(*found, strict=True))


def test_only_plain_sgd_on_two_tables_leaves_the_gradient_sparse(make_arm):
    found = {}
    for tie in ("tied", "untied"):
        for name in ("sgd", "sgd, momentum", "sgd, decay", "adamw"):
            model = build(make_arm(tie))
            step_fused(model, build_optimizer(model, OPTIONS[name]), draw_batches()[0], learning_rate=0.1)
            found[tie, name] = model.embedding.input_embedding.grad.is_sparse
    assert [key for key, is_sparse in found.items() if is_sparse] == [("untied", "sgd")]


class Doubled(Tied):
    """Both tables are computed from one parameter."""

    @property
    def input_embedding(self) -> Tensor:
        return 2 * self.shared

    @property
    def output_embedding(self) -> Tensor:
        return 2 * self.shared


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_tables_may_be_computed(precision, make_arm):
    """Twice the table is the table of twice the size: the same loss, and twice the gradient."""
    spec = make_arm("tied")
    plain, model = build(spec), build(spec)
    model.embedding = Doubled(spec.embedding, vocabulary_size=VOCABULARY, width=model.architecture.width)
    with torch.no_grad():
        model.embedding.shared.copy_(plain.embedding.shared / 2)
    gradients, norms = [], []
    for trained in (plain, model):
        optimizer = build_optimizer(trained, OPTIONS["sgd"])
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=precision == "bf16"):
            norms.append(step_fused(trained, optimizer, draw_batches()[0], learning_rate=0.0))
        gradients.append(trained.embedding.shared.grad)
    # In bfloat16 score, probability, weighed vector and product are rounded once each, and all but the last in sums
    # over tokens whose terms cancel by up to a half.
    largest = float(gradients[0].abs().max())
    limit = 2 * GRADIENTS if precision == "fp32" else bound_error(4, size=2 * 2 * largest, rounding=BFLOAT16_ROUNDING)
    torch.testing.assert_close(gradients[1], 2 * gradients[0], rtol=0.0, atol=limit)
    assert norms[1] > norms[0]


def test_under_autocast_the_scores_are_products_in_its_precision(make_arm):
    """A transformer's last norm leaves float32, and products into a buffer are not cast by themselves."""
    model = build(make_arm("tied", embedding={"output_projection": {}}))
    hidden = torch.randn(3, 4, model.architecture.width)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert model.embedding.project_hidden(hidden).dtype == torch.bfloat16
    assert model.embedding.project_hidden(hidden).dtype == torch.float32


def test_an_optimizer_goes_on_from_its_state(make_arm):
    for name in ("sgd, momentum", "adamw"):
        spec, batches = make_arm("untied"), draw_batches()
        model = build(spec)
        optimizer = build_optimizer(model, OPTIONS[name])
        for batch in batches[:2]:
            step_fused(model, optimizer, batch, learning_rate=0.1)
        twin = build(spec)
        twin.load_state_dict(model.state_dict())
        continued = build_optimizer(twin, OPTIONS[name])
        continued.load_state_dict(copy.deepcopy(optimizer.state_dict()))
        for batch in batches[2:]:
            step_fused(model, optimizer, batch, learning_rate=0.1)
            step_fused(twin, continued, batch, learning_rate=0.1)
        assert all(torch.equal(one, two) for one, two in zip(model.parameters(), twin.parameters(), strict=True)), name


def test_the_norm_counts_a_row_that_was_looked_up_twice_once():
    table = nn.Parameter(torch.ones(5, 2))
    F.embedding(torch.tensor([3, 3]), table, sparse=True).sum().backward()
    assert measure_norm([table.grad.coalesce()]) == pytest.approx(8**0.5)  # a row (2, 2), not (1, 1) twice


def draw_vector(kind: str, num_elements: int) -> Tensor:
    if kind == "normal":
        return torch.randn(num_elements, generator=torch.Generator().manual_seed(1))
    vector = torch.full((num_elements,), {"equal": 1 / 3, "alternating": 1e-3, "one large": 1e-4}[kind])
    if kind == "alternating":
        vector[::2] = 1.0
    elif kind == "one large":  # after it, each small square is lost or rounded up against the sum so far
        vector[0] = 1.0
    return vector


@pytest.mark.parametrize("kind", ["normal", "equal", "alternating", "one large"])
def test_the_norm_of_millions_of_elements_is_that_of_float64(kind):
    """A block's float32 sum of squares has one rounding for each element, in whatever order, and its root halves it.

    The root itself is rounded once more, and the sum of the blocks is in float64. A float32 sum over all of them would
    not keep this bound.
    """
    bound = (NORM_BLOCK / 2 + 1) * FLOAT32_ROUNDING
    vector = draw_vector(kind, 3_000_017)
    grads = [vector[:3_000_000].view(-1, 200), vector[3_000_000:], vector[:12].view(3, 4).t()]
    wanted = torch.cat([grad.double().flatten() for grad in grads]).square().sum().sqrt().item()
    assert measure_norm(grads).item() == pytest.approx(wanted, rel=bound)
