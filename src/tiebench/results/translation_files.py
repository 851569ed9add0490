"""Beside the record of a run that translates: its translations of the test split, and what BLEU counts in each."""

from pathlib import Path
from typing import TYPE_CHECKING

from tiebench.files import open_atomic, write_text
from tiebench.results.arrays import decode_array
from tiebench.results.record import Record, explain_damage, read_beside

if TYPE_CHECKING:
    import numpy as np

TRANSLATIONS_FILE = "test-translations.txt"
BLEU_COUNTS_FILE = "test-bleu.npy"
NUM_COUNTS = 10


def write_translations(lines: list[str], folder: Path) -> Path:
    """Write the translations of the test split, one a line. Returns the file."""
    file = folder / TRANSLATIONS_FILE
    write_text("".join(f"{line}\n" for line in lines), file=file)
    return file


def write_bleu_counts(counts: "np.ndarray", folder: Path) -> Path:
    """Write the counts of each sentence, int32 `(sentences, 10)`: matching n-grams of 1 to 4 tokens, all n-grams of 1
    to 4 tokens, and the lengths of translation and reference. Returns the file.
    """
    import numpy as np

    file = folder / BLEU_COUNTS_FILE
    with open_atomic(file) as aside, aside.open("wb") as stream:
        np.save(stream, np.asarray(counts, dtype=np.int32), allow_pickle=False)
    return file


def read_bleu_counts(record: Record, folder: Path) -> "np.ndarray | None":
    """The counts of each sentence, int32 `(sentences, 10)`; None where they were not kept, or nothing is translated.

    Raises TiebenchError when they do not belong to the record: another digest, or another number of sentences.
    """
    import numpy as np

    file = folder / BLEU_COUNTS_FILE
    if record.translation is None or not file.exists():
        return None
    expected = (record.translation.sentences, NUM_COUNTS)
    content = read_beside(record, file)
    try:
        counts = decode_array(content, dtype="<i4", shape=expected)
    except ValueError as error:
        raise explain_damage(file, str(error)) from error
    if counts.dtype != np.int32 or counts.shape != expected or counts.min() < 0:
        raise explain_damage(file, f"it holds no counts of {expected[0]} sentences")
    return counts
