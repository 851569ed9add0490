"""Every token of a split is scored once, and the perplexity is what a ten-line loop over the text says."""

import math

import numpy as np
import pytest
import torch
from blocks import open_block
from precision import bound_error
from torch.nn import functional as F

from tiebench.corpora.stream import TokenStream, open_streams
from tiebench.corpora.vocabulary import fit_vocabulary
from tiebench.experiment.corpus_config import WordsConfig
from tiebench.models.language_model import LanguageModel, build_model, initialise_model
from tiebench.training import evaluation
from tiebench.training.evaluation import describe_score, plan_windows, score_stream
from tiebench.training.optimizers import build_optimizer

pytestmark = pytest.mark.numeric
# The scores here are below 5. Each stands on sums over the width of 16 (four in a row in a transformer's layer, eight
# in an LSTM's gates), its nats on one over the vocabulary of 271: each term is one rounding.
NATS = {"rtol": 0.0, "atol": bound_error(8 * 16 + 271, size=5.0)}


@pytest.fixture(scope="module")
def streams(tiny_corpus):
    corpus = open_block(tiny_corpus)
    return open_streams(corpus, vocabulary=fit_vocabulary(WordsConfig(type="words"), corpus=corpus))


@pytest.fixture(scope="module")
def vocabulary_size(streams) -> int:
    return 1 + max(int(stream.ids.max()) for stream in streams.values())


@pytest.fixture(scope="module")
def train_briefly(streams, vocabulary_size):
    """A model that has seen real text for a few steps, so that its states and scores are no longer small."""

    def train(spec) -> LanguageModel:
        model = build_model(spec, vocabulary_size=vocabulary_size)
        initialise_model(model, seed=1)
        optimizer, rows = build_optimizer(model, spec.training.optimizer), streams["train"].ids[:801].astype(np.int64)
        for step in range(12):
            piece = torch.from_numpy(rows[step * 60 : step * 60 + 61]).view(1, -1)
            optimizer.zero_grad()
            hidden, _ = model.encode(piece[:, :-1])
            model.embedding.loss(hidden, piece[:, 1:], scale=1 / 60).backward()
            optimizer.step(2.0)
        return model

    return train


def cut(stream: TokenStream, num_tokens: int) -> TokenStream:
    return TokenStream(stream.ids[: num_tokens + 1], num_tokens, num_words=0, num_bytes=0, num_unknown=0)


def score_token_by_token(model: LanguageModel, ids: np.ndarray) -> list[float]:
    """An LSTM language model, one token after the other, in plain torch: no function of tiebench's."""
    weights = {name: tensor.detach().double() for name, tensor in model.state_dict().items()}
    table, scoring = weights["embedding.input"], weights["embedding.output"]
    part = {name.removeprefix("architecture.layers.0."): tensor for name, tensor in weights.items()}
    hidden = cell = torch.zeros(table.shape[1], dtype=torch.float64)
    nats = []
    for token, target in zip(ids[:-1].tolist(), ids[1:].tolist(), strict=True):
        gates = (
            part["weight_ih_l0"] @ table[token]
            + part["bias_ih_l0"]
            + part["weight_hh_l0"] @ hidden
            + part["bias_hh_l0"]
        )
        write, keep, candidate, read = gates.chunk(4)
        cell = keep.sigmoid() * cell + write.sigmoid() * candidate.tanh()
        hidden = read.sigmoid() * cell.tanh()
        nats.append(float((scoring @ hidden).logsumexp(0) - scoring[target] @ hidden))
    return nats


def test_an_lstm_is_scored_as_a_plain_loop_over_the_text_scores_it(streams, train_briefly, make_arm):
    spec, stream = make_arm("untied"), streams["test"]
    model = train_briefly(spec)
    expected = score_token_by_token(model, stream.ids)
    score = score_stream(model, stream, spec=spec)
    assert len(expected) == stream.num_tokens == len(score.token_nll)
    assert score.nll == pytest.approx(math.fsum(expected), abs=NATS["atol"] * len(expected))
    assert math.log(score.perplexity) == pytest.approx(math.fsum(expected) / len(expected), abs=NATS["atol"])
    np.testing.assert_allclose(score.token_nll, expected, **NATS)
    assert len(set(np.round(expected, 3))) > 100  # a model that says something


def test_the_state_is_carried_across_the_pieces_of_a_long_split(streams, train_briefly, make_arm, monkeypatch):
    spec, stream = make_arm("untied"), streams["test"]
    model = train_briefly(spec)
    whole = score_stream(model, stream, spec=spec)
    monkeypatch.setattr(evaluation, "TOKENS_AT_ONCE", 7)
    counted: list[int] = []
    pieces = score_stream(model, stream, spec=spec, advance=counted.append)
    np.testing.assert_allclose(pieces.token_nll, whole.token_nll, **NATS)
    assert sum(counted) == stream.num_tokens and len(counted) == math.ceil(stream.num_tokens / 7)


