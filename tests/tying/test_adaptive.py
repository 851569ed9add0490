"""Embeddings in bands: torch's own adaptive softmax gives the same, and a run with them goes through every command."""

import math

import numpy as np
import pytest
import torch
import yaml
from precision import BFLOAT16_ROUNDING, bound_error
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

from tiebench.analysis.inspection import inspect_run
from tiebench.analysis.neighbours import list_neighbours
from tiebench.analysis.quantisation import quantise_run
from tiebench.errors import UsageError
from tiebench.execution.counting import count_arms
from tiebench.execution.run import execute_run, open_model
from tiebench.execution.run_data import load_data
from tiebench.execution.settings import Settings
from tiebench.experiment.loading import load_experiment
from tiebench.losses.targets import IGNORED
from tiebench.models.hugging_face_config import refuse_unsaid
from tiebench.models.language_model import build_model, count_flops_per_token, count_parameters, initialise_model
from tiebench.results.record import read_record
from tiebench.results.store import Store
from tiebench.tying.adaptive import Adaptive

pytestmark = pytest.mark.numeric
CUTOFFS, VOCABULARY, WIDTH, NUM_TOKENS = (7, 20), 37, 16, 60
SIZES, WIDTHS = (7, 13, 17), (16, 8, 4)
COUNTS = np.random.default_rng(0).permutation(np.arange(VOCABULARY) ** 2)
RANKS = torch.from_numpy(np.argsort(np.argsort(-COUNTS)))  # no two are equally frequent
ADAPTIVE = {"cutoffs": list(CUTOFFS), "factor": 2}
# The absolute values in a score sum to less than 16 (60 hidden vectors and weights of 0.3); a probability is off by
# that twice, and two softmaxes are multiplied.
NATS = 4 * bound_error(WIDTH + max(SIZES), size=16.0)


@pytest.fixture
def build(make_arm):
    def build(tie: str = "untied", *, adaptive: dict | None = None, **embedding) -> Adaptive:
        options = {"adaptive": ADAPTIVE | (adaptive or {}), **embedding}
        model = build_model(make_arm(tie, embedding=options), vocabulary_size=VOCABULARY)
        initialise_model(model, seed=1)
        assert isinstance(model.embedding, Adaptive)
        model.embedding.sort_by_frequency(lambda: COUNTS)
        generator = torch.Generator().manual_seed(2)
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.normal_(0, 0.3, generator=generator)
        return model.embedding

    return build


def draw_hidden() -> Tensor:
    return torch.randn(NUM_TOKENS, WIDTH, generator=torch.Generator().manual_seed(4)).requires_grad_()


def draw_targets() -> Tensor:
    return torch.randint(VOCABULARY, (NUM_TOKENS,), generator=torch.Generator().manual_seed(5))


def copy_to_torch(embedding: Adaptive) -> nn.AdaptiveLogSoftmaxWithLoss:
    theirs = nn.AdaptiveLogSoftmaxWithLoss(WIDTH, VOCABULARY, list(CUTOFFS), div_value=2.0, head_bias=False)
    with torch.no_grad():
        theirs.head.weight.copy_(torch.cat((embedding.output_matrices[0], embedding.classes)))
        for tail, matrix, weight in zip(
            theirs.tail, embedding.output_matrices[1:], embedding._output_weights, strict=True
        ):
            tail[0].weight.copy_(weight)
            tail[1].weight.copy_(matrix)
    return theirs


@pytest.mark.parametrize("tie", ["untied", "tied"])
def test_torch_s_adaptive_softmax_has_the_same_probabilities(build, tie):
    embedding, hidden = build(tie), draw_hidden()
    theirs = copy_to_torch(embedding).log_prob(hidden)
    torch.testing.assert_close(embedding.logits(hidden), theirs[:, RANKS], rtol=0.0, atol=NATS)


def test_torch_s_adaptive_softmax_has_the_same_gradients(build):
    embedding, targets = build("untied"), draw_targets()
    theirs, ours, reference = copy_to_torch(embedding), draw_hidden(), draw_hidden()
    found = theirs(reference, RANKS[targets])
    found.loss.backward()
    embedding.loss(ours, targets, scale=1 / NUM_TOKENS).backward()
    expected = {
        "output.0": theirs.head.weight.grad[: SIZES[0]],
        "classes": theirs.head.weight.grad[SIZES[0] :],
        **{f"output_projections.{number}.weight": tail[0].weight.grad for number, tail in enumerate(theirs.tail)},
        **{f"output.{number}": tail[1].weight.grad for number, tail in enumerate(theirs.tail, start=1)},
    }
    for name, gradient in expected.items():
        grad = embedding.get_parameter(name).grad
        torch.testing.assert_close(
            grad, gradient, rtol=0.0, atol=4 * NATS, msg=lambda text, name=name: f"{name}: {text}"
        )
        assert gradient.abs().max() > 100 * NATS, "else nothing was compared"
    torch.testing.assert_close(ours.grad, reference.grad, rtol=0.0, atol=NATS)
    torch.testing.assert_close(embedding.nll(ours, targets), -found.output, rtol=0.0, atol=NATS)


