"""How many directions a matrix uses, counted by how much it uses them."""

import numpy as np


def measure_effective_rank(singular_values: np.ndarray) -> float:
    """exp of the entropy of the singular values as shares of their sum (Roy & Vetterli 2007, definition 1).

    `(width,)`; between 1, for a matrix of rank one, and the width, where all are equal. Raises ValueError for zeros.
    """
    values = np.asarray(singular_values, dtype=np.float64)
    if not values.sum() > 0:
        raise ValueError("a matrix of zeros has no effective rank")
    shares = values[values > 0] / values.sum()
    return float(np.exp(-(shares * np.log(shares)).sum()))