@pytest.mark.parametrize("num_rows", [2, 3, 10, 64])
def test_rows_of_a_batched_evaluation_drop_nothing(num_rows, streams, train_briefly, make_arm, monkeypatch):
    spec = make_arm("untied", evaluation={"batch_size": num_rows})
    monkeypatch.setattr(evaluation, "TOKENS_AT_ONCE", 16)
    model, stream = train_briefly(spec), streams["test"]
    score = score_stream(model, stream, spec=spec)
    columns = -(-stream.num_tokens // num_rows)
    expected = [
        nats
        for start in range(0, stream.num_tokens, columns)
        for nats in score_token_by_token(model, stream.ids[start : start + columns + 1])
    ]
    np.testing.assert_allclose(score.token_nll, expected, **NATS)
    assert score.protocol["batch_size"] == num_rows


@pytest.mark.parametrize("architecture", ["gpt2", "llama"])
@pytest.mark.parametrize(
    ("num_tokens", "context", "stride"),
    [(50, 10, 10), (53, 10, 10), (53, 10, 3), (53, 10, 1), (7, 10, 4), (10, 10, 5), (11, 10, 10), (1, 10, 10)],
)
def test_windows_score_every_token_once_with_its_context(
    architecture, num_tokens, context, stride, streams, train_briefly, make_arm
):
    spec = make_arm(architecture=architecture, evaluation={"context": context, "stride": stride, "batch_size": 3})
    model = train_briefly(spec).eval()
    score = score_stream(model, cut(streams["test"], num_tokens), spec=spec)
    ids = torch.from_numpy(streams["test"].ids[: num_tokens + 1].astype(np.int64))
    expected, scored = [], 0
    while scored < num_tokens:
        end = min(context, num_tokens) if scored == 0 else min(scored + stride, num_tokens)
        start = max(0, end - context)
        with torch.no_grad():
            logits = model(ids[start:end].view(1, -1))[0]
        nats = F.cross_entropy(logits, ids[start + 1 : end + 1], reduction="none")
        expected += nats[scored - start :].tolist()
        scored = end
    assert len(expected) == num_tokens
    np.testing.assert_allclose(score.token_nll, expected, **NATS)
    assert score.protocol["context"] == min(context, num_tokens)


def test_a_longer_context_is_really_seen(streams, train_briefly, make_arm):
    """With stride 1, all but the first window's tokens see a full context: the windows of stride 10 see less."""
    arms = [make_arm(architecture="gpt2", evaluation={"context": 10, "stride": stride}) for stride in (10, 1)]
    model = train_briefly(arms[0])
    scores = [score_stream(model, streams["test"], spec=spec).token_nll for spec in arms]
    np.testing.assert_allclose(scores[0][:10], scores[1][:10], **NATS)
    assert not np.allclose(scores[0][10:], scores[1][10:], rtol=0.0, atol=10 * NATS["atol"])


@pytest.mark.parametrize(
    ("num_tokens", "context", "stride"), [(20, 8, 8), (20, 8, 3), (21, 8, 1), (8, 8, 2), (3, 3, 3)]
)
def test_the_plan_of_windows_covers_the_split_without_overlap(num_tokens, context, stride):
    spans = plan_windows(num_tokens, context=context, stride=stride)
    assert [token for start, end in spans for token in range(start, end)] == list(range(num_tokens))
    assert spans[0] == (0, context)
    assert all(end - start <= stride for start, end in spans[1:])
    assert plan_windows(20, context=8, stride=8) == [(0, 8), (8, 16), (16, 20)]


def test_scoring_leaves_the_model_as_it_was(streams, train_briefly, make_arm, make_block):
    spec = make_arm("untied", architecture=make_block("lstm", dropout=0.5))
    model = train_briefly(spec)
    scores = []
    for training in (True, False):
        model.train(training)
        scores.append(score_stream(model, streams["valid"], spec=spec))
        assert model.training is training
    assert np.array_equal(scores[0].token_nll, scores[1].token_nll), "dropout acted in evaluation"
    ids = torch.from_numpy(streams["train"].ids[:31].astype(np.int64)).view(1, -1)
    hidden, _ = model.encode(ids[:, :-1])
    model.embedding.loss(hidden, ids[:, 1:]).backward()
    assert all(parameter.grad is not None for parameter in model.parameters())


def test_an_evaluation_carries_what_its_figures_are_to_be_divided_by(streams, train_briefly, make_arm):
    spec, stream = make_arm("untied"), streams["test"]
    found = describe_score(score_stream(train_briefly(spec), stream, spec=spec), split="test", stream=stream)
    assert (found.tokens, found.words, found.bytes) == (stream.num_tokens, stream.num_words, stream.num_bytes)
    assert found.words < found.tokens  # the ends of lines
    assert found.perplexity == pytest.approx(math.exp(found.nll / found.tokens))
    assert found.word_perplexity > found.perplexity


@pytest.mark.parametrize("architecture", ["lstm", "gpt2"])
def test_scoring_leaves_no_graph_and_no_gradient(architecture, streams, vocabulary_size, make_arm, monkeypatch):
    model = build_model(make_arm("tied", architecture=architecture), vocabulary_size=vocabulary_size)
    initialise_model(model, seed=1)
    seen, score = [], model.embedding.nll
    monkeypatch.setattr(
        model.embedding, "nll", lambda hidden, targets: (seen.append(hidden), score(hidden, targets))[1]
    )
    score_stream(model, cut(streams["valid"], 50), spec=make_arm("tied", architecture=architecture))
    assert seen and not any(hidden.requires_grad for hidden in seen)
    assert all(parameter.grad is None for parameter in model.parameters()) and torch.is_grad_enabled()
