"""The folder of a run: one process at a time writes it, an old record stays until the new one is there."""

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import yaml

from tiebench.errors import TiebenchError, UsageError
from tiebench.execution.heartbeat import begin_heartbeat
from tiebench.experiment.bundled import SPEC_FILE
from tiebench.experiment.run_file import describe_run
from tiebench.experiment.run_spec import RunSpec
from tiebench.files import WRITTEN_ASIDE, make_folder, sweep_folder, sync, write_text
from tiebench.locks import HeldLock, hold_lock, is_lock
from tiebench.results.curve import CURVE_FILE, CurvePoint
from tiebench.results.heartbeat_file import HEARTBEAT_FILE, read_heartbeat, write_heartbeat
from tiebench.results.record import RECORD_FILE, VOCABULARY_FILE, WEIGHTS_FILE
from tiebench.results.store import (
    CHECKPOINT_PATTERN,
    LOCK_FILE,
    REPLACEMENT_FOLDER,
)
from tiebench.results.target_decades import TARGET_DECADES_FILE
from tiebench.results.token_nll import TOKEN_NLL_FILE
from tiebench.results.translation_files import BLEU_COUNTS_FILE, TRANSLATIONS_FILE
from tiebench.training.callbacks import Callback

OF_A_FAILED_RUN = (SPEC_FILE, VOCABULARY_FILE, CURVE_FILE, TOKEN_NLL_FILE, TARGET_DECADES_FILE, WEIGHTS_FILE)
OF_A_FAILED_RUN += (TRANSLATIONS_FILE, BLEU_COUNTS_FILE)


@contextmanager
def lock_run_dir(
    folder: Path, *, run: RunSpec, wait: bool = False, say: Callable[[str], None] = lambda message: None
) -> Iterator[HeldLock]:
    """Hold the run's lock, so that two processes never write one run.

    Raises TiebenchError that says who holds it, or with `wait` waits for it. Temporary files of killed processes are
    removed at the beginning, and an empty folder at the end.
    """
    from filelock import Timeout

    lock = folder / LOCK_FILE
    with ExitStack() as held:
        try:
            owned = held.enter_context(hold_lock(lock))
        except Timeout:
            who = _name_owner(folder)
            if not wait:
                hint = "wait for it with --wait, or use --results DIR"
                raise TiebenchError(f"{run.name} is being trained by {who}", hint) from None
            say(f"{run.name} is being trained by {who}: waiting")
            owned = held.enter_context(hold_lock(lock, timeout_s=-1))
        held.callback(_leave, folder, owned)
        sweep_folder(folder)
        write_heartbeat(begin_heartbeat(run), folder=folder)
        yield owned


class OwnershipCallback(Callback):
    """Raises TiebenchError at the next step of a run whose folder is another process's now."""

    def __init__(self, run: RunSpec, *, lock: HeldLock) -> None:
        self.run, self.lock = run, lock

    def start_stage(self, name: str, *, total_tokens: int, done_tokens: int = 0) -> None:
        self._check()

    def advance(self, num_tokens: int, *, nll_per_token: float | None = None) -> None:
        self._check()

    def report_evaluation(self, point: CurvePoint) -> None:
        self._check()

    def _check(self) -> None:
        if not self.lock.is_held():
            what = f"{self.run.name} was taken over by another process, since this one gave no sign of life"
            raise TiebenchError(what, "nothing is to be done: it goes on there from its last checkpoint")


def prepare_folder(folder: Path, *, run: RunSpec, force: bool) -> Path:
    """Where to train: the run's folder, or one inside it when there is something to be replaced.

    Raises UsageError when an unfinished run of another spec is there; with `force` that one is removed.
    """
    aside = folder / REPLACEMENT_FOLDER
    goes_on = any(aside.glob(CHECKPOINT_PATTERN)) and _read_signature(aside) == run.signature
    place = aside if force or goes_on or (folder / RECORD_FILE).exists() else folder
    signature = _read_signature(place)
    if signature not in (None, run.signature):
        if not force:
            raise UsageError(
                f"{place} holds an unfinished run of another spec ({signature}, not {run.signature})",
                "keep both with --results DIR, or replace the old one with --force",
            )
        shutil.rmtree(place)
    make_folder(place)
    sweep_folder(place)
    write_text(yaml.safe_dump(describe_run(run), sort_keys=False), file=place / SPEC_FILE)
    return place


