"""Student's t against SciPy, and against what has a closed form."""

import math

import pytest
from scipy.special import stdtr, stdtridf, stdtrit

from tiebench.comparison.student import find_t_chance, find_t_freedom, find_t_quantile

FREEDOMS = (0.3, 1, 1.5, 2, 3.7, 10, 78.2, 199.9, 200.1, 998, 1e5)


@pytest.mark.parametrize("freedom", FREEDOMS)
def test_chances_are_those_of_scipy_in_the_tails_too(freedom):
    for t in (-40.0, -8.3, -2.0, -0.7, -1e-3, 0.0, 0.4, 1.0, 1.96, 6.0, 30.0):
        assert find_t_chance(t, freedom) == pytest.approx(float(stdtr(freedom, t)), rel=2e-12, abs=1e-300)


@pytest.mark.parametrize("freedom", FREEDOMS)
def test_quantiles_are_those_of_scipy(freedom):
    for chance in (1e-9, 0.0125, 0.025, 0.4, 0.5, 0.6, 0.95, 0.975, 0.9875, 0.999):
        expected = float(stdtrit(freedom, chance))
        assert find_t_quantile(chance, freedom) == pytest.approx(expected, rel=1e-11, abs=1e-12)


@pytest.mark.parametrize("t", [1.97, 2.0, 2.3, 4.3, 12.7, 30.0])
def test_degrees_of_freedom_are_those_of_scipy(t):
    assert find_t_freedom(0.975, t) == pytest.approx(float(stdtridf(0.975, t)), rel=1e-10)
    assert find_t_chance(t, find_t_freedom(0.975, t)) == pytest.approx(0.975, rel=1e-13)


def test_one_and_two_degrees_of_freedom_have_closed_forms():
    for t in (-3.0, 1e-9, 0.25, 5.0):
        assert find_t_chance(t, 1) == pytest.approx(0.5 + math.atan(t) / math.pi, rel=1e-14)
        assert find_t_chance(t, 2) == pytest.approx(0.5 + t / (2 * math.sqrt(2 + t * t)), rel=1e-14)
    assert find_t_quantile(0.975, 1) == pytest.approx(math.tan(0.475 * math.pi), rel=1e-14)


def test_what_is_no_chance_is_refused_and_the_ends_are_sure():
    for chance in (0.0, 1.0, -0.1, math.nan):
        with pytest.raises(ValueError, match="between 0 and 1"):
            find_t_quantile(chance, 3)
    with pytest.raises(ValueError, match="for all degrees of freedom"):
        find_t_freedom(0.975, 1.9)
    assert (find_t_chance(-math.inf, 3), find_t_chance(math.inf, 3)) == (0.0, 1.0)
    assert math.isnan(find_t_chance(math.nan, 3)) and math.isnan(find_t_chance(1.0, 0))
    assert math.isnan(find_t_quantile(0.975, 0))
