"""How alike two embeddings of the same words are, whatever the directions of their axes. Each is `(rows, width)`."""

import numpy as np


def measure_linear_cka(first: np.ndarray, second: np.ndarray) -> float:
    """Linear centred kernel alignment (Kornblith et al. 2019, section 3), between 0 and 1.

    ||Y^T X||_F^2 / (||X^T X||_F ||Y^T Y||_F) with centred columns; a turned, shifted or scaled copy has 1.
    """
    first, second = _centre(first), _centre(second)
    shared = np.linalg.norm(second.T @ first) ** 2
    return float(shared / (np.linalg.norm(first.T @ first) * np.linalg.norm(second.T @ second)))


def measure_procrustes(first: np.ndarray, second: np.ndarray) -> float:
    """What is left of one matrix once the other is centred, scaled and turned onto it, as a share of it (Schoenemann
    1966; Gower 1975): 1 - ||Y^T X||_*^2 for centred matrices of Frobenius norm one. 0 is a turned, shifted or scaled
    copy, reflections included; 1 shares nothing. As `scipy.spatial.procrustes`, which returns it as its disparity.
    """
    first, second = (_centre(matrix) / np.linalg.norm(_centre(matrix)) for matrix in (first, second))
    nuclear = np.linalg.svd(second.T @ first, compute_uv=False).sum()
    return float(max(0.0, 1 - nuclear**2))


def _centre(matrix: np.ndarray) -> np.ndarray:
    matrix = np.asarray(matrix, dtype=np.float64)
    return matrix - matrix.mean(axis=0)