def finish_replacing(folder: Path) -> None:
    """Move a run that was trained aside over the one that it replaces, its record last; the next call finishes
    what a killed one began.
    """
    aside = folder / REPLACEMENT_FOLDER
    if not (aside / RECORD_FILE).exists():
        return
    for file in sorted(aside.iterdir(), key=lambda file: file.name == RECORD_FILE):
        if not file.match(CHECKPOINT_PATTERN) and not WRITTEN_ASIDE.fullmatch(file.name):
            os.replace(file, folder / file.name)
    sync(folder)
    remove_leftovers(folder)


def remove_leftovers(folder: Path) -> None:
    """Remove what a finished run no longer needs."""
    for file in folder.glob(CHECKPOINT_PATTERN):
        file.unlink()
    if (folder / REPLACEMENT_FOLDER).exists():
        shutil.rmtree(folder / REPLACEMENT_FOLDER)


def remove_failed(folder: Path) -> None:
    """Remove the files of a run that ended before its first checkpoint: there is nothing to go on from."""
    for place in (folder, folder / REPLACEMENT_FOLDER):
        if not any(place.glob(CHECKPOINT_PATTERN)) and not (place / RECORD_FILE).exists():
            for name in OF_A_FAILED_RUN:
                (place / name).unlink(missing_ok=True)
            with suppress(OSError):  # it is not there, or holds something else
                place.rmdir()


def tidy_finished(folder: Path, *, is_finished: Callable[[], bool]) -> None:
    """Finish what killed processes left undone in the folder of a finished run, unless another process trains there or
    it may not be written.
    """
    from filelock import Timeout

    left = (HEARTBEAT_FILE, REPLACEMENT_FOLDER)
    names = [file.name for file in folder.iterdir()] if (folder / RECORD_FILE).exists() else []
    if not (any(name in left or WRITTEN_ASIDE.fullmatch(name) for name in names) or _has_own_checkpoint(folder, names)):
        return
    with suppress(Timeout, OSError, TiebenchError), hold_lock(folder / LOCK_FILE):
        finish_replacing(folder)
        sweep_folder(folder)
        (folder / HEARTBEAT_FILE).unlink(missing_ok=True)
        if is_finished():
            remove_leftovers(folder)


def _has_own_checkpoint(folder: Path, names: list[str]) -> bool:
    return bool(names) and any(folder.glob(CHECKPOINT_PATTERN))


def _name_owner(folder: Path) -> str:
    heartbeat = read_heartbeat(folder)
    return "another process" if heartbeat is None else heartbeat.owner


def _read_signature(folder: Path) -> str | None:
    """The signature of the run that was begun here; None where it is not known."""
    try:
        content = yaml.safe_load((folder / SPEC_FILE).read_text("utf-8"))
    except (OSError, ValueError, yaml.YAMLError, RecursionError):
        return None
    signature = content.get("signature") if isinstance(content, dict) else None
    return signature if isinstance(signature, str) else None


def _leave(folder: Path, lock: HeldLock) -> None:
    """To be called while the lock is held: remove the heartbeat, and a folder that holds nothing else."""
    if not lock.is_held():
        return
    (folder / HEARTBEAT_FILE).unlink(missing_ok=True)
    if not all(is_lock(file) for file in folder.iterdir()):
        return
    lock.remove()
    with suppress(OSError):  # other runs are there, or another process came first
        for place in (folder, folder.parent, folder.parent.parent):
            place.rmdir()
