"""Where runs lie: `<root>/<experiment>/<arm>/seed-<n>/`, readable by a person and by nothing but the folder names."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from tiebench.errors import UsageError, did_you_mean
from tiebench.experiment.schema import NAME
from tiebench.results.record import RECORD_FILE, CurvePoint, Record, read_curve, read_record, read_token_nll

if TYPE_CHECKING:
    import numpy as np

LOCK_FILE = ".lock"
CHECKPOINT_PATTERN = "checkpoint*"

State = Literal["finished", "running", "interrupted", "empty"]


@dataclass(frozen=True)
class Store:
    """All runs below one folder. A folder that does not exist is a store without runs.

    Example: `Store(Path("results")).find(experiment="quickstart", arm="tied")`.
    """

    root: Path

    def folder(self, experiment: str, arm: str, seed: int) -> Path:
        """Where this run lies, whether or not it exists. Raises UsageError for a name that cannot be a folder."""
        for kind, name in (("experiment", experiment), ("arm", arm)):
            if not NAME.fullmatch(name):
                hint = "use lower case letters, digits, '.', '_', '+' and '-', and begin with a letter or a digit"
                raise UsageError(f"'{name}' cannot name an {kind}", hint)
        return self.root / experiment / arm / f"seed-{seed}"

    def folder_of(self, record: Record) -> Path:
        """Where this record's run lies."""
        return self.folder(record.experiment, record.arm, record.seed)

    def folders(self) -> list[Path]:
        """Every run folder, finished or not: by experiment, arm and seed."""
        found = (folder for folder in self.root.glob("*/*/seed-*") if _seed(folder) is not None)
        return sorted(found, key=lambda folder: (folder.parts[-3], folder.parts[-2], _seed(folder)))

    def records(self) -> list[Record]:
        """All finished runs, by experiment, arm and seed. Raises TiebenchError for a damaged record."""
        return [read_record(folder) for folder in self.folders() if (folder / RECORD_FILE).exists()]

    def experiments(self) -> list[str]:
        """The names of all experiments that have a run folder."""
        return list(dict.fromkeys(folder.parts[-3] for folder in self.folders()))

    def arms(self, experiment: str) -> list[str]:
        """The names of all arms of an experiment that have a run folder."""
        folders = (folder for folder in self.folders() if folder.parts[-3] == experiment)
        return list(dict.fromkeys(folder.parts[-2] for folder in folders))

    def find(self, *, experiment: str | None = None, arm: str | None = None) -> list[Record]:
        """The finished runs of an experiment, of an arm, or of both.

        Raises UsageError, with what is there, for an experiment or an arm that has no run folder.
        """
        names = [experiment] if experiment else self.experiments()
        if experiment:
            _require(experiment, self.experiments(), kind="experiment", place=str(self.root))
        if arm:
            known = [name for each in names for name in self.arms(each)]
            _require(arm, known, kind="arm", place=experiment or str(self.root))
        chosen = (folder for folder in self.folders() if folder.parts[-3] in names)
        chosen = (folder for folder in chosen if arm in (None, folder.parts[-2]))
        return [read_record(folder) for folder in chosen if (folder / RECORD_FILE).exists()]

    def token_nll(self, record: Record) -> "np.ndarray | None":
        """The nats of every token of the test split, shape (tokens,); None when they were not kept."""
        return read_token_nll(record, self.folder_of(record))

    def curve(self, record: Record) -> list[CurvePoint]:
        """The learning curve of a run."""
        return read_curve(self.folder_of(record))


def find_state(folder: Path) -> State:
    """How far the run in this folder is: `finished` has a record, `running` is locked by a process."""
    if (folder / RECORD_FILE).exists():
        return "finished"
    if _is_locked(folder / LOCK_FILE):
        return "running"
    return "interrupted" if any(folder.glob(CHECKPOINT_PATTERN)) else "empty"


def _is_locked(file: Path) -> bool:
    """Asks for the lock without waiting; leaves no file where there was none."""
    from filelock import FileLock, Timeout

    if not file.exists():
        return False
    try:
        with FileLock(file, timeout=0):
            return False
    except Timeout:
        return True


def _seed(folder: Path) -> int | None:
    digits = folder.name.removeprefix("seed-")
    return int(digits) if digits.isdecimal() and folder.is_dir() else None


def _require(name: str, known: Iterable[str], *, kind: str, place: str) -> None:
    known = set(known)
    if not known:
        raise UsageError(f"no runs in {place}", "train an experiment first: tiebench train quickstart")
    if name not in known:
        raise UsageError(f"no {kind} '{name}' in {place}", did_you_mean(name, known))
