"""How often the entries of a vocabulary occur in a text, and the same in decades: never, 1 to 9, 10 to 99, ..."""

import numpy as np

from tiebench.corpora.stream import TokenStream

AT_ONCE = 2**24  # tokens: bincount widens them to 8 bytes
DECADES = 10 ** np.arange(13, dtype=np.int64)


def count_entries(stream: TokenStream, *, vocabulary_size: int) -> np.ndarray:
    """How often each entry of the vocabulary is a target in this split, int64 `(vocabulary,)`."""
    counts = np.zeros(vocabulary_size, dtype=np.int64)
    for start in range(1, len(stream.ids), AT_ONCE):
        counts += np.bincount(stream.ids[start : start + AT_ONCE], minlength=vocabulary_size)
    return counts


def find_decades(counts: np.ndarray) -> np.ndarray:
    """The decade of each count, uint8 of the same shape: 0 never, 1 for 1 to 9, 2 for 10 to 99, and so on."""
    return np.searchsorted(DECADES, counts, side="right").astype(np.uint8)


def find_target_decades(streams: dict[str, TokenStream], *, vocabulary_size: int) -> np.ndarray:
    """The decade of every token of the test split by its count in the training split, uint8 `(tokens,)`."""
    decades = find_decades(count_entries(streams["train"], vocabulary_size=vocabulary_size))
    return decades[streams["test"].ids[1:]]
