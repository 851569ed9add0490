"""Sparse lookups, fused loss and own optimizers against plain torch: after every step the same parameters."""

import copy

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tiebench.experiment.training_config import AdamWConfig, SGDConfig
from tiebench.models.language_model import LanguageModel, build_model, initialise_model
from tiebench.training.optimizers import build_optimizer, measure_norm
from tiebench.tying.tied import Tied

VOCABULARY, NUM_STEPS = 53, 5
OPTIONS = {
    "sgd": SGDConfig(type="sgd", learning_rate=0.5),
    "sgd, clipped": SGDConfig(type="sgd", learning_rate=0.5, clip_norm=0.1),
    "sgd, hardly clipped": SGDConfig(type="sgd", learning_rate=0.5, clip_norm=1000.0),
    "sgd, momentum": SGDConfig(type="sgd", learning_rate=0.3, momentum=0.9, clip_norm=0.1),
    "sgd, decay": SGDConfig(type="sgd", learning_rate=0.3, weight_decay=0.05, clip_norm=0.1),
    "sgd, momentum and decay": SGDConfig(type="sgd", learning_rate=0.3, momentum=0.5, weight_decay=0.05),
    "adamw": AdamWConfig(type="adamw", learning_rate=0.01, weight_decay=0.1),
    "adamw, epsilon": AdamWConfig(type="adamw", learning_rate=0.01, weight_decay=0.1, epsilon=1e-6),
    "adamw, clipped": AdamWConfig(type="adamw", learning_rate=0.01, betas=(0.8, 0.95), epsilon=1e-4, clip_norm=0.1),
}
# At the default epsilon of 1e-8 Adam divides gradients near zero by themselves: rounding in the ninth digit becomes
# 1.8e-6 in a parameter with our loss and 0.6e-6 with plain float32, both measured against float64.
ROUNDING = {"adamw": 5e-6}


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
        assert norm == pytest.approx(expected, rel=1e-4)
        for (key, found), wanted in zip(model.named_parameters(), plain.parameters(), strict=True):
            limits = {"rtol": 1e-5, "atol": ROUNDING.get(name, 1e-6)}
            torch.testing.assert_close(found, wanted, **limits, msg=lambda text: f"{index} {key}: {text}")


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
    exact = {"rtol": 1e-5, "atol": 1e-7} if precision == "fp32" else {"rtol": 0.05, "atol": 2e-4}
    torch.testing.assert_close(gradients[1], 2 * gradients[0], **exact)
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


def test_the_norm_of_millions_of_elements_is_that_of_float64():
    grads = [torch.randn(3_000_000, generator=torch.Generator().manual_seed(1)).view(-1, 200), torch.randn(7).t()]
    wanted = torch.cat([grad.double().flatten() for grad in grads]).norm().item()
    assert measure_norm(grads).item() == pytest.approx(wanted, rel=5e-6)  # torch's own vector_norm is 6e-5 off
