"""The augmented loss a few rows at a time against the same in plain products of whole matrices, through autograd."""

import pytest
import torch
from precision import bound_error
from torch import Tensor, nn
from torch.nn import functional as F

from tiebench.losses import tiles as module
from tiebench.losses.augmented_loss import NUM_BUFFERS, augmented_cross_entropy
from tiebench.losses.targets import IGNORED
from tiebench.losses.workspace import Workspace
from tiebench.training.objective import measure_similarity_divergence

pytestmark = pytest.mark.numeric
TOKENS, WIDTH, VOCABULARY = 23, 6, 41
SETTINGS = {"temperature": 3.0, "gamma": 0.6, "scale": 0.3}
# Scores of normal vectors are sums of WIDTH products whose absolute values sum to less than 20. What a score is off, a
# probability is off relatively, and again through its denominator; three distributions meet in each gradient. There
# probabilities weigh vectors of entries below 4, and over the tokens no word gathers more than 4 of them. The loss is
# a sum over the tokens of at most 20 nats each.
PROBABILITY = 3 * (2 * bound_error(WIDTH, size=20) + bound_error(VOCABULARY + TOKENS))
GRADIENTS = {"rtol": 0.0, "atol": 4 * 4 * PROBABILITY * SETTINGS["scale"]}
LOSSES = {"rtol": 0.0, "atol": TOKENS * (PROBABILITY + bound_error(TOKENS, size=20))}


@pytest.fixture(params=["at once", "chunks of rows"])
def chunks(request, monkeypatch):
    if request.param == "chunks of rows":
        monkeypatch.setattr(module, "MIN_ROWS", 4)
        monkeypatch.setattr(module, "BUFFER_BYTES", NUM_BUFFERS * 5 * 4 * VOCABULARY)
    num_chunks = len(list(module.split_rows(TOKENS, num_columns=NUM_BUFFERS * VOCABULARY)))
    assert num_chunks == (1 if request.param == "at once" else 5)


def draw(*shape: int, seed: int) -> nn.Parameter:
    return nn.Parameter(torch.randn(shape, generator=torch.Generator().manual_seed(seed)))


def draw_targets(num_ignored: int = 0) -> Tensor:
    targets = torch.randint(VOCABULARY, (TOKENS,), generator=torch.Generator().manual_seed(5))
    targets[1 : 1 + num_ignored] = IGNORED
    return targets


def compute_plainly(
    hidden: Tensor, weight: Tensor, bias: Tensor | None, targets: Tensor, *, input_weight: Tensor
) -> tuple[Tensor, Tensor]:
    kept = targets != IGNORED
    scores, targets = hidden[kept] @ weight.t(), targets[kept]
    nll = F.cross_entropy(scores if bias is None else scores + bias, targets, reduction="sum")
    divergence = measure_similarity_divergence(
        scores, targets, matrix=input_weight, temperature=SETTINGS["temperature"]
    )
    return SETTINGS["scale"] * (nll + SETTINGS["gamma"] * SETTINGS["temperature"] * divergence), nll


@pytest.mark.parametrize("num_ignored", [0, 7], ids=["all kept", "some ignored"])
@pytest.mark.parametrize("with_bias", [False, True], ids=["no bias", "bias"])
@pytest.mark.parametrize("tied", [False, True], ids=["untied", "tied"])
def test_loss_and_every_gradient(chunks, tied, with_bias, num_ignored):
    hidden, weight = draw(TOKENS, WIDTH, seed=1), draw(VOCABULARY, WIDTH, seed=2)
    input_weight = weight if tied else draw(VOCABULARY, WIDTH, seed=4)
    bias = draw(VOCABULARY, seed=3) if with_bias else None
    targets, workspace = draw_targets(num_ignored), Workspace()
    leaves = [leaf for leaf in (hidden, weight, bias) if leaf is not None]
    loss, nll = compute_plainly(hidden, weight, bias, targets, input_weight=input_weight)
    expected = torch.autograd.grad(loss, leaves)
    for _ in range(2):  # the second time in the first one's buffers
        for leaf in leaves:
            leaf.grad = None
        found, found_nll = augmented_cross_entropy(
            hidden, weight, bias, targets, input_weight=input_weight, workspace=workspace, **SETTINGS
        )
        found.backward()
        torch.testing.assert_close(found, loss, **LOSSES)
        torch.testing.assert_close(found_nll, nll.detach(), **LOSSES)
        assert not found_nll.requires_grad
        for leaf, gradient in zip(leaves, expected, strict=True):
            torch.testing.assert_close(leaf.grad, gradient, **GRADIENTS)
        assert tied or input_weight.grad is None


