"""The fused loss against `F.cross_entropy(F.linear(...))`: the same loss, the same gradient of everything."""

import copy
import math
import shutil

import pytest
import torch
from precision import BFLOAT16_ROUNDING, bound_error
from torch import Tensor, nn
from torch.nn import functional as F

from tiebench.losses import tiles as module
from tiebench.losses.linear_cross_entropy import linear_cross_entropy, token_nll
from tiebench.losses.targets import IGNORED
from tiebench.losses.tiles import split_columns, split_rows
from tiebench.losses.workspace import Workspace

pytestmark = pytest.mark.numeric
TOKENS, WIDTH, VOCABULARY = 23, 6, 41


@pytest.fixture(
    params=["at once", "chunks of rows", "tiles of columns", "chunks and tiles", "whole", "whole in chunks"]
)
def chunks(request, monkeypatch):
    """The work cut as a large vocabulary cuts it: by tokens, by words, both, or not at all; and as a GPU does it."""
    if "whole" in request.param:
        monkeypatch.setattr("tiebench.losses.linear_cross_entropy.has_tiles", lambda hidden: False)
        monkeypatch.setattr(
            "tiebench.losses.whole_rows.SCORE_BYTES", 2**30 if request.param == "whole" else 20 * VOCABULARY
        )
        return
    if "chunks" in request.param:
        monkeypatch.setattr(module, "MIN_ROWS", 4)
        monkeypatch.setattr(module, "BUFFER_BYTES", 5 * 4 * VOCABULARY)
    if "tiles" in request.param:
        monkeypatch.setattr(module, "TILE_BYTES", 0)
        monkeypatch.setattr(module, "MIN_LINES", 1)
    num_chunks = len(list(split_rows(TOKENS, num_columns=VOCABULARY)))
    num_tiles = len(list(split_columns(VOCABULARY, hidden=torch.empty(TOKENS, WIDTH))))
    assert (num_chunks, num_tiles) == (5 if "chunks" in request.param else 1, 3 if "tiles" in request.param else 1)


def draw(*shape: int, seed: int, spread: float = 1.0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)) * spread


def draw_targets(*, num_ignored: int = 0) -> Tensor:
    targets = torch.randint(VOCABULARY, (TOKENS,), generator=torch.Generator().manual_seed(5))
    targets[1 : 1 + num_ignored] = IGNORED
    return targets


def draw_inputs(*, bias: bool, spread: float = 1.0) -> tuple[nn.Parameter, nn.Parameter, nn.Parameter | None]:
    offsets = nn.Parameter(draw(VOCABULARY, seed=3)) if bias else None
    hidden = nn.Parameter(draw(TOKENS, WIDTH, seed=1, spread=spread))
    return hidden, nn.Parameter(draw(VOCABULARY, WIDTH, seed=2)), offsets


def plain_nats(hidden: Tensor, weight: Tensor, bias: Tensor | None, targets: Tensor) -> Tensor:
    return F.cross_entropy(F.linear(hidden, weight, bias), targets, reduction="none", ignore_index=IGNORED)


class Bounds:
    """How far the loss and its gradients may lie from another computation of the same in float32.

    A score is a sum of WIDTH products and a bias; what it is off, a probability is off relatively, and again through
    its denominator, a sum over the vocabulary. Gradients are sums of vectors weighed by probabilities. In bfloat16
    sums are in float32, but scores, probabilities, weighed vectors and products are each rounded once.
    """

    def __init__(self, hidden: Tensor, weight: Tensor, bias: Tensor | None, targets: Tensor) -> None:
        is_half, hidden, weight = hidden.dtype == torch.bfloat16, hidden.detach().double(), weight.detach().double()
        offsets = torch.zeros(len(weight)).double() if bias is None else bias.detach().double()
        kept = (targets != IGNORED).unsqueeze(1)
        scores, size = hidden @ weight.t(), float((hidden.abs() @ weight.abs().t() + offsets.abs()).max())
        score = bound_error(WIDTH + 1, size=size) + is_half * BFLOAT16_ROUNDING * float(scores.abs().max())
        sums = bound_error(VOCABULARY + 2)
        self.nll = 2 * score + sums + bound_error(2, size=size)
        self.loss = TOKENS * self.nll + bound_error(TOKENS, size=TOKENS * size)
        self.factor = math.expm1(2 * score) + sums + bound_error(TOKENS + VOCABULARY) + is_half * 3 * BFLOAT16_ROUNDING
        chances = ((scores + offsets).softmax(1) + F.one_hot(targets.clamp(min=0), len(weight))) * kept
        self.hidden = self.factor * float((chances @ weight.abs()).max())
        self.columns = self.factor * (chances.t() @ hidden.abs()).amax(0)  # of the weight's gradient
        self.weight, self.bias = float(self.columns.max()), self.factor * float(chances.sum(0).max())

    def of_gradients(self, *, bias: bool) -> list[float]:
        """Those of hidden vectors, weight and, with it, bias."""
        return [self.hidden, self.weight, self.bias][: 2 + bias]


