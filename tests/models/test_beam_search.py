"""Beam search beside what it approximates: every sequence there is, tried one by one."""

from itertools import product

import pytest
import torch

from tiebench.models import beam_search
from tiebench.models.beam_search import BeamSearch
from tiebench.models.language_model import LanguageModel, build_model, initialise_model
from tiebench.models.sentence_pairs import SentencePairs

VOCABULARY, BOUNDARY = 4, 0
SOURCES = [[2, 0], [1, 3, 0], [3, 3, 1, 0]]


@pytest.fixture
def model(make_arm) -> LanguageModel:
    spec = make_arm("three-way", architecture="encoder_decoder", embedding={"output_bias": True})
    model = build_model(spec, vocabulary_size=VOCABULARY)
    initialise_model(model, seed=1)
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.empty_like(parameter).normal_(0, 0.4, generator=generator))
    return model.eval()


@torch.no_grad()
def score(model: LanguageModel, source: list[int], hypothesis: list[int], *, length_penalty: float) -> float:
    """The logarithmic probability of a whole hypothesis, its end included, over its length."""
    pairs = SentencePairs(torch.tensor([source]), torch.tensor([[BOUNDARY, *hypothesis[:-1]]]))
    nats = torch.log_softmax(model(pairs)[0], dim=-1)[torch.arange(len(hypothesis)), torch.tensor(hypothesis)]
    return float(nats.sum()) / len(hypothesis) ** length_penalty


@pytest.fixture
def short(monkeypatch) -> int:
    """Hypotheses of at most so many tokens for a source of three, the end left out."""
    monkeypatch.setattr(beam_search, "MORE_TOKENS", -2)
    return 4


@pytest.mark.parametrize("length_penalty", [0.0, 0.6, 1.0, 2.0])
def test_a_beam_as_wide_as_all_there_is_finds_the_best_of_all(model, short, length_penalty):
    source = SOURCES[1]
    everything = [
        [*middle, BOUNDARY] for length in range(short + 1) for middle in product(range(1, VOCABULARY), repeat=length)
    ]
    assert len(everything) == sum(3**length for length in range(short + 1))
    best = max(everything, key=lambda found: score(model, source, found, length_penalty=length_penalty))
    search = BeamSearch(beam=3 * len(everything), length_penalty=length_penalty)
    (found,) = search.translate(model, [source], boundary=BOUNDARY)
    assert found == best


def test_penalties_choose_among_lengths(model, short):
    found = [
        len(BeamSearch(400, penalty).translate(model, [SOURCES[1]], boundary=BOUNDARY)[0]) for penalty in (-3.0, 9.0)
    ]
    assert found[0] < found[1] == short + 1


def test_a_beam_of_one_is_greedy(model):
    for source in SOURCES:
        (found,) = BeamSearch(1).translate(model, [source], boundary=BOUNDARY)
        expected: list[int] = []
        while not expected or expected[-1] != BOUNDARY:
            if len(expected) == 2 * len(source) + beam_search.MORE_TOKENS:
                expected.append(BOUNDARY)
                break
            pairs = SentencePairs(torch.tensor([source]), torch.tensor([[BOUNDARY, *expected]]))
            expected.append(int(model(pairs)[0, -1].argmax()))
        assert found == expected


@pytest.mark.parametrize("beam", [1, 3, 5])
def test_a_translation_does_not_depend_on_its_neighbours(model, beam):
    search = BeamSearch(beam)
    together = search.translate(model, SOURCES, boundary=BOUNDARY)
    assert together == [search.translate(model, [source], boundary=BOUNDARY)[0] for source in SOURCES]
    assert all(found[-1] == BOUNDARY and BOUNDARY not in found[:-1] for found in together)


def test_a_wider_beam_finds_what_is_at_least_as_likely_here(model, short):
    scores = []
    for beam in (1, 400):
        found = BeamSearch(beam, 0.0).translate(model, SOURCES, boundary=BOUNDARY)
        scores.append([score(model, *pair, length_penalty=0.0) for pair in zip(SOURCES, found, strict=True)])
    assert all(wide >= narrow - 1e-5 for narrow, wide in zip(*scores, strict=True))
