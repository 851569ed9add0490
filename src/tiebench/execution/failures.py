"""Failures by a full disk, too little memory or a missing permission, as messages that name the run and a way out."""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import torch

from tiebench.errors import TiebenchError
from tiebench.execution.counting import count_arms
from tiebench.execution.memory import find_memory
from tiebench.experiment.run_spec import RunSpec

OF_MEMORY = ("memory", "alloc", "storage size calculation overflowed")  # in what torch says, in lower case


@contextmanager
def explain_failures(run: RunSpec, *, data_dir: Path | None) -> Iterator[None]:
    """Raises TiebenchError for an OSError and for whatever torch raises when memory is not enough."""
    try:
        yield
    except OSError as error:
        place = f": {error.filename}" if error.filename else ""
        hint = "check the disk and the permissions, then train again: it continues from the last checkpoint"
        raise TiebenchError(f"{run.name}: {error.strerror or error}{place}", hint) from error
    except (MemoryError, RuntimeError) as error:
        if not is_about_memory(error):
            raise
        raise TiebenchError(
            f"{run.name} does not fit in memory: {_describe_need(run, data_dir=data_dir)}",
            "make the model or training.batch_size smaller, or train fewer runs at once (--jobs 1)",
        ) from error


def is_about_memory(error: BaseException) -> bool:
    """Whether an error of Python or torch means that there is not enough memory."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    return isinstance(error, RuntimeError) and any(word in str(error).lower() for word in OF_MEMORY)


def _describe_need(run: RunSpec, *, data_dir: Path | None) -> str:
    need = "its size is not known"
    with suppress(TiebenchError, MemoryError, RuntimeError):
        (count,) = count_arms([run], data_dir=data_dir)
        need = f"training takes about {count.memory_bytes / 2**30:,.1f} GiB"
    there = find_memory()
    return need if there is None else f"{need}, and there are {there / 2**30:,.1f} GiB on this machine"
