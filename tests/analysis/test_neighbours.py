import numpy as np
import pytest
from blocks import open_block

from tiebench.analysis.neighbours import find_nearest_rows, find_row
from tiebench.corpora.vocabulary import ByteVocabulary, WordVocabulary, fit_vocabulary
from tiebench.errors import UsageError
from tiebench.experiment.corpus_config import BPEConfig


def test_the_nearest_rows_are_those_of_the_highest_cosine_whatever_their_length():
    angles = np.radians([0, 50, 10, 170, 20])
    table = np.stack([np.cos(angles), np.sin(angles)], axis=1) * np.array([[1], [9], [0.1], [5], [100]])
    found = find_nearest_rows(table, row=0, num_rows=3)
    assert [row for row, _ in found] == [2, 4, 1]
    assert [cosine for _, cosine in found] == pytest.approx(list(np.cos(np.radians([10, 20, 50]))))


def test_there_are_no_more_neighbours_than_other_rows_and_zeros_point_nowhere():
    table = np.array([[1.0, 0], [0, 0], [-1, 0]])
    assert find_nearest_rows(table, row=0, num_rows=10) == [(1, 0.0), (2, -1.0)]


@pytest.fixture
def words():
    return WordVocabulary(["the", "<eos>", "<unk>", "company", "companies"])


def test_a_word_is_found_as_it_is_written(words):
    assert [find_row(words, word) for word in ("the", "<eos>", "<unk>", "companies")] == [0, 1, 2, 4]


def test_a_word_that_is_not_there_is_answered_with_the_nearest_ones(words):
    with pytest.raises(UsageError, match="no word 'compnay'") as caught:
        find_row(words, "compnay")
    assert "did you mean 'company'" in caught.value.hint and "case included" in caught.value.hint
    with pytest.raises(UsageError) as caught:
        find_row(words, "xyzzy")
    assert "did you mean" not in caught.value.hint


def test_a_byte_is_found_by_its_sign():
    assert find_row(ByteVocabulary(), "a") == ord("a")
    with pytest.raises(UsageError, match="several tokens here: a b"):
        find_row(ByteVocabulary(), "ab")


def test_a_word_in_byte_pairs_is_the_token_with_its_space(tiny_corpus):
    vocabulary = fit_vocabulary(BPEConfig(type="bpe", size=300), corpus=open_block(tiny_corpus))
    with_space = next(id for id in range(vocabulary.size) if vocabulary.token(id) == "Ġthe")
    assert find_row(vocabulary, "the") == with_space == find_row(vocabulary, "Ġthe")
    with pytest.raises(UsageError, match="several tokens here"):
        find_row(vocabulary, "xyzzy")
