"""Going on from a checkpoint: that of another run, of other text or a damaged one is refused."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from pydantic import ValidationError

from tiebench.errors import TiebenchError
from tiebench.experiment.run_spec import RunSpec
from tiebench.training.checkpoints import read_checkpoint

MOST_THREADS = 4096
PARTS = {"signature", "model", "optimizer", "recurrent_states", "dropout", "num_threads", "train_state"}


def check_checkpoint(state: dict[str, Any], *, run: RunSpec, text: dict[str, str], folder: Path) -> None:
    """`text` says which corpus and vocabulary there are now. Raises TiebenchError that says what is different."""
    if missing := PARTS - state.keys():
        raise _damaged_checkpoint(folder, f"{', '.join(sorted(missing))} not in it")
    if state["signature"] != run.signature:
        raise TiebenchError(
            f"{folder} holds a checkpoint of another run ({state['signature']}, not {run.signature})",
            "train with --force to begin again, or with --results to keep both",
        )
    before = state.get("text", {})
    if not isinstance(before, dict):
        raise _damaged_checkpoint(folder, f"its text is {before!r}")
    changed = [name for name in text if before.get(name, text[name]) != text[name]]
    if changed:
        what = " and ".join(f"the {name} was {before[name]} and is {text[name]}" for name in changed)
        raise TiebenchError(
            f"{run.name}: the text has changed since the checkpoint was written: {what}",
            "put the old text back to go on, or train with --force to begin again with the new one",
        )
    threads = state["num_threads"]
    if type(threads) is not int or not 0 < threads <= MOST_THREADS:  # torch would not survive it
        raise _damaged_checkpoint(folder, f"it asks for {threads!r} threads")


@contextmanager
def refuse_damage(folder: Path) -> Iterator[None]:
    """Use the content of a checkpoint within the block. Raises TiebenchError where it does not fit."""
    try:
        yield
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"]))
        raise _damaged_checkpoint(folder, f"{place} is {first['input']!r}") from error
    except (RuntimeError, TypeError, ValueError, KeyError, IndexError, AttributeError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise _damaged_checkpoint(folder, reason) from error


def share_threads(run: RunSpec, *, before: int, say: Callable[[str], None]) -> None:
    """Use as many threads as before, since another number rounds differently; say so where there are only fewer."""
    share = torch.get_num_threads()
    if before <= share:
        torch.set_num_threads(before)
    else:
        say(
            f"{run.name}: going on with {share} of the {before} threads that it began with, "
            "so the figures may differ by rounding from those of an uninterrupted run"
        )


def describe_last(folder: Path) -> str:
    """Up to which step a folder has a checkpoint."""
    kept = read_checkpoint(folder)
    step = (
        f"the last good checkpoint is of step {kept['train_state']['step']}" if kept else "there is no checkpoint yet"
    )
    return f"{step} in {folder}"


def _damaged_checkpoint(folder: Path, what: str) -> TiebenchError:
    return TiebenchError(f"the checkpoint in {folder} is damaged: {what}", "train with --force to begin again")
