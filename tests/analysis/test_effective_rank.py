import numpy as np
import pytest

from tiebench.analysis.effective_rank import measure_effective_rank


def test_equal_singular_values_count_in_full_and_zeros_do_not():
    assert measure_effective_rank(np.array([3.0] * 5)) == pytest.approx(5)
    assert measure_effective_rank(np.array([3.0, 3.0, 0.0, 0.0])) == pytest.approx(2)


def test_a_matrix_of_rank_one_has_effective_rank_one():
    matrix = np.outer(np.arange(1, 7), [1.0, -2, 3])
    assert measure_effective_rank(np.linalg.svd(matrix, compute_uv=False)) == pytest.approx(1)


def test_the_effective_rank_by_hand():
    """Shares 3/4 and 1/4: exp(3/4 ln 4/3 + 1/4 ln 4) = 4 / 3^(3/4)."""
    assert measure_effective_rank(np.array([6.0, 2.0])) == pytest.approx(4 / 3**0.75)


def test_zeros_have_no_rank():
    with pytest.raises(ValueError, match="zeros"):
        measure_effective_rank(np.zeros(3))