def assert_within(found: Tensor, expected: Tensor, bound: float) -> None:
    torch.testing.assert_close(found.double(), expected.detach().double(), rtol=0, atol=bound)


@pytest.mark.parametrize("bias", [False, True], ids=["no bias", "bias"])
@pytest.mark.parametrize("num_ignored", [0, 7, TOKENS], ids=["all kept", "some ignored", "all but one ignored"])
def test_loss_and_every_gradient(chunks, bias, num_ignored):
    hidden, weight, offsets = draw_inputs(bias=bias)
    targets = draw_targets(num_ignored=num_ignored)
    leaves = [leaf for leaf in (hidden, weight, offsets) if leaf is not None]
    nll = plain_nats(hidden, weight, offsets, targets)
    expected = torch.autograd.grad(0.3 * nll.sum(), leaves)
    loss = linear_cross_entropy(hidden, weight, offsets, targets, scale=0.3, workspace=Workspace())
    loss.backward()
    bounds = Bounds(hidden, weight, offsets, targets)
    assert_within(loss, 0.3 * nll.sum(), 0.3 * bounds.loss)
    for leaf, gradient, bound in zip(leaves, expected, bounds.of_gradients(bias=bias), strict=True):
        assert_within(leaf.grad, gradient, 0.3 * bound)
    found = token_nll(hidden, weight, offsets, targets, workspace=Workspace())
    assert_within(found, nll, bounds.nll)
    assert not found[targets == IGNORED].any()


@pytest.mark.parametrize("sparse", [False, True])
def test_a_table_at_both_ends_gets_the_sum(chunks, sparse):
    """The lookup's gradient arrives after the loss has written its own, sparse or dense."""
    weight = nn.Parameter(draw(VOCABULARY, WIDTH, seed=2))
    tokens, targets = draw_targets().flip(0), draw_targets()
    plain = plain_nats(F.embedding(tokens, weight).tanh(), weight, None, targets).sum()
    (expected,) = torch.autograd.grad(plain, weight)
    hidden = F.embedding(tokens, weight, sparse=sparse).tanh()
    linear_cross_entropy(hidden, weight, None, targets, scale=1.0, workspace=Workspace()).backward()
    assert not weight.grad.is_sparse
    bounds = Bounds(hidden, weight, None, targets)
    assert_within(weight.grad, expected, bounds.weight + TOKENS * bounds.hidden)  # a word may be all the inputs


def test_a_table_that_is_computed_passes_its_gradient_on(chunks):
    """A tie may score with a function of a parameter; the parameter gets what autograd would give it."""
    hidden, weight, offsets = draw_inputs(bias=True)
    mixing, targets, workspace = nn.Parameter(draw(WIDTH, WIDTH, seed=9)), draw_targets(num_ignored=3), Workspace()
    leaves = (hidden, weight, mixing, offsets)
    expected = torch.autograd.grad(0.3 * plain_nats(hidden, weight @ mixing, offsets, targets).sum(), leaves)
    for _ in range(2):
        for leaf in leaves:
            leaf.grad = None
        linear_cross_entropy(hidden, weight @ mixing, offsets, targets, scale=0.3, workspace=workspace).backward()
        bounds = Bounds(hidden, weight @ mixing, offsets, targets)
        through = [2 * float(matrix.detach().abs().sum(dim).max()) for matrix, dim in ((mixing, 1), (weight, 0))]
        limits = (bounds.hidden, *(bounds.weight * factor for factor in through), bounds.bias)  # 2: sums of its own
        for leaf, gradient, bound in zip(leaves, expected, limits, strict=True):
            assert_within(leaf.grad, gradient, 0.3 * bound)


