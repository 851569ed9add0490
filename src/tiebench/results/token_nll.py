"""The nats of every token of the test split, beside a run's record: what comparisons pair token by token."""

import math
from pathlib import Path
from typing import TYPE_CHECKING

from tiebench.files import open_atomic
from tiebench.results.arrays import decode_array
from tiebench.results.record import Record, explain_damage, read_beside

if TYPE_CHECKING:
    import numpy as np

TOKEN_NLL_FILE = "test-nll.npy"


def write_token_nll(token_nll: "np.ndarray", folder: Path) -> Path:
    """Write the test split's nats, shape (tokens,), as float32. Returns the file."""
    import numpy as np

    file = folder / TOKEN_NLL_FILE
    with open_atomic(file) as aside, aside.open("wb") as stream:
        np.save(stream, np.asarray(token_nll, dtype=np.float32).reshape(-1), allow_pickle=False)
    return file


def read_token_nll(record: Record, folder: Path) -> "np.ndarray | None":
    """The test split's nats, shape (tokens,), float32, read-only; None when they were not kept.

    Raises TiebenchError when they do not belong to the record: another digest, another length, or another sum (beyond
    1e-4).
    """
    import numpy as np

    file, evaluation = folder / TOKEN_NLL_FILE, record.evaluations.get("test")
    if evaluation is None or not file.exists():
        return None
    content = read_beside(record, file)
    try:
        token_nll = decode_array(content, dtype="<f4", shape=(evaluation.tokens,))
    except ValueError as error:
        raise explain_damage(file, str(error)) from error
    if token_nll.shape != (evaluation.tokens,):
        raise explain_damage(file, f"shape {token_nll.shape}, but the record counts {evaluation.tokens} test tokens")
    with np.errstate(over="ignore"):
        total = float(token_nll.sum())  # in pairs, so that single precision is exact to 1e-6
    if not math.isclose(total, evaluation.nll, rel_tol=1e-4):
        raise explain_damage(file, f"they sum to {total:.6g} nats, but the record says {evaluation.nll:.6g}")
    return token_nll
