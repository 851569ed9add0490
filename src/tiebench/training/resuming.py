"""Whether a run may go on from a checkpoint: that of another run, of other text or a damaged one is refused."""

from pathlib import Path
from typing import Any

from tiebench.errors import TiebenchError
from tiebench.experiment.run_spec import RunSpec

MOST_THREADS = 4096


def check_checkpoint(state: dict[str, Any], *, run: RunSpec, text: dict[str, str], folder: Path) -> None:
    """`text` says which corpus and vocabulary there are now. Raises TiebenchError that says what is different."""
    if state["signature"] != run.signature:
        raise TiebenchError(
            f"{folder} holds a checkpoint of another run ({state['signature']}, not {run.signature})",
            "train with --force to begin again, or with --results to keep both",
        )
    before = state.get("text", {})
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
    for name, value in state["train_state"].items():
        if isinstance(value, int | float) and not value >= 0:
            raise _damaged_checkpoint(folder, f"{name} is {value}")


def _damaged_checkpoint(folder: Path, what: str) -> TiebenchError:
    return TiebenchError(f"the checkpoint in {folder} is damaged: {what}", "train with --force to begin again")