def test_what_needs_no_gradient_gets_none_and_hidden_vectors_still_do(chunks):
    """A tie may score with a weight that is never trained; an optimizer must not find a gradient there."""
    hidden, weight, offsets = draw_inputs(bias=True)
    targets = draw_targets(num_ignored=3)
    (expected,) = torch.autograd.grad(plain_nats(hidden, weight, offsets, targets).sum(), hidden)
    for frozen, trained in ((weight, offsets), (offsets, weight)):
        hidden.grad = None
        frozen.requires_grad_(False), trained.requires_grad_(True)
        linear_cross_entropy(hidden, weight, offsets, targets, scale=1.0, workspace=Workspace()).backward()
        assert frozen.grad is None and trained.grad is not None
        assert_within(hidden.grad, expected, Bounds(hidden, weight, offsets, targets).hidden)
        trained.grad = None


def test_without_autograd_there_is_a_loss_and_no_gradient(chunks):
    hidden, weight, offsets = draw_inputs(bias=True)
    targets = draw_targets(num_ignored=3)
    with torch.no_grad():
        loss = linear_cross_entropy(hidden, weight, offsets, targets, scale=0.3, workspace=Workspace())
    bound = 0.3 * Bounds(hidden, weight, offsets, targets).loss
    assert_within(loss, 0.3 * plain_nats(hidden, weight, offsets, targets).sum(), bound)
    assert weight.grad is offsets.grad is hidden.grad is None


@pytest.mark.parametrize("bias", [False, True], ids=["no bias", "bias"])
def test_gradients_add_up_over_two_calls_and_begin_anew_after(chunks, bias):
    hidden, weight, offsets = draw_inputs(bias=bias)
    targets, workspace = draw_targets(), Workspace()
    leaves = [leaf for leaf in (hidden, weight, offsets) if leaf is not None]
    expected = torch.autograd.grad(plain_nats(hidden, weight, offsets, targets).sum(), leaves)
    for _ in range(3):
        for leaf in leaves:
            leaf.grad = None
        for rows in (slice(0, 9), slice(9, TOKENS)):
            loss = linear_cross_entropy(hidden[rows], weight, offsets, targets[rows], scale=1.0, workspace=workspace)
            loss.backward()
        bounds = Bounds(hidden, weight, offsets, targets).of_gradients(bias=bias)
        for leaf, gradient, bound in zip(leaves, expected, bounds, strict=True):
            assert_within(leaf.grad, gradient, bound)


def test_a_gradient_that_was_no_number_is_forgotten():
    hidden, weight, offsets = draw_inputs(bias=True)
    targets, workspace = draw_targets(), Workspace()
    expected = torch.autograd.grad(plain_nats(hidden, weight, offsets, targets).sum(), (weight, offsets))
    linear_cross_entropy(hidden * float("nan"), weight, offsets, targets, scale=1.0, workspace=workspace)
    assert weight.grad.isnan().any() and offsets.grad.isnan().any()
    weight.grad = offsets.grad = None
    linear_cross_entropy(hidden, weight, offsets, targets, scale=1.0, workspace=workspace)
    bounds = Bounds(hidden, weight, offsets, targets)
    assert_within(weight.grad, expected[0], bounds.weight)
    assert_within(offsets.grad, expected[1], bounds.bias)


