"""How alike two matrices of word vectors are, and how well one agrees with human judgements of similarity.

Embeddings are `(words, width)`, float32 or float64; row i is the vector of word i in each.
"""

from typing import Any

import numpy as np

from tiebench.errors import TiebenchError

BLOCK_ROWS = 1024
WORD_PAIRS = {"simlex-999": "simlex999.txt", "wordsim-353": "wordsim353.tsv"}
MIN_PAIRS = 3


def correlate_ranks(first: np.ndarray, second: np.ndarray) -> float:
    """Spearman's rho between the vectors of all pairwise cosine distances of two matrices (Press & Wolf 2017, Table 4).

    Exact, over all `words * (words - 1) / 2` pairs: 10,000 words need under 3 GB.
    """
    return correlate_ranked(rank_distances(first), rank_distances(second))


def rank_distances(matrix: np.ndarray) -> np.ndarray:
    """Twice the rank of each pair's cosine distance, int32 `(pairs,)`; equal distances share their mean rank.

    Twice, because a mean rank may be half a number.
    """
    distances = measure_distances(matrix)
    order = np.argsort(distances)
    distances = distances[order]
    starts = np.flatnonzero(np.concatenate(([True], distances[1:] != distances[:-1])))
    lengths = np.diff(np.append(starts, len(distances)))
    doubled = np.repeat((2 * starts + lengths - 1).astype(np.int32), lengths)
    ranks = np.empty_like(doubled)
    ranks[order] = doubled
    return ranks


def measure_distances(matrix: np.ndarray) -> np.ndarray:
    """One minus the cosine of each pair of rows (i < j), float64 `(pairs,)`, row by row."""
    unit = normalise_rows(matrix)
    num_words = len(unit)
    distances = np.empty(num_words * (num_words - 1) // 2)
    filled = 0
    for start in range(0, num_words, BLOCK_ROWS):
        block = 1.0 - unit[start : start + BLOCK_ROWS] @ unit[start:].T
        for offset, row in enumerate(block):
            rest = row[offset + 1 :]
            distances[filled : filled + len(rest)] = rest
            filled += len(rest)
    return distances


def correlate_ranked(first: np.ndarray, second: np.ndarray) -> float:
    """Pearson's correlation of two vectors of ranks, summed in float64 piece by piece."""
    means = first.mean(dtype=np.float64), second.mean(dtype=np.float64)
    products = np.zeros(3)
    for start in range(0, len(first), 2**22):
        ours = first[start : start + 2**22] - means[0]
        theirs = second[start : start + 2**22] - means[1]
        products += ours @ theirs, ours @ ours, theirs @ theirs
    return float(products[0] / np.sqrt(products[1] * products[2]))


def measure_aligned_cosine(first: np.ndarray, second: np.ndarray) -> float:
    """The mean cosine between the rows of `second` and those of `first` after the best linear map, by least squares."""
    linear, *_ = np.linalg.lstsq(first, second, rcond=None)
    return float((normalise_rows(first @ linear) * normalise_rows(second)).sum(axis=1).mean())


def measure_subspace_distance(first: np.ndarray, second: np.ndarray) -> float:
    """How far the spans of the columns of two matrices are apart: 0 where they are one, 1 where they are orthogonal.

    d^2 = ||V - U U^T V||_F^2 / C with orthonormal bases U, V of the C columns (Inan et al. 2017, section 5.1).
    """
    base, other = (np.linalg.qr(np.asarray(matrix, dtype=np.float64))[0] for matrix in (first, second))
    rest = other - base @ (base.T @ other)
    return float(np.sqrt((rest**2).sum() / other.shape[1]))


def expect_subspace_distance(*, num_words: int, width: int) -> float:
    """The subspace distance of two random matrices: width / num_words of a random direction lies in the span."""
    return float(np.sqrt(1 - width / num_words))


def correlate_judgements(matrix: np.ndarray, *, words: dict[str, int], dataset: str) -> tuple[float, int]:
    """Spearman's rho between cosines and human scores, and the number of pairs of which both words have a row.

    `words` is word to row; `dataset` one of `WORD_PAIRS`. Raises TiebenchError without gensim, whose test data has
    the scores, or when fewer than `MIN_PAIRS` pairs are left.
    """
    cosines, scores = judge_pairs(matrix, words=words, dataset=dataset)
    return correlate_scores(cosines, scores), len(scores)


def correlate_scores(cosines: np.ndarray, scores: np.ndarray) -> float:
    """Spearman's rho."""
    from scipy.stats import spearmanr

    correlation: Any = spearmanr(cosines, scores)
    return float(correlation.statistic)


def judge_pairs(matrix: np.ndarray, *, words: dict[str, int], dataset: str) -> tuple[np.ndarray, np.ndarray]:
    """Cosine and human score of each pair of which both words have a row, `(pairs,)` each.

    Raises TiebenchError as `correlate_judgements` does."""
    pairs = [pair for pair in read_word_pairs(dataset) if pair[0] in words and pair[1] in words]
    if len(pairs) < MIN_PAIRS:
        raise TiebenchError(f"{dataset}: only {len(pairs)} pairs are in the vocabulary", "take a larger vocabulary")
    left = normalise_rows(matrix[[words[first] for first, _, _ in pairs]])
    right = normalise_rows(matrix[[words[second] for _, second, _ in pairs]])
    return (left * right).sum(axis=1), np.array([pair[2] for pair in pairs])


def read_word_pairs(dataset: str) -> list[tuple[str, str, float]]:
    """The pairs of a dataset, in lower case, with their mean human score. Raises TiebenchError without gensim."""
    try:
        from gensim.test.utils import datapath  # pyright: ignore[reportMissingImports]  (an extra)
    except ImportError:
        hint = "python -m pip install 'tiebench[similarity]'"
        raise TiebenchError(f"{dataset} comes with gensim, which is not installed", hint) from None
    with open(datapath(WORD_PAIRS[dataset]), encoding="utf-8") as file:
        rows = [line.split("\t") for line in file if line.strip() and not line.startswith("#")]
    return [(first.lower(), second.lower(), float(score)) for first, second, score in rows]


def normalise_rows(matrix: np.ndarray) -> np.ndarray:
    """Each row at length one, float64. Raises TiebenchError for a row of zeros: it points nowhere."""
    matrix = np.asarray(matrix, dtype=np.float64)
    norms = np.linalg.norm(matrix, axis=1, keepdims=True)
    if not norms.all():
        raise TiebenchError(f"row {int(np.argmin(norms))} of a matrix is zero, and has no direction", "train it longer")
    return matrix / norms
