import math
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from tiebench.comparison.statistics import (
    adjust_holm,
    bootstrap_error,
    choose_block_tokens,
    estimate_over_seeds,
    estimate_over_text,
    sample_deviation,
)

PTB = Path(__file__).parents[3] / "shared" / "data" / "ptb"


def test_paired_t_agrees_with_scipy():
    ours, theirs = [4.701, 4.712, 4.698, 4.709], [4.742, 4.741, 4.735, 4.76]
    expected = stats.ttest_rel(ours, theirs)
    found = estimate_over_seeds([a - b for a, b in zip(ours, theirs)])
    interval = expected.confidence_interval(0.95)
    assert found.p == pytest.approx(expected.pvalue)
    assert (found.low, found.high) == pytest.approx((interval.low, interval.high))
    assert found.difference == pytest.approx(np.mean(ours) - np.mean(theirs))


def test_paired_t_by_hand():
    """Mean 2, deviation 1, n 3: t = 2 sqrt(3) at 2 degrees of freedom, where p = 1 - t / sqrt(2 + t^2)."""
    found = estimate_over_seeds([1.0, 2.0, 3.0])
    t = 2 * math.sqrt(3)
    assert found.p == pytest.approx(1 - t / math.sqrt(2 + t * t))
    assert found.high - found.low == pytest.approx(2 * 4.302653 / math.sqrt(3), rel=1e-6)


def test_one_seed_has_no_t_test():
    with pytest.raises(ValueError, match="two seeds"):
        estimate_over_seeds([0.1])
    with pytest.raises(ValueError, match="two values"):
        sample_deviation([0.1])


def test_equal_arms_are_not_distinguished():
    assert estimate_over_seeds([0.0, 0.0]).p == 1.0
    found = estimate_over_text(0.0, differences_by_token=np.zeros(5000))
    assert (found.low, found.high, found.p) == (0.0, 0.0, 1.0)


def test_holm_by_hand():
    """Sorted 0.01, 0.02, 0.03, 0.04 times 4, 3, 2, 1, and never below the one before."""
    assert adjust_holm([0.04, 0.01, 0.03, 0.02]) == pytest.approx([0.06, 0.04, 0.06, 0.06])
    assert adjust_holm([0.6, 0.7]) == [1.0, 1.0]
    assert adjust_holm([0.03]) == [0.03]
    assert adjust_holm([]) == []


def test_a_constant_shift_is_certain():
    found = estimate_over_text(-0.05, differences_by_token=np.full(82_430, -0.05))
    assert (found.low, found.high) == pytest.approx((-0.05, -0.05), abs=1e-9)
    assert found.p < 1e-12


def test_independent_tokens_have_the_classical_error():
    values = np.random.default_rng(7).normal(0.02, 1.0, size=40_000)
    assert bootstrap_error(values) == pytest.approx(1 / math.sqrt(40_000), rel=0.15)


def test_tokens_that_hang_together_widen_the_interval():
    """Each value stands 50 times in a row: 800 free values, so an error sqrt(50) times the naive one."""
    values = np.repeat(np.random.default_rng(7).normal(size=800), 50)
    naive = 1.96 * values.std() / math.sqrt(len(values))
    found = estimate_over_text(values.mean(), differences_by_token=values)
    assert 5 < (found.high - found.difference) / naive < math.sqrt(50) * 1.2


def test_the_interval_covers_as_often_as_it_says():
    random = np.random.default_rng(3)
    covered = 0
    for _ in range(60):
        values = random.normal(0.1, 1.0, size=1_000)
        found = estimate_over_text(values.mean(), differences_by_token=values)
        covered += found.low <= 0.1 <= found.high
    assert 50 <= covered <= 60


def test_the_interval_is_the_same_each_time():
    values = np.random.default_rng(1).normal(size=3_000)
    assert estimate_over_text(0.1, differences_by_token=values) == estimate_over_text(0.1, differences_by_token=values)


def test_blocks_shrink_with_the_text():
    assert [choose_block_tokens(size) for size in (82_430, 2_000, 100, 3)] == [200, 100, 5, 1]


def test_two_unigram_models_of_real_text_are_told_apart():
    """Estimated on all of the validation split and on its first twentieth, scored on the test split of PTB."""
    if not PTB.exists():
        pytest.skip("the Penn Treebank is licensed and not here")
    known, scored = (_read_words(split) for split in ("valid", "test"))
    full, small = _unigram_nats(known, scored), _unigram_nats(known[: len(known) // 20], scored)
    found = estimate_over_text(full.mean() - small.mean(), differences_by_token=full - small)
    assert found.low < found.difference < found.high < 0
    assert found.p < 0.001


def _read_words(split):
    file = next(PTB.rglob(f"*{split}*"))
    return file.read_text("utf-8").replace("\n", " <eos> ").split()


def _unigram_nats(known, scored, size=10_000):
    counts = Counter(known)
    return -np.log(np.array([counts[word] + 1 for word in scored]) / (len(known) + size))
