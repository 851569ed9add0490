"""Isotropy against what it is in closed form."""

import numpy as np
import pytest

from tiebench.analysis.isotropy import measure_isoscore, measure_partition_ratio


def spread_over(num_directions, *, width, length=1.0):
    """A row either way along each of the first axes: equal variances there, none elsewhere."""
    axes = length * np.eye(width)[:num_directions]
    return np.concatenate([axes, -axes])


@pytest.mark.parametrize("width", [2, 5, 16])
def test_all_directions_alike_are_isotropic_by_both_measures(width):
    table = spread_over(width, width=width, length=1.5)
    assert measure_isoscore(table) == pytest.approx(1.0)
    assert measure_partition_ratio(table) == pytest.approx(1.0)


@pytest.mark.parametrize(("used", "width"), [(1, 4), (2, 4), (3, 9), (8, 9)])
def test_k_of_n_directions_have_an_isoscore_of_k_less_one_over_n_less_one(used, width):
    """Algorithm 1 by hand: the scaled variances are sqrt(n / k), k times, and the share of directions is k / n."""
    assert measure_isoscore(spread_over(used, width=width)) == pytest.approx((used - 1) / (width - 1))


def test_the_isoscore_does_not_see_turns_shifts_and_scales():
    generator = np.random.default_rng(1)
    table = generator.normal(size=(400, 6)) * np.array([3, 2, 1, 1, 0.5, 0.1])
    turn, _ = np.linalg.qr(generator.normal(size=(6, 6)))
    assert measure_isoscore(7 * table @ turn + 100) == pytest.approx(measure_isoscore(table))
    assert 0.1 < measure_isoscore(table) < 0.6


def test_gaussian_rows_are_nearly_isotropic():
    """Sampled variances are off by sqrt(2 / n) each, which costs a share of about 1 / n times the width."""
    assert measure_isoscore(np.random.default_rng(2).normal(size=(20_000, 8))) > 0.99


def test_rows_along_one_line_have_the_partition_ratio_of_that_line():
    """Z is n e^a along it, n e^-a against it and n across it: the ratio is e^(-2 a)."""
    table = np.zeros((50, 3))
    table[:, 1] = 0.7
    assert measure_partition_ratio(table) == pytest.approx(np.exp(-1.4))


def test_the_partition_ratio_of_long_rows_does_not_overflow():
    table = spread_over(3, width=3, length=1e4)
    assert measure_partition_ratio(table) == pytest.approx(1.0)


@pytest.mark.parametrize("table", [np.ones((5, 3)), np.random.default_rng(3).normal(size=(5, 1))])
def test_an_isoscore_needs_variance_and_two_columns(table):
    with pytest.raises(ValueError, match="IsoScore needs"):
        measure_isoscore(table)
