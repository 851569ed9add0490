"""The error that other words would give: against the figures of tables drawn anew, and by hand."""

import numpy as np
import pytest

from tiebench.analysis.embedding_measures import correlate_ranks, correlate_scores, rank_distances
from tiebench.analysis.jackknife import deal_groups, leave_out_items, leave_out_words, measure_error

WORDS, WIDTH = 120, 8


def draw_tables(generator):
    first = generator.normal(size=(WORDS, WIDTH))
    return first, first + generator.normal(size=(WORDS, WIDTH))


def test_words_are_left_out_with_every_pair_they_are_in():
    ranks = [rank_distances(table) for table in draw_tables(np.random.default_rng(1))]
    without, groups = leave_out_words(*ranks, num_words=WORDS), deal_groups(WORDS)
    rows, columns = np.triu_indices(WORDS, 1)
    for group in (0, 7, 49):
        kept = (groups[rows] != group) & (groups[columns] != group)
        assert without[group] == pytest.approx(np.corrcoef(ranks[0][kept], ranks[1][kept])[0, 1])
    assert without.shape == (50,) and np.bincount(groups).min() >= WORDS // 50


def test_the_error_is_how_far_other_words_move_the_correlation():
    """The mean estimated variance over 40 draws against the variance between 300 others: within 3 standard errors of
    the latter, 3 * sqrt(2 / 299), and 20 %, as leaving words out overstates the variance of a mean over pairs."""
    generator = np.random.default_rng(2)
    true = np.var([correlate_ranks(*draw_tables(generator)) for _ in range(300)], ddof=1)
    estimates = []
    for _ in range(40):
        ranks = [rank_distances(table) for table in draw_tables(generator)]
        estimates.append(measure_error(leave_out_words(*ranks, num_words=WORDS)) ** 2)
    slack = 3 * np.sqrt(2 / 299)
    assert 1 - slack < np.mean(estimates) / true < 1.2 + slack


def test_the_jackknife_of_a_mean_is_its_standard_error():
    values = np.random.default_rng(3).normal(size=50)  # as many as there are groups: one value in each
    without = leave_out_items(lambda kept: values[kept].mean(), num_items=50)
    assert measure_error(without) == pytest.approx(values.std(ddof=1) / np.sqrt(50))


def test_pairs_of_words_are_left_out_of_a_word_similarity():
    generator = np.random.default_rng(4)
    cosines = generator.normal(size=400)
    scores = cosines + generator.normal(size=400)
    error = measure_error(leave_out_items(lambda kept: correlate_scores(cosines[kept], scores[kept]), num_items=400))
    # Fisher's standard error of a correlation, for Spearman times 1.03 (Fieller et al. 1957), and half of it as slack
    expected = (1 - correlate_scores(cosines, scores) ** 2) * 1.03 / np.sqrt(397)
    assert expected / 1.5 < error < 1.5 * expected
