"""A dropped word is missing at all its places in a row's window, and only in training."""

import pytest
import torch

from tiebench.experiment.schema import TIES
from tiebench.layers.word_dropout import draw_word_mask
from tiebench.models.language_model import build_model, initialise_model

pytestmark = pytest.mark.numeric
WORDS = torch.tensor([[5, 7, 5, 5, 9, 7, 2, 9], [5, 5, 7, 1, 9, 1, 7, 3]])


def seeded(seed=1):
    return torch.Generator().manual_seed(seed)


@pytest.fixture
def make_model(make_arm):
    def make(tie="tied", *, vocabulary_size=50, **embedding):
        spec = make_arm(tie, embedding={"word_dropout": 0.5, **embedding})
        model = build_model(spec, vocabulary_size=vocabulary_size)
        initialise_model(model, seed=1)
        model.set_dropout_generator(seeded())
        return model

    return make


@pytest.mark.parametrize("seed", range(20))
def test_equal_words_of_a_row_share_their_fate(seed):
    mask = draw_word_mask(WORDS, probability=0.5, generator=seeded(seed)).squeeze(2)
    for words, factors in zip(WORDS.tolist(), mask.tolist(), strict=True):
        assert set(factors) <= {0.0, 2.0}
        assert len(set(zip(words, factors, strict=True))) == len(set(words)), "one fate for each word"


def test_a_word_takes_the_number_drawn_at_its_first_place():
    draws = torch.rand(WORDS.shape, generator=seeded(3))
    mask = draw_word_mask(WORDS, probability=0.25, generator=seeded(3)).squeeze(2)
    for row, words in enumerate(WORDS.tolist()):
        expected = [4 / 3 if draws[row, words.index(word)] >= 0.25 else 0.0 for word in words]
        assert mask[row].tolist() == pytest.approx(expected)


def test_words_and_rows_are_independent_and_dropped_as_often_as_asked():
    words = torch.arange(100).expand(500, 100)
    mask = draw_word_mask(words, probability=0.3, generator=seeded()).squeeze(2)
    dropped = (mask == 0).double()
    assert abs(dropped.mean() - 0.3) < 4 * (0.3 * 0.7 / dropped.numel()) ** 0.5
    for places in (dropped, dropped.t()):  # the share of each row, and of each word, varies as independent draws do
        expected = (0.3 * 0.7 / places.shape[1]) ** 0.5
        assert places.mean(1).std().item() == pytest.approx(expected, rel=0.3)


@pytest.mark.parametrize("tie", [tie for tie in TIES if tie != "three-way"])
def test_the_lexicon_drops_whole_rows_of_its_table(tie, make_model):
    embedding = make_model(tie).embedding
    mask = draw_word_mask(WORDS, probability=0.5, generator=seeded())
    assert 0 < (mask == 0).sum() < mask.numel()
    assert torch.equal(embedding.embed(WORDS), embedding.input_embedding[WORDS] * mask)
    assert not torch.equal(embedding.embed(WORDS) == 0, mask.expand(-1, -1, 16) == 0), "the next window, another draw"


def test_the_gradient_of_a_dropped_word_comes_from_the_output_alone(make_model):
    model = make_model("untied")
    hidden, _ = model.encode(WORDS)
    model.embedding.loss(hidden, WORDS.roll(1, dims=1)).backward()
    mask = draw_word_mask(WORDS, probability=0.5, generator=seeded()).squeeze(2)
    kept = set(WORDS[mask > 0].tolist())
    moved = {word for word in range(50) if model.embedding.input.grad[word].any()}
    assert moved == kept and kept < set(WORDS.flatten().tolist())
    assert model.embedding.output.grad.any(1).all()


@pytest.mark.parametrize("embedding", [{}, {"width": 8, "input_scale": "sqrt_width"}], ids=["plain", "lifted"])
def test_evaluation_drops_nothing_and_draws_nothing(embedding, make_model):
    model, without = make_model(**embedding).eval(), make_model(word_dropout=None, **embedding)
    before = model.embedding.dropout_generator.get_state()
    assert torch.equal(model(WORDS), model(WORDS))
    assert torch.equal(model(WORDS), without(WORDS))
    assert torch.equal(before, model.embedding.dropout_generator.get_state())


def test_scores_are_of_all_words(make_model):
    embedding, hidden = make_model().embedding, torch.randn(3, 16)
    torch.testing.assert_close(
        embedding.logits(hidden), hidden @ embedding.output_embedding.t()
    )  # a dropped score would be 0


def test_tied_and_untied_arms_drop_the_same_words(make_model):
    tied, untied = make_model("tied").embedding.embed(WORDS), make_model("untied").embedding.embed(WORDS)
    assert torch.equal(tied, untied) and (tied == 0).any()