@pytest.mark.parametrize("tie", ["untied", "tied"])
@pytest.mark.parametrize("bias", [False, True])
def test_the_probabilities_of_the_vocabulary_sum_to_one(build, tie, bias):
    embedding, hidden = build(tie, output_bias=bias), draw_hidden()[:5]
    every = torch.arange(VOCABULARY).repeat(5, 1)
    nats = embedding.nll(hidden.unsqueeze(1).expand(-1, VOCABULARY, -1), every)
    torch.testing.assert_close((-nats.double()).exp().sum(1), torch.ones(5).double(), rtol=0.0, atol=NATS)


def test_a_word_is_its_row_times_the_map_of_its_band(build):
    embedding = build("untied")
    found = embedding.embed(torch.arange(VOCABULARY))
    for token, rank in enumerate(RANKS.tolist()):
        band = sum(rank >= cutoff for cutoff in CUTOFFS)
        row = embedding.input[band][rank - (0, *CUTOFFS)[band]]
        assert row.shape == (WIDTHS[band],)
        expected = row if band == 0 else embedding.input_projections[band - 1].weight @ row
        torch.testing.assert_close(found[token], expected, rtol=0.0, atol=bound_error(WIDTH, size=4.0))
    torch.testing.assert_close(found, embedding.input_embedding, rtol=0.0, atol=bound_error(WIDTH, size=4.0))
    assert embedding.input[0].shape[0] == 7 and COUNTS[RANKS < 7].min() > COUNTS[RANKS >= 7].max()


@pytest.mark.parametrize("share", [False, True])
def test_parameters_are_counted_by_role(make_arm, share):
    table = sum(size * width for size, width in zip(SIZES, WIDTHS, strict=True))
    maps, classes = (8 + 4) * WIDTH, 2 * WIDTH
    for tie in ("tied",) if share else ("untied", "tied"):
        arm = make_arm(tie, embedding={"adaptive": ADAPTIVE | {"share_projections": share}})
        counts = count_parameters(build_model(arm, vocabulary_size=VOCABULARY))
        expected = (0, 0, table) if tie == "tied" else (table, table, 0)
        assert (counts.input, counts.output, counts.shared) == expected
        assert counts.other == (1 if share else 2) * maps + classes


def test_a_shared_map_gets_the_gradients_of_both_ends(build):
    one, two = build("tied", adaptive={"share_projections": True}), build("tied")
    with torch.no_grad():
        for name, parameter in one.named_parameters():
            two.get_parameter(name).copy_(parameter)
        for ours, theirs in zip(one.input_projections, two.output_projections, strict=True):
            theirs.weight.copy_(ours.weight.t())
    tokens, targets = draw_targets().flip(0), draw_targets()
    for embedding in (one, two):
        embedding.loss(embedding.embed(tokens).tanh(), targets, scale=1 / NUM_TOKENS).backward()
    for shared, given, scored in zip(one.input_projections, two.input_projections, two.output_projections, strict=True):
        asked = given.weight.grad, scored.weight.grad.t()
        assert min(gradient.norm() for gradient in asked) > 1e-3
        torch.testing.assert_close(shared.weight.grad, sum(asked), rtol=0.0, atol=4 * NATS)


def test_a_band_without_a_target_has_a_gradient_of_zeros(build):
    """Where it is None, an optimizer does not move on by its momentum, and processes wait for one another."""
    embedding, hidden = build("untied"), draw_hidden()
    frequent = torch.nonzero(CUTOFFS[0] > RANKS).flatten()
    targets = frequent[torch.arange(NUM_TOKENS) % len(frequent)]
    embedding.loss(hidden, targets).backward()
    for name in ("output.1", "output.2", "output_projections.0.weight", "output_projections.1.weight"):
        grad = embedding.get_parameter(name).grad
        assert grad is not None and not grad.any(), name
    assert embedding.output[0].grad.any() and embedding.classes.grad.any()


