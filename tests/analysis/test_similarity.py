"""How alike two embeddings are, against other formulas for the same and against copies."""

import numpy as np
import pytest
from scipy.spatial import procrustes

from tiebench.analysis.similarity import measure_linear_cka, measure_procrustes


@pytest.fixture
def draw():
    generator = np.random.default_rng(5)
    return lambda *shape: generator.normal(size=shape)


@pytest.fixture
def turn(draw):
    return np.linalg.qr(draw(6, 6))[0]


def test_a_turned_shifted_and_scaled_copy_is_the_same(draw, turn):
    table = draw(80, 6) * np.array([4, 2, 1, 1, 1, 0.1])
    copy = 3 * table @ turn + draw(6)
    assert measure_linear_cka(table, copy) == pytest.approx(1)
    assert measure_procrustes(table, copy) == pytest.approx(0, abs=1e-12)
    mirrored = table * np.array([-1, 1, 1, 1, 1, 1])
    assert measure_procrustes(table, mirrored) == pytest.approx(0, abs=1e-12)


def test_columns_that_never_vary_together_share_nothing():
    first = np.array([[1.0], [-1], [1], [-1]])
    second = np.array([[1.0], [1], [-1], [-1]])
    assert measure_linear_cka(first, second) == pytest.approx(0)
    assert measure_procrustes(first, second) == pytest.approx(1)


def test_cka_is_that_of_the_gram_matrices(draw):
    """Kornblith et al. 2019, section 3: HSIC(K, L) / sqrt(HSIC(K, K) HSIC(L, L)) with centred Gram matrices."""
    first = draw(40, 5) + 2
    second = first @ draw(5, 3) + draw(40, 3)
    centring = np.eye(40) - 1 / 40
    grams = [centring @ table @ table.T @ centring for table in (first, second)]
    shared = [np.trace(one @ other) for one in grams for other in grams]
    expected = shared[1] / np.sqrt(shared[0] * shared[3])
    assert measure_linear_cka(first, second) == pytest.approx(expected)
    assert 0.1 < expected < 0.95, "a case in which something could go wrong"


def test_procrustes_is_that_of_scipy(draw):
    first = draw(50, 4) + 1
    second = first + draw(50, 4)
    *_, expected = procrustes(first, second)
    assert measure_procrustes(first, second) == pytest.approx(expected)
    assert measure_procrustes(second, first) == pytest.approx(expected)
    assert 0.1 < expected < 0.9
