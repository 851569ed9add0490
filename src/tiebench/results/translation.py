"""How a model translates the test split: two scores in its record, and beside it the sentences and their counts."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from tiebench.experiment.block import Block
from tiebench.files import open_atomic, write_text

if TYPE_CHECKING:
    import numpy as np

TRANSLATIONS_FILE = "test-translations.txt"
BLEU_COUNTS_FILE = "test-bleu.npy"
NUM_COUNTS = 10

Points = Annotated[float, Field(ge=0, le=101, allow_inf_nan=False)]  # sacrebleu's 100 is 100.00000000000004


class Translation(Block):
    """BLEU and chrF of the whole test split, 0 to 100, as sacrebleu computes them from raw text, with its signatures.

    `beam` and `length_penalty` are those of the search (`models/beam_search.py`).
    """

    bleu: Points
    chrf: Points
    bleu_signature: str
    chrf_signature: str
    sentences: Annotated[int, Field(gt=0)]
    beam: Annotated[int, Field(gt=0)]
    length_penalty: float


def write_translations(lines: list[str], folder: Path) -> Path:
    """Write the translations of the test split, one a line. Returns the file."""
    file = folder / TRANSLATIONS_FILE
    write_text("".join(f"{line}\n" for line in lines), file=file)
    return file


def write_bleu_counts(counts: "np.ndarray", folder: Path) -> Path:
    """Write the counts of each sentence, int32 `(sentences, 10)`. Returns the file."""
    import numpy as np

    file = folder / BLEU_COUNTS_FILE
    with open_atomic(file) as aside, aside.open("wb") as stream:
        np.save(stream, np.asarray(counts, dtype=np.int32), allow_pickle=False)
    return file
