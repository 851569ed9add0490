import numpy as np
import pytest

from tiebench.comparison.blocks import average_blocks, count_tokens, cut_blocks


def test_penn_treebank_has_eighty_blocks_of_more_than_a_thousand_tokens():
    starts = cut_blocks(82_430)
    lengths = count_tokens(82_430, starts=starts)
    assert len(starts) == 80 and starts[0] == 0
    assert lengths.sum() == 82_430 and lengths.min() >= 1_000 and lengths.max() - lengths.min() <= 1


@pytest.mark.parametrize(("num_tokens", "num_blocks"), [(1, 1), (1_999, 1), (2_000, 2), (79_999, 79), (10**7, 80)])
def test_no_block_is_shorter_than_a_thousand_tokens(num_tokens, num_blocks):
    assert len(cut_blocks(num_tokens)) == num_blocks


def test_articles_are_blocks_and_short_ones_join_the_next():
    starts = cut_blocks(9_000, article_starts=[0, 1_200, 1_500, 2_700, 5_000, 8_500])
    assert starts.tolist() == [0, 1_200, 2_700, 5_000]
    assert cut_blocks(500, article_starts=[0, 100]).tolist() == [0]


@pytest.mark.parametrize("starts", [[0, 0], [5, 3], [-1], [0, 100]])
def test_articles_that_do_not_follow_each_other_are_refused(starts):
    with pytest.raises(ValueError, match="must increase"):
        cut_blocks(100, article_starts=starts)


def test_a_text_without_tokens_is_refused():
    with pytest.raises(ValueError, match="without tokens"):
        cut_blocks(0)


def test_blocks_are_averaged_in_float64():
    nats = np.arange(12, dtype=np.float32).reshape(2, 6)
    means = average_blocks(nats, starts=np.array([0, 2]))
    assert means.dtype == np.float64
    assert means.tolist() == [[0.5, 3.5], [6.5, 9.5]]


def test_blocks_of_some_tokens_are_those_of_the_text_without_the_others():
    nats, places = np.arange(12.0).reshape(2, 6), np.array([0, 2, 5])
    means = average_blocks(nats, starts=np.array([0, 2]), places=places)
    assert means.tolist() == average_blocks(nats[:, places], starts=np.array([0, 2])).tolist() == [[1, 5], [7, 11]]
