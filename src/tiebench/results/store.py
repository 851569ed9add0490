"""Where runs lie: `<root>/<experiment>/<arm>/seed-<n>/`; a run is found by the names of its folders alone."""

import logging
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from tiebench.errors import TiebenchError, UsageError
from tiebench.experiment.schema import NAME
from tiebench.locks import is_locked
from tiebench.results.curve import CurvePoint, read_curve
from tiebench.results.record import RECORD_FILE, Record, read_record
from tiebench.results.target_decades import read_target_decades
from tiebench.results.token_nll import read_token_nll
from tiebench.results.translation_files import read_bleu_counts

if TYPE_CHECKING:
    import numpy as np

LOCK_FILE = ".lock"
CHECKPOINT_PATTERN = "checkpoint*"
REPLACEMENT_FOLDER = "replacement"
"""Inside the folder of a run with a record: what is trained to take the record's place (`train --force`)."""

State = Literal["finished", "running", "interrupted", "empty"]

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Store:
    """All runs below one folder. A folder that does not exist is a store without runs.

    Example: `Store(Path("results")).records()`.
    """

    root: Path
    warned: set[str] = field(default_factory=set, compare=False, repr=False)

    def folder(self, experiment: str, arm: str, seed: int) -> Path:
        """Where this run lies, whether or not it exists. Raises UsageError for a name that cannot be a folder."""
        for kind, name in (("experiment", experiment), ("arm", arm)):
            if not NAME.fullmatch(name):
                hint = "use lower case letters, digits, '.', '_', '+' and '-', and begin with a letter or a digit"
                raise UsageError(f"'{name}' cannot name an {kind}", hint)
        return Path(self.root, experiment, arm, f"seed-{seed}")

    def folder_of(self, record: Record) -> Path:
        """Where this record's run lies."""
        return self.folder(record.experiment, record.arm, record.seed)

    def folders(self) -> list[Path]:
        """Every run folder, finished or not: by experiment, arm and seed."""
        found = ((folder, _seed(folder)) for folder in self.root.glob("*/*/seed-*"))
        runs = [(*folder.parts[-3:-1], seed, folder) for folder, seed in found if seed is not None]
        return [folder for *_, folder in sorted(runs)]

    def records(self) -> list[Record]:
        """All finished runs, by experiment, arm and seed; without those whose record cannot be read (see `read`)."""
        return self.read_all(self.folders())

    def has_records(self) -> bool:
        """Whether there is a finished run; it reads no more than the first."""
        folders = (file.parent for file in self.root.glob(f"*/*/seed-*/{RECORD_FILE}"))
        return any(self.read(folder) is not None for folder in folders if _seed(folder) is not None)

    def read_all(self, folders: Iterable[Path]) -> list[Record]:
        """The records in these folders; a folder without a good one is left out (see `read`)."""
        return [record for folder in folders if (record := self.read(folder)) is not None]

    def read(self, folder: Path) -> Record | None:
        """The record in a run's folder; None without one.

        None as well, with a warning that names the file, for a record that is damaged, of another schema version or of
        another run than the folder is for: one bad record stops no other, and training makes it again.
        """
        if not (folder / RECORD_FILE).exists():
            return None
        try:
            record = read_record(folder)
            if folder.parts[-3:] != (record.experiment, record.arm, f"seed-{record.seed}"):
                name = f"{record.experiment}/{record.arm} seed {record.seed}"
                raise TiebenchError(f"{folder / RECORD_FILE} is the record of another run, {name}")
        except TiebenchError as error:
            if error.message not in self.warned:
                self.warned.add(error.message)
                logger.warning("%s; the run counts as not finished, and training makes it again", error.message)
            return None
        return record

    def token_nll(self, record: Record) -> "np.ndarray | None":
        """The nats of every token of the test split, shape (tokens,); None when they were not kept."""
        return read_token_nll(record, self.folder_of(record))

    def target_decades(self, record: Record) -> "np.ndarray | None":
        """How often the target of each test token stood in training, shape (tokens,); None in older runs."""
        return read_target_decades(record, self.folder_of(record))

    def bleu_counts(self, record: Record) -> "np.ndarray | None":
        """What BLEU counts in each test sentence, shape (sentences, 10); None in runs that do not translate."""
        return read_bleu_counts(record, self.folder_of(record))

    def curve(self, record: Record) -> list[CurvePoint]:
        """The learning curve of a run."""
        return read_curve(self.folder_of(record), record=record)


def read_folders(folders: list[Path]) -> list[Record]:
    """The records that can be read, wherever their folders lie. Raises TiebenchError where there is none."""
    records, errors = [], []
    for folder in folders:
        try:
            records.append(read_record(folder))
        except TiebenchError as error:
            errors.append(error)
    if not records:
        raise errors[0]
    for error in errors:
        logger.warning("%s; the comparison is made without it", error.message)
    return records


def find_state(folder: Path) -> State:
    """How far the run in this folder is: `finished` has a record, `running` is locked by a process."""
    if (folder / RECORD_FILE).exists():
        return "finished"
    if is_locked(folder / LOCK_FILE):
        return "running"
    return "interrupted" if has_checkpoint(folder) else "empty"


def has_checkpoint(folder: Path) -> bool:
    """Whether a run, or one to replace it, would go on from a checkpoint."""
    return any(any(place.glob(CHECKPOINT_PATTERN)) for place in (folder, folder / REPLACEMENT_FOLDER))


def _seed(folder: Path) -> int | None:
    digits = folder.name.removeprefix("seed-")
    return int(digits) if digits.isdecimal() and folder.is_dir() else None
