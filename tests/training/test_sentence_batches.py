"""Batches of sentence pairs: what stands in them, and that how they are put together changes no figure."""

import numpy as np
import pytest
import torch

from tiebench.corpora.stream import ParallelStream, TokenStream
from tiebench.errors import TiebenchError
from tiebench.experiment.training_config import CrossEntropyConfig
from tiebench.losses.targets import IGNORED
from tiebench.models.language_model import build_model, initialise_model
from tiebench.models.sentence_pairs import PADDING
from tiebench.training import pair_scoring
from tiebench.training.evaluation import score_stream
from tiebench.training.objective import compute_loss
from tiebench.training.sentence_batches import SentenceBatches, cut_by_tokens, fill_up

VOCABULARY, NUM_PAIRS, WINDOW = 40, 60, 12


@pytest.fixture
def stream() -> ParallelStream:
    """Pairs of 1 to 12 tokens, the end included; the first token of each side is its line's number below 30."""
    generator = np.random.default_rng(1)
    sides = []
    for _ in range(2):
        lines = [[0]]
        for _ in range(NUM_PAIRS):
            lines.append([*generator.integers(1, VOCABULARY, generator.integers(0, WINDOW)).tolist(), 0])
        ids = np.array([id for line in lines for id in line], dtype=np.uint16)
        sides.append(TokenStream(ids, len(ids) - 1, 0, 0, 0))
    return ParallelStream(**vars(sides[1]), source=sides[0])


def list_lines(stream: TokenStream) -> list[list[int]]:
    lines, line = [], []
    for id in stream.ids[1:].tolist():
        line.append(id)
        if id == 0:
            lines.append(line)
            line = []
    return lines


def read_pairs(batches: SentenceBatches, step: int) -> list[tuple[list[int], list[int], list[int]]]:
    """Source, input and targets of every row, without the padding."""
    pairs, targets = batches.read(step)
    found = []
    for source, inputs, wanted in zip(pairs.source.tolist(), pairs.target.tolist(), targets.tolist(), strict=True):
        kept = [id for id in wanted if id != IGNORED]
        assert wanted == kept + [IGNORED] * (len(wanted) - len(kept)), "padding stands at the end"
        found.append(([id for id in source if id != PADDING], inputs[: len(kept)], kept))
    return found


@pytest.mark.parametrize("batch_size", [1, 3, 7, 100])
def test_an_epoch_reads_every_pair_once_within_the_budget(stream, batch_size):
    batches = SentenceBatches(stream, batch_size=batch_size, window=WINDOW, seed=1)
    expected = sorted(zip(list_lines(stream.source), list_lines(stream), strict=True))
    for epoch in range(2):
        rows = []
        for position in range(batches.steps_per_epoch):
            step = epoch * batches.steps_per_epoch + position
            pairs, targets = batches.read(step)
            assert max(pairs.source.numel(), pairs.target.numel()) <= batch_size * WINDOW
            assert batches.count_targets(targets) == sum(len(wanted) for _, _, wanted in read_pairs(batches, step))
            rows += read_pairs(batches, step)
            assert batches.starts_epoch(step) == (position == 0)
        assert sorted((source, wanted) for source, _, wanted in rows) == expected
        assert all(inputs == [0, *wanted[:-1]] for _, inputs, wanted in rows), "a target follows what stands before it"


def test_batches_follow_seed_and_epoch_and_nothing_else(stream):
    one, same, other = (SentenceBatches(stream, batch_size=4, window=WINDOW, seed=seed) for seed in (1, 1, 2))
    steps = range(2 * one.steps_per_epoch)
    backwards = {step: read_pairs(same, step) for step in reversed(steps)}
    assert all(read_pairs(one, step) == backwards[step] for step in steps), "also where a run goes on"
    assert [read_pairs(one, step) for step in steps] != [read_pairs(other, step) for step in steps]
    first, second = (
        [read_pairs(one, epoch * one.steps_per_epoch + place) for place in range(one.steps_per_epoch)]
        for epoch in range(2)
    )
    assert first != second
    assert abs(one.tokens_per_step * one.steps_per_epoch - stream.num_tokens) <= one.steps_per_epoch
    assert one.count_tokens(2 * one.steps_per_epoch) == 2 * stream.num_tokens, "whole epochs are counted exactly"


