"""How often each target of the test split occurs in the training text, in decades; kept beside the nats of its tokens.

From the two, a comparison tells who gains by a tie (frequent words or rare ones), without the corpus or torch.
"""

from pathlib import Path
from typing import TYPE_CHECKING

from tiebench.errors import TiebenchError
from tiebench.files import open_atomic
from tiebench.results.arrays import decode_array
from tiebench.results.record import Record, read_beside

if TYPE_CHECKING:
    import numpy as np

TARGET_DECADES_FILE = "test-decades.npy"
MOST_DECADES = 13


def write_target_decades(decades: "np.ndarray", folder: Path) -> Path:
    """Write the decade of each test token, uint8 `(tokens,)`: 0 never, 1 for 1 to 9, 2 for 10 to 99. Returns the file.

    One byte a token, a quarter of what the nats take; the file is the same for all runs of a corpus and vocabulary.
    """
    import numpy as np

    file = folder / TARGET_DECADES_FILE
    with open_atomic(file) as aside, aside.open("wb") as stream:
        np.save(stream, np.asarray(decades, dtype=np.uint8).reshape(-1), allow_pickle=False)
    return file


def read_target_decades(record: Record, folder: Path) -> "np.ndarray | None":
    """The decade of each test token, uint8 `(tokens,)`, read-only; None in runs that are older than the file.

    Raises TiebenchError when they do not belong to the record: another digest, length, or values that are no decades.
    """
    import numpy as np

    file, evaluation = folder / TARGET_DECADES_FILE, record.evaluations.get("test")
    if evaluation is None or not file.exists():
        return None
    content = read_beside(record, file)
    try:
        decades = decode_array(content, dtype="|u1", shape=(evaluation.tokens,))
    except ValueError as error:
        raise _explain_damaged_decades(file, str(error)) from error
    if decades.shape != (evaluation.tokens,) or decades.dtype != np.uint8:
        reason = f"{decades.dtype} of shape {decades.shape}, but the record counts {evaluation.tokens} test tokens"
        raise _explain_damaged_decades(file, reason)
    if decades.max(initial=0) > MOST_DECADES:
        raise _explain_damaged_decades(file, f"it holds a decade of {decades.max()}, and {MOST_DECADES} is the largest")
    return decades


def _explain_damaged_decades(file: Path, reason: str) -> TiebenchError:
    return TiebenchError(
        f"{file} is damaged: {reason}", "remove it: it is computed again if the corpus is on this machine"
    )