@pytest.mark.parametrize("bias", [False, True], ids=["no bias", "bias"])
def test_bfloat16_is_off_by_no_more_than_it_rounds(chunks, bias):
    """Against float32 of the same rounded vectors and weight."""
    hidden, weight, offsets = draw_inputs(bias=bias)
    rounded = nn.Parameter(hidden.detach().bfloat16())
    with torch.no_grad():
        hidden.copy_(rounded), weight.copy_(weight.bfloat16())
    targets = draw_targets(num_ignored=3)
    nll = plain_nats(hidden, weight, offsets, targets)
    leaves = [leaf for leaf in (hidden, weight, offsets) if leaf is not None]
    expected = torch.autograd.grad(nll.sum(), leaves)
    loss = linear_cross_entropy(rounded, weight, offsets, targets, scale=1.0, workspace=Workspace())
    loss.backward()
    bounds = Bounds(rounded, weight, offsets, targets)
    assert loss.dtype == weight.grad.dtype == torch.float32
    assert_within(loss, nll.sum(), bounds.loss)
    found = [leaf.grad for leaf in (rounded, weight, offsets) if leaf is not None]
    for gradient, exact, bound in zip(found, expected, bounds.of_gradients(bias=bias), strict=True):
        assert bound < 0.2 * exact.abs().max(), "a bound that says something"
        assert_within(gradient, exact, bound)
    per_token = token_nll(rounded, weight, offsets, targets, workspace=Workspace())
    assert per_token.dtype == torch.float32
    assert_within(per_token, nll, bounds.nll)


@pytest.mark.parametrize("bias", [False, True], ids=["no bias", "bias"])
def test_improbable_targets_keep_their_nats(chunks, bias):
    """Above 88 nats, exp underflows in float32: a logarithm of the probability would be infinite."""
    hidden, weight, offsets = draw_inputs(bias=bias, spread=150.0)
    targets = draw_targets(num_ignored=2)
    nll = plain_nats(hidden, weight, offsets, targets)
    assert (nll > 90).sum() > 5
    expected = torch.autograd.grad(nll.sum(), (hidden, weight))
    loss = linear_cross_entropy(hidden, weight, offsets, targets, scale=1.0, workspace=Workspace())
    loss.backward()
    bounds = Bounds(hidden, weight, offsets, targets)
    assert_within(loss, nll.sum(), bounds.loss)
    assert_within(hidden.grad, expected[0], bounds.hidden)
    assert_within(weight.grad, expected[1], bounds.weight)
    found = token_nll(hidden, weight, offsets, targets, workspace=Workspace())
    assert_within(found, nll, bounds.nll)


@pytest.mark.parametrize("shift", [-500.0, -100.0, -45.0, 45.0, 68.0, 100.0, 500.0])
@pytest.mark.parametrize("whole", [True, False], ids=["all rows", "one row"])
def test_scores_that_are_all_large_or_all_small_change_nothing(chunks, shift, whole):
    """A constant added to every score of a token leaves its probabilities as they are, where exp would overflow."""
    hidden, weight, _ = draw_inputs(bias=False)
    with torch.no_grad():  # a coordinate that every word shares adds the same to all its scores
        weight[:, 0] = 1.0
        hidden[slice(None) if whole else slice(7, 8), 0] = shift
    targets = draw_targets(num_ignored=2)
    nll = plain_nats(hidden.double(), weight.double(), None, targets)
    expected = torch.autograd.grad(nll.sum(), (hidden, weight))
    loss = linear_cross_entropy(hidden, weight, None, targets, scale=1.0, workspace=Workspace())
    loss.backward()
    bounds = Bounds(hidden, weight, None, targets)
    assert_within(loss, nll.sum(), bounds.loss)
    assert_within(hidden.grad, expected[0], bounds.hidden)
    assert_within(weight.grad[:, 1:], expected[1][:, 1:], float(bounds.columns[1:].max()))
    found = token_nll(hidden, weight, None, targets, workspace=Workspace())
    assert_within(found, nll, bounds.nll)