def test_cuts_hold_as_many_as_fit():
    assert cut_by_tokens(np.array([1, 1, 2, 2, 3, 5, 5]), most=5).tolist() == [0, 2, 4, 5, 6, 7]
    assert cut_by_tokens(np.array([2, 2, 2]), most=100).tolist() == [0, 3]


def test_a_sentence_that_is_too_long_is_named(stream):
    with pytest.raises(TiebenchError, match=r"up to 12 tokens, in line \d+, and training.window is 11") as caught:
        SentenceBatches(stream, batch_size=4, window=11, seed=1)
    assert "training.window to 12" in caught.value.hint


@pytest.fixture
def model(make_arm):
    model = build_model(make_arm("three-way", architecture="encoder_decoder"), vocabulary_size=VOCABULARY)
    initialise_model(model, seed=1)
    return model


@pytest.mark.parametrize("smoothing", [None, 0.1])
def test_however_batches_are_put_together_the_loss_is_the_same(stream, model, smoothing):
    """Summed over an epoch, of each pair alone, of a few together and of all at once; and so is its gradient."""
    objective = CrossEntropyConfig(type="cross_entropy", label_smoothing=smoothing)
    model.double()
    losses, gradients = [], []
    for batch_size in (1, 4, 100):
        batches = SentenceBatches(stream, batch_size=batch_size, window=WINDOW, seed=batch_size)
        model.zero_grad()
        total = 0.0
        for step in range(batches.steps_per_epoch):
            pairs, targets = batches.read(step)
            loss, _ = compute_loss(model, model.encode(pairs)[0], targets, objective=objective, scale=1.0)
            loss.backward()
            total += loss.item()
        losses.append(total)
        dense = [parameter.grad for parameter in model.parameters()]
        gradients.append([grad.to_dense().clone() if grad.is_sparse else grad.clone() for grad in dense])
    # the summed nats of a few hundred tokens; the loss writes its own gradients in float32
    assert losses == pytest.approx([losses[0]] * 3, rel=1e-6)
    for others in gradients[1:]:
        for one, other in zip(gradients[0], others, strict=True):
            torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("most", [12, 50, 10_000])
def test_the_nats_of_a_token_are_those_of_its_sentence_alone(stream, model, make_arm, monkeypatch, most):
    monkeypatch.setattr(pair_scoring, "PLACES_AT_ONCE", most)
    scored = []
    found = score_stream(
        model, stream, spec=make_arm("three-way", architecture="encoder_decoder"), advance=scored.append
    )
    assert sum(scored) == len(found.token_nll) == stream.num_tokens
    assert found.protocol == {"context": "each sentence given its source"}
    model.eval()
    alone = []
    for line in range(NUM_PAIRS):
        pairs, targets = fill_up(stream, np.array([line]), stream.find_boundaries())
        alone += model.embedding.nll(model.encode(pairs)[0], targets).flatten().tolist()
    np.testing.assert_allclose(found.token_nll, alone, atol=1e-4)


def test_an_ids_array_cut_short_is_scored_as_far_as_its_pairs_are_whole(stream, model, make_arm):
    short = ParallelStream(stream.ids[:50], 49, 0, 0, 0, source=stream.source)
    spec = make_arm("three-way", architecture="encoder_decoder")
    whole = len(list_lines(TokenStream(stream.ids[:50], 49, 0, 0, 0)))
    found = score_stream(model, short, spec=spec).token_nll
    assert len(found) == sum(len(line) for line in list_lines(stream)[:whole])
    np.testing.assert_allclose(found, score_stream(model, stream, spec=spec).token_nll[: len(found)], atol=1e-4)