def test_ignored_targets_count_for_nothing(build):
    embedding, targets = build("tied", output_bias=True), draw_targets()
    kept = torch.arange(NUM_TOKENS) % 3 > 0
    some = targets.where(kept, IGNORED)
    nats = embedding.nll(draw_hidden(), some)
    assert not nats[~kept].any()
    assert torch.equal(nats[kept], embedding.nll(draw_hidden(), targets)[kept])
    gradients = []
    for hidden, wanted in ((draw_hidden(), some), (draw_hidden()[kept].detach(), targets[kept])):
        embedding.zero_grad()
        embedding.loss(hidden, wanted).backward()
        gradients.append(
            {
                name: parameter.grad.clone()
                for name, parameter in embedding.named_parameters()
                if parameter.grad is not None
            }
        )
    assert gradients[0].keys() == gradients[1].keys() >= {"shared.0", "shared.1", "shared.2", "classes", "output_bias"}
    for name, gradient in gradients[0].items():
        torch.testing.assert_close(gradient, gradients[1][name], rtol=0.0, atol=NUM_TOKENS * NATS)


def test_in_bfloat16_the_nats_are_off_by_roundings(build):
    """A hidden vector, a map's product, a weight and a score are rounded, in each of two softmaxes."""
    embedding, hidden, targets = build("tied", output_bias=True), draw_hidden(), draw_targets()
    exact = embedding.nll(hidden, targets)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        rounded, loss = embedding.nll(hidden, targets), embedding.loss(hidden, targets)
    assert loss.dtype == rounded.dtype == torch.float32
    sizes = hidden.abs().sum(1) * 0.3 * 3  # weights of 0.3, few of them beyond three times that
    limit = 2 * bound_error(4, rounding=BFLOAT16_ROUNDING) * sizes.max().item()
    torch.testing.assert_close(rounded, exact, rtol=0.0, atol=limit)
    assert (rounded - exact).abs().max() > 0 and limit < 0.5 * exact.mean()
    loss.backward()
    assert all(parameter.grad.dtype == torch.float32 for parameter in embedding.shared)


def test_operations_are_those_of_the_textbook(build, make_arm):
    """Every token as often a target as the counts say."""
    embedding = build("untied")
    counts = np.bincount(draw_targets(), minlength=VOCABULARY)
    embedding.sort_by_frequency(lambda: counts)
    theirs, tokens = copy_to_torch(embedding), embedding.ranks[draw_targets()]
    hidden = draw_hidden()
    with FlopCounterMode(display=False) as counter:
        theirs(hidden, tokens).loss.backward()
        for band_map, matrix in zip(embedding.input_projections, embedding.input_matrices[1:], strict=True):
            F.linear(matrix[torch.zeros_like(tokens)], band_map.weight).sum().backward()
    assert round(counter.get_total_flops() / 3 / NUM_TOKENS) == embedding.count_flops()
    model = build_model(make_arm("untied", embedding={"adaptive": ADAPTIVE}), vocabulary_size=VOCABULARY)
    plain = build_model(make_arm("untied"), vocabulary_size=VOCABULARY)
    assert count_flops_per_token(model, context=10) < count_flops_per_token(plain, context=10)


@pytest.mark.parametrize("cutoff", [VOCABULARY, VOCABULARY + 1])
def test_a_cutoff_beyond_the_vocabulary_is_refused(make_arm, cutoff):
    arm = make_arm(embedding={"adaptive": {"cutoffs": [7, cutoff]}})
    with pytest.raises(UsageError, match=f"cutoffs: {cutoff} is beyond the vocabulary, which has 37 words") as error:
        build_model(arm, vocabulary_size=VOCABULARY)
    assert "below 37" in error.value.hint


def test_the_first_bands_vectors_are_as_wide_as_the_embedding(build):
    embedding = build("tied", width=12, adaptive={"factor": 5})
    assert [tuple(matrix.shape) for matrix in embedding.input_matrices] == [(7, 12), (13, 2), (17, 1)]
    assert embedding.embed(torch.arange(4)).shape == (4, WIDTH)


ARMS = {
    "untied": {"tie": False},
    "tied": {"tie": True},
    "one-projection": {"tie": True, "embedding": {"adaptive": {"share_projections": True}}},
    "gpt2": {"tie": True, "architecture": {"type": "gpt2", "layers": 1, "width": 16, "heads": 2, "positions": 16}},
}


