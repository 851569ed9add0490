"""The nats of every token of the test split, beside a run's record: what comparisons pair token by token."""

import math
from pathlib import Path
from typing import TYPE_CHECKING

from tiebench.files import open_atomic
from tiebench.results.record import Record, check_file, explain_damage

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
    """The test split's nats, shape (tokens,), float32; None when they were not kept.

    Raises TiebenchError when they do not belong to the record: another digest, another length, or another sum (beyond
    1e-4).
    """
    import numpy as np

    file, evaluation = folder / TOKEN_NLL_FILE, record.evaluations.get("test")
    if evaluation is None or not file.exists():
        return None
    check_file(record, file)
    try:
        token_nll = np.load(file, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise explain_damage(file, str(error)) from error
    if token_nll.shape != (evaluation.tokens,):
        raise explain_damage(file, f"shape {token_nll.shape}, but the record counts {evaluation.tokens} test tokens")
    total = float(token_nll.sum(dtype=np.float64))
    if not math.isclose(total, evaluation.nll, rel_tol=1e-4):
        raise explain_damage(file, f"they sum to {total:.6g} nats, but the record says {evaluation.nll:.6g}")
    return token_nll
