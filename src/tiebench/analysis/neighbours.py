"""Which words are alike in an embedding: the rows nearest to that of a word, by cosine."""

import difflib
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from tiebench.analysis.trained_matrices import open_matrices
from tiebench.corpora.vocabulary import Vocabulary, load_vocabulary
from tiebench.errors import UsageError
from tiebench.experiment.block import Block
from tiebench.results.record import VOCABULARY_FILE, read_record


class Neighbour(Block):
    """A token, as it is written in tables, and the cosine of its row with that of the word asked for."""

    token: str
    cosine: float


class WordNeighbours(Block):
    """The nearest tokens of one word in each embedding, nearest first, without the word itself."""

    word: str
    nearest: dict[str, list[Neighbour]]


def list_neighbours(folder: Path, words: Sequence[str], *, num_neighbours: int) -> list[WordNeighbours]:
    """The neighbours of each word in the embeddings of a finished run (`input` and `output`, or `tied`).

    Raises UsageError for a word that is no token of the run, TiebenchError where the run has no weights.
    """
    record = read_record(folder)
    vocabulary = load_vocabulary(folder / VOCABULARY_FILE, identity=record.vocabulary.identity)
    rows = [find_row(vocabulary, word) for word in words]
    matrices = open_matrices(record, folder)
    found = []
    for row in dict.fromkeys(rows):
        nearest = {
            name: [
                Neighbour(token=vocabulary.token(other), cosine=cosine)
                for other, cosine in find_nearest_rows(matrix, row=row, num_rows=num_neighbours)
            ]
            for name, matrix in matrices.items()
        }
        found.append(WordNeighbours(word=vocabulary.token(row), nearest=nearest))
    return found


def find_nearest_rows(matrix: np.ndarray, *, row: int, num_rows: int) -> list[tuple[int, float]]:
    """The rows with the highest cosine to `row`, itself left out, and these cosines; of equal ones the lower row first.

    A row of zeros points nowhere: its cosines are 0.
    """
    matrix = np.asarray(matrix, dtype=np.float64)
    norms = np.linalg.norm(matrix, axis=1)
    scale = norms * norms[row]
    cosines = np.divide(matrix @ matrix[row], scale, out=np.zeros(len(matrix)), where=scale > 0)
    order = [int(other) for other in np.argsort(-cosines, kind="stable") if other != row]
    return [(other, float(cosines[other])) for other in order[:num_rows]]


def find_row(vocabulary: Vocabulary, word: str) -> int:
    """The id of a token as tables write it, or of a word that is one token (in byte pairs, with the space before it).

    Raises UsageError with the nearest tokens for a word that the vocabulary does not have, and with its pieces for one
    that is several tokens.
    """
    tokens = {vocabulary.token(id): id for id in range(vocabulary.size)}
    if word in tokens:
        return tokens[word]
    for text in (f" {word}", word):
        ids = [id for id in vocabulary.encode(text) if id != vocabulary.boundary]
        if len(ids) == 1 and ids[0] != vocabulary.unknown:
            return ids[0]
    if vocabulary.unknown is None:
        pieces = " ".join(vocabulary.token(id) for id in vocabulary.encode(word)[:-1])
        raise UsageError(f"'{word}' is several tokens here: {pieces}", "name one of them")
    close = difflib.get_close_matches(word, tokens, n=3, cutoff=0.6)
    suggestion = f"did you mean {' or '.join(map(repr, close))}? " if close else ""
    hint = f"{suggestion}words are those of its training text, case included"
    raise UsageError(f"the model has no word '{word}'", hint)
