"""The loss with products in bfloat16, against float64: within what rounding to 8 significant bits may do, no more.

UNIT is the largest relative error of one rounding. With A the sum of |hidden| |weight| behind a score, plus |bias|, a
score is off by at most 2 UNIT A (the weights are rounded, then the product), which moves the logarithm of a
probability by at most twice that. An exponential is rounded once more, and its sum consists of such: 2 UNIT.
"""

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from tiebench.losses import tiles as module
from tiebench.losses.linear_cross_entropy import linear_cross_entropy, token_nll
from tiebench.losses.targets import IGNORED
from tiebench.losses.tiles import split_columns, split_rows
from tiebench.losses.workspace import Workspace

UNIT = 2**-8
TOKENS, WIDTH, VOCABULARY, SCALE = 37, 12, 150, 0.3


@pytest.fixture(params=["at once", "chunks of rows", "tiles of columns", "chunks and tiles"])
def pieces(request, monkeypatch):
    """The work in one piece, in 10 chunks of rows, in 5 tiles of the vocabulary, or both."""
    if "chunks" in request.param:
        monkeypatch.setattr(module, "MIN_ROWS", 4)
        monkeypatch.setattr(module, "BUFFER_BYTES", 0)
    if "tiles" in request.param:
        monkeypatch.setattr(module, "TILE_BYTES", 0)
        monkeypatch.setattr(module, "MIN_LINES", 1)
    hidden = torch.empty(TOKENS, WIDTH, dtype=torch.bfloat16)
    num_chunks = len(list(split_rows(TOKENS, num_columns=VOCABULARY, score_bytes=2)))
    num_tiles = len(list(split_columns(VOCABULARY, hidden=hidden)))
    assert (num_chunks, num_tiles) == (10 if "chunks" in request.param else 1, 5 if "tiles" in request.param else 1)


def draw(*shape: int, seed: int, spread: float) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)) * spread


def draw_problem(*, bias: bool, num_ignored: int) -> tuple[Tensor, nn.Parameter, nn.Parameter | None, Tensor]:
    hidden = draw(TOKENS, WIDTH, seed=1, spread=0.5).bfloat16().requires_grad_()
    offsets = nn.Parameter(draw(VOCABULARY, seed=3, spread=0.5)) if bias else None
    targets = torch.randint(VOCABULARY, (TOKENS,), generator=torch.Generator().manual_seed(5))
    targets[1 : 1 + num_ignored] = IGNORED
    return hidden, nn.Parameter(draw(VOCABULARY, WIDTH, seed=2, spread=0.5)), offsets, targets


@pytest.mark.parametrize("num_ignored", [0, 7], ids=["all kept", "some ignored"])
@pytest.mark.parametrize("bias", [False, True], ids=["no bias", "bias"])
def test_nats_and_gradients_are_off_by_no_more_than_roundings(pieces, bias, num_ignored):
    hidden, weight, offsets, targets = draw_problem(bias=bias, num_ignored=num_ignored)
    exact = [None if part is None else part.detach().double().requires_grad_() for part in (hidden, weight, offsets)]
    scores = functional.linear(*exact)
    nll = functional.cross_entropy(scores, targets, reduction="none", ignore_index=IGNORED)
    (SCALE * nll.sum()).backward()
    sizes = exact[0].abs() @ exact[1].abs().t() + (exact[2].abs() if bias else 0.0)
    off = 4 * UNIT * sizes.amax(1) + 2 * UNIT  # of the logarithm of a probability, by row

    workspace = Workspace()
    loss = linear_cross_entropy(hidden, weight, offsets, targets, scale=SCALE, workspace=workspace)
    loss.backward()
    found = token_nll(hidden, weight, offsets, targets, workspace=workspace)
    assert found.dtype == loss.dtype == weight.grad.dtype == torch.float32 and hidden.grad.dtype == torch.bfloat16
    assert ((found - nll).abs() <= off).all()
    assert abs(loss - SCALE * nll.sum()) <= SCALE * off[targets != IGNORED].sum()

    kept = (targets != IGNORED).double().unsqueeze(1) * SCALE
    wanted = functional.one_hot(targets.clamp(min=0), VOCABULARY) * kept
    probabilities = scores.detach().softmax(1) * kept
    # probability, factor, other side of the product and result are each rounded after that; a target's 1 twice
    errors = probabilities * (off.unsqueeze(1).exp() * (1 + UNIT) ** 4 - 1) + wanted * 2 * UNIT
    assert_within(hidden.grad, exact[0].grad, errors @ exact[1].detach().abs() + UNIT * exact[0].grad.abs())
    assert_within(weight.grad, exact[1].grad, errors.t() @ exact[0].detach().abs())
    if bias:
        assert_within(offsets.grad, exact[2].grad, errors.sum(0))


