"""Whether the rows of an embedding fill all directions alike, by two measures between 0 (one direction) and 1 (all)."""

import numpy as np


def measure_partition_ratio(matrix: np.ndarray) -> float:
    """min Z(c) / max Z(c) with Z(c) = sum_v exp(c v), over the unit eigenvectors c of V^T V: the isotropy of Mu &
    Viswanath (2018). An eigenvector has no sign, so that both are taken. `(rows, width)`; 1 is isotropic.
    """
    matrix = np.asarray(matrix, dtype=np.float64)
    _, directions = np.linalg.eigh(matrix.T @ matrix)
    scores = matrix @ directions
    logs = np.concatenate([_sum_exponentials(scores), _sum_exponentials(-scores)])
    return float(np.exp(logs.min() - logs.max()))


def measure_isoscore(matrix: np.ndarray) -> float:
    """IsoScore (Rudman et al. 2022, algorithm 1), of `(rows, width)` with at least two columns.

    The variances along the principal components, scaled to the length of a vector of ones, are compared with it; where
    k of n directions have one variance and the others none, it is (k - 1) / (n - 1). Raises ValueError for a matrix
    without variance or with one column.
    """
    matrix = np.asarray(matrix, dtype=np.float64)
    width = matrix.shape[1]
    variances = np.linalg.eigvalsh(np.atleast_2d(np.cov(matrix, rowvar=False)))
    length = np.linalg.norm(variances)
    if width < 2 or not length:
        raise ValueError("IsoScore needs rows that vary, and two columns")
    scaled = np.sqrt(width) * variances / length
    defect = np.linalg.norm(scaled - 1) / np.sqrt(2 * (width - np.sqrt(width)))
    used = (width - defect**2 * (width - np.sqrt(width))) ** 2 / width**2  # the share of directions that are used
    return float((width * used - 1) / (width - 1))


def _sum_exponentials(scores: np.ndarray) -> np.ndarray:
    """ln of the sum of exp over rows, `(directions,)`."""
    highest = scores.max(axis=0)
    return highest + np.log(np.exp(scores - highest).sum(axis=0))
