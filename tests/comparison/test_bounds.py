import numpy as np
import pytest
from scipy import stats

from tiebench.comparison.bounds import adjust_holm, check_order, check_value, estimate_mean, sample_deviation
from tiebench.comparison.estimate_error import StudentError

VALUES = [92.1, 93.4, 92.8, 91.9]


def test_an_order_agrees_with_scipys_one_sided_t_tests():
    differences = [-0.031, -0.012, -0.025, 0.002]
    mean, error, freedom = estimate_mean(differences)
    found = check_order(mean, error=StudentError(error, freedom))
    for side, p, bound in (("less", found.p_below, found.high), ("greater", found.p_above, found.low)):
        expected = stats.ttest_1samp(differences, 0, alternative=side)
        interval = expected.confidence_interval(0.95)
        assert p == pytest.approx(expected.pvalue)
        assert bound == pytest.approx(interval.high if side == "less" else interval.low)
    assert found.p_below + found.p_above == pytest.approx(1)


def test_a_bound_and_its_p_say_the_same():
    edge = stats.t.ppf(0.95, 4)
    for difference, holds in ((-edge - 0.01, True), (-edge + 0.01, False)):
        found = check_order(difference, error=StudentError(1.0, 4))
        assert (found.p_below < 0.05) == (found.high < 0) == holds


def test_a_value_is_confirmed_by_two_one_sided_t_tests():
    mean, error, freedom = estimate_mean(VALUES)
    found = check_value(mean, published=92.0, margin=2.0, error=StudentError(error, freedom))
    below = stats.ttest_1samp(VALUES, 94.0, alternative="less").pvalue
    above = stats.ttest_1samp(VALUES, 90.0, alternative="greater").pvalue
    assert found.p_within == pytest.approx(max(below, above))
    assert found.p_within < 0.05 < found.p_outside
    interval = stats.ttest_1samp(VALUES, 92.0).confidence_interval(0.90)
    assert (found.low, found.high) == pytest.approx((interval.low, interval.high))


@pytest.mark.parametrize("published", np.linspace(90, 96, 25))
def test_a_value_is_within_exactly_when_its_90_percent_interval_is(published):
    mean, error, freedom = estimate_mean(VALUES)
    found = check_value(mean, published=published, margin=1.2, error=StudentError(error, freedom))
    assert (found.p_within < 0.05) == (published - 1.2 < found.low and found.high < published + 1.2)


def test_a_value_beyond_the_margin_contradicts_and_one_that_is_not_known_does_neither():
    beyond = check_value(95.0, published=92.0, margin=1.0, error=StudentError(0.3, 4))
    assert beyond.p_outside < 0.05 < beyond.p_within
    vague = check_value(93.5, published=92.0, margin=1.0, error=StudentError(2.0, 4))
    assert min(vague.p_outside, vague.p_within) > 0.05
    edge = check_value(93.0, published=92.0, margin=1.0, error=StudentError(0.01, 4))
    assert edge.p_within == pytest.approx(0.5) and edge.p_outside == pytest.approx(0.5)


def test_both_mistakes_about_a_value_stay_at_five_percent_at_the_edge():
    random = np.random.default_rng(3)
    samples = random.normal(1.0, 1.0, size=(4_000, 5))
    found = [
        check_value(mean, published=0.0, margin=1.0, error=StudentError(error, freedom))
        for mean, error, freedom in map(estimate_mean, samples.tolist())
    ]
    limit = 0.05 + 4 * np.sqrt(0.05 * 0.95 / 4_000)
    assert np.mean([test.p_within < 0.05 for test in found]) <= limit
    assert np.mean([test.p_outside < 0.05 for test in found]) <= limit


def test_without_error_a_distance_is_certain_and_none_says_nothing():
    order = check_order(-0.1, error=StudentError(0.0, 3))
    assert (order.p_below, order.p_above, order.high) == (0.0, 1.0, -0.1)
    nothing = check_order(0.0, error=StudentError(0.0, 3))
    assert (nothing.p_below, nothing.p_above) == (1.0, 1.0)
    inside = check_value(2.0, published=2.1, margin=0.5, error=StudentError(0.0, 3))
    assert (inside.p_within, inside.p_outside) == (0.0, 1.0)


@pytest.mark.parametrize("margin", [0.0, -1.0, float("nan")])
def test_a_margin_must_be_positive(margin):
    with pytest.raises(ValueError, match="margin"):
        check_value(1.0, published=1.0, margin=margin, error=StudentError(0.1, 3))


def test_an_error_is_not_negative():
    with pytest.raises(ValueError, match="not negative"):
        check_order(1.0, error=StudentError(-0.1, 3))


def test_holm_by_hand():
    """Sorted 0.01, 0.02, 0.03, 0.04 times 4, 3, 2, 1, and never below the one before."""
    assert adjust_holm([0.04, 0.01, 0.03, 0.02]) == pytest.approx([0.06, 0.04, 0.06, 0.06])
    assert adjust_holm([0.6, 0.7]) == [1.0, 1.0]
    assert adjust_holm([0.03]) == [0.03]
    assert adjust_holm([]) == []


def test_one_value_has_no_deviation():
    assert sample_deviation([1.0, 2.0, 3.0]) == 1.0
    for measure in (sample_deviation, estimate_mean):
        with pytest.raises(ValueError, match="two values"):
            measure([0.1])
