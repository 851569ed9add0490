import math

import numpy as np
import pytest
from scipy.spatial.distance import pdist
from scipy.stats import rankdata, spearmanr

from tiebench.analysis import embedding_measures as measures
from tiebench.analysis.embedding_measures import (
    WORD_PAIRS,
    correlate_judgements,
    correlate_ranks,
    expect_subspace_distance,
    measure_aligned_cosine,
    measure_distances,
    measure_subspace_distance,
    rank_distances,
    read_word_pairs,
)
from tiebench.errors import TiebenchError


@pytest.fixture
def draw():
    generator = np.random.default_rng(1)
    return lambda *shape: generator.normal(size=shape).astype("float32")


def test_rank_correlation_is_spearman_over_all_pairs(draw, monkeypatch):
    monkeypatch.setattr(measures, "BLOCK_ROWS", 16)  # 100 rows: six whole blocks and a part of one
    first = draw(100, 8)
    second = first[:, :6] + 0.5 * draw(100, 6)
    expected = spearmanr(pdist(first.astype("float64"), "cosine"), pdist(second.astype("float64"), "cosine")).statistic
    assert correlate_ranks(first, second) == pytest.approx(expected, abs=1e-9)
    assert correlate_ranks(first, first) == pytest.approx(1.0)
    assert 0.1 < expected < 0.95, "a case in which something could go wrong"


def test_distances_are_those_of_each_pair_once(draw, monkeypatch):
    monkeypatch.setattr(measures, "BLOCK_ROWS", 3)
    table = draw(7, 4)
    np.testing.assert_allclose(measure_distances(table), pdist(table.astype("float64"), "cosine"), atol=1e-12)


def test_equal_distances_share_their_rank():
    table = np.array([[1, 0], [2, 0], [0, 1], [0, 3], [1, 1]], dtype="float32")
    distances = measure_distances(table).round(12)
    embedding_measures_ranks = rank_distances(table) / 2 + 1
    assert len(set(distances)) < len(distances)
    np.testing.assert_array_equal(embedding_measures_ranks, rankdata(measure_distances(table)))


def test_a_row_of_zeros_has_no_direction(draw):
    table = draw(5, 3)
    table[3] = 0
    with pytest.raises(TiebenchError, match="row 3"):
        measure_distances(table)


def test_equal_spans_are_at_distance_zero_and_orthogonal_ones_at_one(draw):
    table, mixing = draw(20, 4).astype("float64"), draw(4, 4).astype("float64")
    # the rest of a projection: sums of 20 products, rounded to 2**-53, as often as the map squeezes a direction
    limit = 20 * 2 * 2.0**-53 * np.linalg.cond(mixing) * np.linalg.cond(table)
    assert measure_subspace_distance(table, table @ mixing) == pytest.approx(0.0, abs=limit)
    axes = np.eye(6)
    assert measure_subspace_distance(axes[:, :2], axes[:, 4:]) == pytest.approx(1.0)


def test_the_subspace_distance_by_hand():
    """Two columns: one in the span, one at 30 degrees to it, so d^2 = (0 + sin^2 30) / 2."""
    first = np.array([[1.0, 0], [0, 1], [0, 0]])
    second = np.array([[1.0, 0], [0, math.cos(math.pi / 6)], [0, math.sin(math.pi / 6)]]) @ np.array([[2.0, 1], [0, 3]])
    assert measure_subspace_distance(first, second) == pytest.approx(math.sqrt(0.25 / 2))


def test_a_linear_map_is_found(draw):
    table = draw(50, 4)
    assert measure_aligned_cosine(table, table @ draw(4, 4)) == pytest.approx(1.0, abs=1e-5)
    assert measure_aligned_cosine(table, draw(50, 4)) < 0.6


@pytest.mark.parametrize("dataset", WORD_PAIRS)
def test_word_similarity_on_the_human_scores(dataset):
    pytest.importorskip("gensim", reason="the scores come with gensim: python -m pip install 'tiebench[similarity]'")
    pairs = read_word_pairs(dataset)
    assert len(pairs) == {"simlex-999": 999, "wordsim-353": 353}[dataset]
    some = list({word: pair for pair in pairs for word in pair[:2]}.values())[:1] + pairs[:40]
    words = {word: index for index, word in enumerate(dict.fromkeys(word for pair in some for word in pair[:2]))}
    table = np.random.default_rng(2).normal(size=(len(words), 300))
    rho, num_pairs = correlate_judgements(table, words=words, dataset=dataset)
    known = [pair for pair in pairs if pair[0] in words and pair[1] in words]
    assert num_pairs == len(known) >= 40 and abs(rho) < 0.5
    cosine = lambda pair: 1 - pdist(table[[words[pair[0]], words[pair[1]]]], "cosine")[0]  # noqa: E731
    assert rho == pytest.approx(spearmanr([cosine(pair) for pair in known], [pair[2] for pair in known]).statistic)
    with pytest.raises(TiebenchError, match="only 0 pairs"):
        correlate_judgements(table, words={}, dataset=dataset)


def test_without_gensim_the_way_to_it_is_named(monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "gensim.test.utils", None)
    with pytest.raises(TiebenchError, match="not installed") as error:
        read_word_pairs("simlex-999")
    assert "tiebench[similarity]" in error.value.hint


def test_two_random_tables_are_as_far_apart_as_chance_says(draw):
    """d^2 is a mean over 20 directions: its error over directions is below 1 / sqrt(20 * 200 / 2)."""
    found = measure_subspace_distance(draw(200, 20), draw(200, 20)) ** 2
    expected = expect_subspace_distance(num_words=200, width=20) ** 2
    assert found == pytest.approx(expected, abs=3 / math.sqrt(20 * 200 / 2))
    assert expect_subspace_distance(num_words=3318, width=300) == pytest.approx(0.954, abs=5e-4), "Figure 1"