@pytest.mark.parametrize(("score", "offset"), [(-50.0, 50.0), (-103.0, 73.0), (-300.0, 300.0), (80.0, -104.0)])
def test_a_bias_that_makes_up_for_a_score_counts(chunks, score, offset):
    """exp(score) times exp(bias) would lose a word where one of the two underflows though their product does not."""
    hidden, weight, offsets = draw_inputs(bias=True)
    with torch.no_grad():
        hidden[:, 0], weight[:, 0], weight[7] = 1.0, score + offset, 0.0
        weight[7, 0], offsets[7] = score, offset
    nll = plain_nats(hidden.double(), weight.double(), offsets.double(), draw_targets())
    found = token_nll(hidden, weight, offsets, draw_targets(), workspace=Workspace())
    assert_within(found, nll, Bounds(hidden, weight, offsets, draw_targets()).nll)


@pytest.mark.filterwarnings("ignore::DeprecationWarning:torch")
@pytest.mark.skipif(shutil.which("g++") is None, reason="torch compiles with g++, and there is none")
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_compiled_kernels_say_the_same_of_whole_rows(monkeypatch, dtype):
    monkeypatch.setattr("tiebench.losses.linear_cross_entropy.has_tiles", lambda hidden: False)
    found = []
    for compiled in (False, True):
        hidden, weight, offsets = draw_inputs(bias=True)
        vectors = nn.Parameter(hidden.detach().to(dtype))
        workspace = Workspace()
        workspace.compiled = compiled
        loss = linear_cross_entropy(
            vectors, weight, offsets, draw_targets(num_ignored=3), scale=0.5, workspace=workspace
        )
        loss.backward()
        found.append((loss, vectors.grad, weight.grad, offsets.grad))
    bounds = Bounds(vectors, weight, offsets, draw_targets(num_ignored=3))
    for plain, made, bound in zip(*found, [bounds.loss, bounds.hidden, bounds.weight, bounds.bias], strict=True):
        assert_within(made, plain, bound)


def test_a_loss_that_is_scaled_afterwards_is_refused():
    hidden, weight, _ = draw_inputs(bias=False)
    loss = linear_cross_entropy(hidden, weight, None, draw_targets(), scale=1.0, workspace=Workspace())
    with pytest.raises(RuntimeError, match="scale"):
        (loss / 2).backward()


def test_the_loss_of_nothing_is_nothing():
    hidden, weight, _ = draw_inputs(bias=False)
    loss = linear_cross_entropy(hidden[:0], weight, None, draw_targets()[:0], scale=1.0, workspace=Workspace())
    assert loss == 0
    assert token_nll(hidden[:0], weight, None, draw_targets()[:0], workspace=Workspace()).shape == (0,)


def test_chunks_are_even_and_leave_nothing_out():
    for num_rows in (0, 1, 255, 256, 257, 5000):
        spans = list(split_rows(num_rows, num_columns=50_000))
        assert [row for span in spans for row in range(span.start, span.stop)] == list(range(num_rows))
        sizes = {span.stop - span.start for span in spans[:-1]}
        assert len(sizes) <= 1


def test_tiles_cover_the_vocabulary():
    for num_rows, size in ((1, 50_257), (64, 10_000), (700, 33_278), (2048, 33_278), (1, 1)):
        spans = list(split_columns(size, hidden=torch.empty(num_rows, 4)))
        assert [word for span in spans for word in range(span.start, span.stop)] == list(range(size))


@pytest.mark.parametrize("num_rows", [20, 64, 256, 683, 700, 1024, 2048, 4096])
def test_rows_of_a_tile_are_an_odd_number_of_cache_lines_and_tiles_fit(num_rows):
    first, *_ = split_columns(1_000_000, hidden=torch.empty(num_rows, 4))
    num_lines, rest = divmod(4 * first.stop, 64)
    assert rest == 0 and num_lines % 2 == 1
    assert 4 * num_rows * first.stop <= module.TILE_BYTES < 4 * num_rows * (first.stop + 2 * 16)


