import numpy as np
from blocks import open_block

from tiebench.corpora.frequencies import count_entries, find_decades, find_target_decades
from tiebench.corpora.stream import TokenStream, open_streams
from tiebench.corpora.vocabulary import fit_vocabulary
from tiebench.experiment.corpus_config import WordsConfig


def make_stream(ids):
    return TokenStream(np.array(ids, dtype="<u2"), len(ids) - 1, 0, 0, 0)


def test_a_decade_ends_where_the_next_begins():
    counts = np.array([0, 1, 9, 10, 99, 100, 9_999, 10_000, 10**7])
    assert find_decades(counts).tolist() == [0, 1, 1, 2, 2, 3, 4, 5, 8]


def test_targets_are_counted_and_the_boundary_before_the_text_is_none():
    assert count_entries(make_stream([0, 1, 1, 0]), vocabulary_size=4).tolist() == [1, 2, 0, 0]


def test_counting_in_pieces_counts_the_same(monkeypatch):
    stream = make_stream([0, 1, 2, 1, 3, 1, 0])
    whole = count_entries(stream, vocabulary_size=4)
    monkeypatch.setattr("tiebench.corpora.frequencies.AT_ONCE", 2)
    assert count_entries(stream, vocabulary_size=4).tolist() == whole.tolist() == [1, 3, 1, 1]


def test_each_test_token_has_the_decade_of_its_own_count_in_training(tmp_path):
    texts = {"train": "a " * 12 + "b b c\n", "valid": "a\n", "test": "b a new c\n"}
    for split, text in texts.items():
        (tmp_path / f"{split}.txt").write_text(text, "utf-8")
    corpus = open_block({"type": "text"} | {split: str(tmp_path / f"{split}.txt") for split in texts})
    vocabulary = fit_vocabulary(WordsConfig(type="words"), corpus=corpus)
    streams = open_streams(corpus, vocabulary=vocabulary)
    found = find_target_decades(streams, vocabulary_size=vocabulary.size)
    assert found.tolist() == [1, 2, 0, 1, 1], "b twice, a twelve times, new never, c and the end of a line once"