def test_a_computed_table_gets_its_gradient():
    hidden, root, targets = draw(TOKENS, WIDTH, seed=1), draw(VOCABULARY, WIDTH, seed=2), draw_targets()
    loss, _ = compute_plainly(hidden, -root, None, targets, input_weight=root)
    (expected,) = torch.autograd.grad(loss, root)
    found, _ = augmented_cross_entropy(
        hidden, -root, None, targets, input_weight=root, workspace=Workspace(), **SETTINGS
    )
    found.backward()
    torch.testing.assert_close(root.grad, expected, **GRADIENTS)


def test_gradients_add_up_over_calls():
    weight, workspace = draw(VOCABULARY, WIDTH, seed=2), Workspace()
    for seed in (1, 6):
        augmented_cross_entropy(
            draw(TOKENS, WIDTH, seed=seed),
            weight,
            None,
            draw_targets(),
            input_weight=weight,
            workspace=workspace,
            **SETTINGS,
        )[0].backward()
    total = weight.grad.clone()
    losses = [
        compute_plainly(draw(TOKENS, WIDTH, seed=seed), weight, None, draw_targets(), input_weight=weight)[0]
        for seed in (1, 6)
    ]
    torch.testing.assert_close(total, torch.autograd.grad(sum(losses), weight)[0], **GRADIENTS)


def test_large_scores_are_no_trouble():
    hidden, weight = draw(TOKENS, WIDTH, seed=1), draw(VOCABULARY, WIDTH, seed=2)
    with torch.no_grad():
        hidden *= 300
    loss, _ = compute_plainly(hidden, weight, None, draw_targets(), input_weight=weight)
    found, _ = augmented_cross_entropy(
        hidden, weight, None, draw_targets(), input_weight=weight, workspace=Workspace(), **SETTINGS
    )
    # a sum of sums, whose terms' absolute values sum to less than four times the loss
    torch.testing.assert_close(found, loss, rtol=bound_error(WIDTH + TOKENS, size=4.0), atol=0.0)


def test_a_factor_afterwards_is_refused():
    hidden, weight = draw(TOKENS, WIDTH, seed=1), draw(VOCABULARY, WIDTH, seed=2)
    loss, _ = augmented_cross_entropy(
        hidden, weight, None, draw_targets(), input_weight=weight, workspace=Workspace(), **SETTINGS
    )
    with pytest.raises(RuntimeError, match="give the factor as `scale`"):
        (2 * loss).backward()


def test_a_step_takes_no_fresh_memory_for_scores(fresh_memory):
    """256 rows of 40,000 words in four buffers: two chunks, in memory that was there at the step before."""
    size = 40_000
    hidden, weight, workspace = draw(400, 4, seed=1), draw(size, 4, seed=2), Workspace()
    targets = torch.arange(400)

    def train() -> None:
        weight.grad = hidden.grad = None
        loss, _ = augmented_cross_entropy(
            hidden, weight, None, targets, input_weight=weight, workspace=workspace, **SETTINGS
        )
        loss.backward()

    train()
    with fresh_memory() as fresh:
        train()
    assert 0 < fresh.most_bytes < size * 4 * 4, fresh.by
    assert sum(row.nbytes for row in workspace._scratch.values()) <= max(128 * 2**20, 4 * 256 * size * 4)


def test_what_needs_no_gradient_gets_none_and_under_no_grad_nothing_does(chunks):
    hidden, weight, bias = draw(TOKENS, WIDTH, seed=1), draw(VOCABULARY, WIDTH, seed=2), draw(VOCABULARY, seed=3)
    targets, options = draw_targets(), {"input_weight": weight, "workspace": Workspace(), **SETTINGS}
    expected, nll = compute_plainly(hidden, weight, bias, targets, input_weight=weight)
    with torch.no_grad():
        found = augmented_cross_entropy(hidden, weight, bias, targets, **options)
    torch.testing.assert_close(found, (expected.detach(), nll.detach()), **LOSSES)
    assert weight.grad is bias.grad is hidden.grad is None
    for frozen, trained in ((weight, bias), (bias, weight)):
        frozen.requires_grad_(False), trained.requires_grad_(True)
        loss, _ = augmented_cross_entropy(hidden, weight, bias, targets, **options)
        loss.backward()
        assert frozen.grad is None and trained.grad is not None
        trained.grad = None
    (wanted,) = torch.autograd.grad(compute_plainly(hidden, weight, bias, targets, input_weight=weight)[0], hidden)
    torch.testing.assert_close(hidden.grad, 2 * wanted, **GRADIENTS)
