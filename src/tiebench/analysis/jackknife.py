"""How much a figure of embeddings depends on which words they have: the delete-a-group jackknife (Tukey 1958).

Words are dealt to groups, the figure is computed again without each group, and

    Var = (G - 1) / G * sum_g (figure_without_g - mean)^2

A rank correlation is over pairs of words, so that leaving out a word leaves out every pair that it is in.
"""

from collections.abc import Callable

import numpy as np

from tiebench.claims.estimates import NUM_GROUPS


def measure_error(without: np.ndarray) -> float:
    """The standard error from the figures without each group, shape (groups,)."""
    num_groups = len(without)
    return float(np.sqrt((num_groups - 1) / num_groups * ((without - without.mean()) ** 2).sum()))


def deal_groups(num_items: int) -> np.ndarray:
    """Which of `NUM_GROUPS` groups (fewer where there are fewer items) each item is in, `(items,)`, of sizes that
    differ by one at most; the same deal at every call, so that figures of several matrices leave out the same words."""
    return np.random.default_rng(0).permutation(num_items) % min(NUM_GROUPS, num_items)


def leave_out_words(first: np.ndarray, second: np.ndarray, *, num_words: int) -> np.ndarray:
    """The correlation of two vectors of ranks over pairs of words (i < j, row by row), without each group of words.

    Shapes `(pairs,)`, `(pairs,)` to `(groups,)`. The ranks are those among all pairs.
    """
    groups = deal_groups(num_words)
    num_groups = int(groups.max()) + 1
    moments = np.zeros((6, num_groups, num_groups))
    centres = first.mean(dtype=np.float64), second.mean(dtype=np.float64)
    start = 0
    for row in range(num_words - 1):
        part = slice(start, start + num_words - 1 - row)
        ours, theirs = first[part] - centres[0], second[part] - centres[1]
        columns = groups[row + 1 :]
        for place, values in enumerate((None, ours, theirs, ours * ours, theirs * theirs, ours * theirs)):
            moments[place, groups[row]] += np.bincount(columns, values, minlength=num_groups)
        start = part.stop
    touched = moments.sum(axis=1) + moments.sum(axis=2) - np.diagonal(moments, axis1=1, axis2=2)
    return _correlate(moments.sum(axis=(1, 2))[:, None] - touched)


def leave_out_items(measure: Callable[[np.ndarray], float], *, num_items: int) -> np.ndarray:
    """`measure` of the kept items, a mask `(items,)`, without each group of them; shape `(groups,)`."""
    groups = deal_groups(num_items)
    return np.array([measure(groups != group) for group in range(int(groups.max()) + 1)])


def _correlate(moments: np.ndarray) -> np.ndarray:
    """Pearson's correlation from counts, sums, sums of squares and of products, shape (6, groups)."""
    count, ours, theirs, ours_squared, theirs_squared, products = moments
    covariance = products - ours * theirs / count
    return covariance / np.sqrt((ours_squared - ours**2 / count) * (theirs_squared - theirs**2 / count))
