import numpy as np
import pytest

from tiebench.comparison.blocks import average_blocks, count_tokens, cut_blocks, cut_text


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


def test_within_a_decade_blocks_are_the_same_articles():
    decades = np.random.default_rng(5).integers(0, 3, 9_000)
    text = cut_text(9_000, decades=decades, article_starts=[0, 1_200, 5_000])
    assert text.of_articles and text.starts.tolist() == [0, 1_200, 5_000]
    assert [len(each.weights) for each in text.bins] == [3, 3, 3]
    assert not cut_text(9_000, decades=decades).of_articles


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


def test_the_cells_of_a_text_are_its_blocks_within_each_decade():
    """The sums are those of picking a decade's tokens out first, to the last bit."""
    generator = np.random.default_rng(3)
    nats = generator.exponential(4.0, (2, 5_000)).astype(np.float32)
    decades = generator.choice(4, 5_000, p=[0.001, 0.2, 0.3, 0.499]).astype(np.uint8)
    text = cut_text(5_000, decades=decades)
    found = text.average([text.add_up(run) for run in nats])
    assert (found.blocks == average_blocks(nats, starts=cut_blocks(5_000))).all()
    assert [each.decade for each in text.bins] == [0, 1, 2, 3] and sum(each.num_tokens for each in text.bins) == 5_000
    for each in text.bins:
        (places,) = np.nonzero(decades == each.decade)
        block_of = np.searchsorted(cut_blocks(5_000), places, side="right") - 1
        _, starts = np.unique(block_of, return_index=True)
        assert (found.cells[:, each.cells] == average_blocks(nats[:, places], starts=starts)).all()
        assert each.weights.sum() == pytest.approx(1) and len(each.weights) == len(starts)


def test_a_text_without_decades_has_blocks_and_no_cells():
    text = cut_text(3_000)
    found = text.average([text.add_up(np.ones(3_000))] * 2)
    assert found.blocks.tolist() == [[1, 1, 1]] * 2 and found.cells.shape == (2, 0) and text.bins == ()
    with pytest.raises(ValueError, match="the text has 3000 tokens, found nats of shape .2999"):
        text.add_up(np.ones(2_999))