@pytest.fixture(scope="module")
def trained(tiny_corpus, tmp_path_factory):
    """Arm to (the run, its folder). Bytes are not numbered by frequency."""
    place = tmp_path_factory.mktemp("adaptive")
    content = {
        "corpus": tiny_corpus,
        "vocabulary": {"type": "bytes"},
        "architecture": {"type": "lstm", "layers": 1, "width": 16},
        "embedding": {"adaptive": {"cutoffs": [10, 30]}},
        "training": {
            "steps": 30,
            "batch_size": 8,
            "window": 16,
            "optimizer": {"type": "adamw", "learning_rate": 0.02},
        },
        "seeds": [1],
        "arms": ARMS,
    }
    (place / "bands.yaml").write_text(yaml.safe_dump(content, sort_keys=False), "utf-8")
    settings = Settings(store=Store(place / "results"), device="cpu")
    runs = load_experiment(place / "bands.yaml").list_runs()
    for run in runs:
        execute_run(run, settings=settings)
    return {run.arm: (run, settings.store.folder(run.experiment, run.arm, run.seed)) for run in runs}


@pytest.mark.parametrize("arm", ARMS)
def test_a_run_learns_and_its_perplexity_is_exact(trained, arm):
    run, folder = trained[arm]
    record, data = read_record(folder), load_data(run)
    model, ids = open_model(record, folder), torch.from_numpy(data.streams["test"].ids.astype(np.int64))
    counts = np.bincount(data.streams["train"].ids[1:], minlength=256)
    assert (counts[model.embedding.ranks.argsort()][:10] == np.sort(counts)[::-1][:10]).all()
    nats, state, context = 0.0, None, 16
    with torch.inference_mode():
        for start in range(0, len(ids) - 1, context):
            first = start if arm != "gpt2" else max(0, min(start, len(ids) - 1 - context))
            part = ids[first : min(first + context, len(ids) - 1) + 1]
            hidden, state = model.encode(part[None, :-1], state)
            scores = model.embedding.logits(hidden)[0, start - first :]
            nats += F.cross_entropy(scores.double(), part[1 + start - first :], reduction="sum").item()
    found = record.evaluations["test"]
    assert found.tokens == len(ids) - 1 and found.nll == pytest.approx(nats, rel=1e-6)
    assert found.perplexity < 0.25 * 256, "it learned something"


def test_what_is_planned_is_what_is_recorded(trained):
    for arm, (run, folder) in trained.items():
        (planned,), record = count_arms([run]), read_record(folder)
        assert planned.parameters == record.parameters, arm
        assert planned.flops_per_token == record.usage.flops_per_token, arm
    counts = {arm: read_record(folder).parameters for arm, (_, folder) in trained.items()}
    table = 10 * 16 + 20 * 4 + 226 * 1
    assert counts["untied"].total - counts["tied"].total == table
    assert counts["tied"].total - counts["one-projection"].total == (4 + 1) * 16


def test_words_are_numbered_by_frequency_already(tiny_corpus, tmp_path, write_experiment):
    file = write_experiment(embedding={"adaptive": {"cutoffs": [20, 100]}})
    data = load_data(load_experiment(file).list_runs()[0])
    counts = data.count_training()
    assert (np.argsort(-counts, kind="stable") == np.arange(len(counts))).all()


def test_trained_bands_can_be_looked_into_and_rounded(trained):
    for arm, names in {"untied": ["input", "output"], "tied": ["input", "output"], "one-projection": ["tied"]}.items():
        _, folder = trained[arm]
        found = inspect_run(folder)
        assert list(found.matrices) == names
        assert all(matrix.width == 16 for matrix in found.matrices.values())
        (near,) = list_neighbours(folder, ["e"], num_neighbours=3)
        assert list(near.nearest) == names
        model = open_model(read_record(folder), folder)
        vector = model.embedding.input_embedding[ord("e")]
        cosines = F.cosine_similarity(vector[None], model.embedding.input_embedding)
        assert near.nearest[names[0]][0].cosine == pytest.approx(cosines.sort().values[-2].item(), abs=1e-5)
        rounded = quantise_run(folder, bits=[4])
        kinds = ["input", "output", "both"] if arm == "untied" else ["tied"]
        assert [score.embedding for score in rounded] == ["none", *kinds]
        table = 10 * 16 + 20 * 4 + 226 * 1
        assert rounded[0].num_bytes == 4 * table * (2 if arm == "untied" else 1)
        assert len({score.perplexity for score in rounded}) == len(rounded), "every rounding is another one"
        assert all(math.isfinite(score.perplexity) for score in rounded)


def test_other_formats_have_no_word_for_bands(trained):
    with pytest.raises(UsageError, match="embedding.adaptive.*no equivalent in the Hugging Face format"):
        refuse_unsaid(trained["gpt2"][0].spec)