def test_buffers_are_reused_within_a_model_and_never_shared_with_a_copy(make_arm):
    from tiebench.models.language_model import build_model, initialise_model

    model = build_model(make_arm("tied"), vocabulary_size=VOCABULARY)
    initialise_model(model, seed=1)
    tokens = torch.arange(10).view(2, 5)

    def read_gradient(trained: nn.Module) -> Tensor:
        trained.zero_grad(set_to_none=True)
        hidden, _ = trained.encode(tokens[:, :-1])
        trained.embedding.loss(hidden, tokens[:, 1:]).backward()
        return trained.embedding.shared.grad

    first = read_gradient(model)
    kept, place = first.clone(), first.data_ptr()
    twin = copy.deepcopy(model)
    assert twin.embedding.workspace is not model.embedding.workspace
    with torch.no_grad():
        for parameter in twin.parameters():
            parameter.mul_(2)
    other = read_gradient(twin)
    assert other.data_ptr() != place and not torch.equal(other, kept)
    assert torch.equal(first, kept), "training the copy wrote into the model's gradient"
    assert read_gradient(model).data_ptr() == place


@pytest.mark.parametrize("bias", [False, True], ids=["no bias", "bias"])
def test_training_works_after_an_evaluation_in_inference_mode(bias):
    """A buffer that is first made in inference mode could not be written to in training."""
    hidden, weight, offsets = draw_inputs(bias=bias)
    targets, workspace = draw_targets(), Workspace()
    with torch.inference_mode():
        token_nll(hidden, weight, offsets, targets, workspace=workspace)
    linear_cross_entropy(hidden, weight, offsets, targets, scale=1.0, workspace=workspace).backward()
    first = weight.grad.clone()
    with torch.inference_mode():
        token_nll(hidden, weight, offsets, targets, workspace=workspace)
    weight.grad = None
    linear_cross_entropy(hidden, weight, offsets, targets, scale=1.0, workspace=workspace).backward()
    assert torch.equal(weight.grad, first)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_step_takes_no_fresh_memory_for_scores_and_a_bounded_buffer(dtype, fresh_memory):
    """600 rows of 100,000 scores are 240 MB: two chunks in the same 128 MiB, made once; weights are not copied anew."""
    size, width = 100_000, 4
    workspace, limit = Workspace(), min(size * width * 2, 600 * size // 100)
    weight, bias = nn.Parameter(draw(size, width, seed=2)), nn.Parameter(draw(size, seed=3))
    hidden = nn.Parameter(draw(600, width, seed=1).to(dtype))
    targets = torch.arange(600)
    assert len(list(split_rows(600, num_columns=size))) == 2

    def train() -> None:
        weight.grad = bias.grad = hidden.grad = None
        linear_cross_entropy(hidden, weight, bias, targets, scale=1.0, workspace=workspace).backward()

    def score() -> None:
        token_nll(hidden, weight, bias, targets, workspace=workspace)

    for step in (train, score):
        step()
        with fresh_memory() as fresh:
            step()
        assert 0 < fresh.most_bytes < limit, fresh.by
    scores = [row for (purpose, *_), row in workspace._scratch.items() if purpose in ("exponentials", "factors")]
    assert 0 < max(row.nbytes for row in scores) <= 128 * 2**20


def test_scoring_keeps_one_tile_of_scores_at_a_time():
    workspace, hidden, weight = Workspace(), draw(2048, 4, seed=1), draw(50_000, 4, seed=2)
    token_nll(hidden, weight, None, torch.arange(2048), workspace=workspace)
    (scores,) = workspace._scratch.values()
    assert scores.nbytes <= module.TILE_BYTES < 2048 * 50_000


def test_a_sure_target_has_no_less_than_no_nats_in_bfloat16():
    """Its score of 259 is 260 in bfloat16, in the sum and by itself."""
    hidden, weight = torch.tensor([[7.0, 1.0]]).bfloat16(), torch.tensor([[37.0, 0.0], [0.0, 1.0]])
    nll = token_nll(hidden, weight, None, torch.tensor([0]), workspace=Workspace())
    assert nll.item() == 0.0
    loss = linear_cross_entropy(hidden, nn.Parameter(weight), None, torch.tensor([0]), scale=1.0, workspace=Workspace())
    assert loss.item() == 0.0