def assert_within(found: Tensor, exact: Tensor, bound: Tensor) -> None:
    assert ((found.double() - exact).abs() <= bound + 1e-6).all()
    assert bound.norm() < 0.5 * exact.norm(), "the bound says nothing"


def test_sums_of_exponentials_are_float32(pieces):
    """Of equal scores all exponentials are 1, and bfloat16 cannot say 1001."""
    hidden, weight = torch.zeros(TOKENS, WIDTH).bfloat16(), nn.Parameter(torch.ones(1001, WIDTH))
    targets = torch.arange(TOKENS)
    exact = torch.full((TOKENS,), 1001.0).log()
    loss = linear_cross_entropy(hidden, weight, None, targets, scale=1.0, workspace=Workspace())
    torch.testing.assert_close(loss, exact.sum())
    torch.testing.assert_close(token_nll(hidden, weight, None, targets, workspace=Workspace()), exact)


def test_hidden_gradients_add_up_over_tiles_in_float32(monkeypatch):
    """Of equal probabilities and weights each of 256 tiles adds the same: in bfloat16 sums would stop growing."""
    monkeypatch.setattr(module, "TILE_BYTES", 0)
    monkeypatch.setattr(module, "MIN_LINES", 1)
    size = 256 * 32
    hidden = torch.zeros(3, WIDTH).bfloat16().requires_grad_()
    weights = draw(size, WIDTH, seed=2, spread=1.0).abs().bfloat16().float()
    linear_cross_entropy(
        hidden, nn.Parameter(weights), None, torch.arange(3), scale=1.0, workspace=Workspace()
    ).backward()
    mean = weights.double().mean(0)
    bound = UNIT * mean + UNIT * (mean - weights[:3]).abs()  # each tile's product, and the result
    assert ((hidden.grad.double() - (mean - weights[:3])).abs() <= bound).all()


@pytest.mark.parametrize("num_calls", [1, 300], ids=["chunks", "calls"])
def test_table_gradients_add_up_over_rows_in_float32(num_calls, monkeypatch):
    """1200 rows in groups of 4 each add 4 / 512 to every word; from 1024 / 512 on, bfloat16 would add nothing."""
    monkeypatch.setattr(module, "MIN_ROWS", 4)
    monkeypatch.setattr(module, "BUFFER_BYTES", 0)
    hidden = torch.ones(1200, 1).bfloat16()
    weight, offsets = nn.Parameter(torch.zeros(512, 1)), nn.Parameter(torch.zeros(512))
    workspace = Workspace()
    for rows in hidden.chunk(num_calls):
        targets = torch.zeros(len(rows), dtype=torch.long)
        linear_cross_entropy(rows, weight, offsets, targets, scale=1.0, workspace=workspace)
    for gradient in (weight.grad[1:, 0], offsets.grad[1:]):
        torch.testing.assert_close(gradient, torch.full((511,), 1200 / 512))


def test_a_bias_keeps_more_bits_than_a_score():
    """A bias of 1 + 2^-9 is told from 1, although bfloat16 would not: the product's result alone is rounded."""
    hidden, weight, bias = torch.tensor([[1.0]]).bfloat16(), torch.zeros(1001, 1), torch.zeros(1001)
    weight[0], bias[0] = -1.0, 1 + 2.0**-9
    nll = token_nll(hidden, weight, bias, torch.tensor([0]), workspace=Workspace())
    exact = functional.cross_entropy((weight.t() + bias).double(), torch.tensor([0]))
    assert abs(nll - exact) < 2.0**-9 / 10
