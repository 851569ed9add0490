"""The checkpoint that a run goes on from: where it lies, and its digest. Imports no torch (see `plan.py`)."""

import hashlib
import os
from dataclasses import replace
from functools import cache
from pathlib import Path

from tiebench.corpora.tokenizer_files import TOKENIZER_CONFIG_FILE, TOKENIZER_FILE
from tiebench.errors import TiebenchError, UsageError
from tiebench.experiment.run_spec import RunSpec
from tiebench.files import compute_digest
from tiebench.models.checkpoint_files import CONFIG_FILE, find_weight_files


def identify_checkpoints(runs: list[RunSpec], *, data_dir: Path | None = None) -> list[RunSpec]:
    """Every run that goes on from a checkpoint gets its digest, where the file does not say it.

    Raises TiebenchError for a checkpoint that is not there or not whole.
    """
    return [_add_digest(run, data_dir=data_dir) for run in runs]


def _add_digest(run: RunSpec, *, data_dir: Path | None) -> RunSpec:
    start = run.spec.initialise_from
    if start is None or start.digest is not None:
        return run
    digest = digest_checkpoint(find_checkpoint(run, data_dir=data_dir))
    known = start.model_copy(update={"digest": digest})
    return replace(run, spec=run.spec.model_copy(update={"initialise_from": known}))


def open_checkpoint(run: RunSpec, *, data_dir: Path | None = None) -> Path:
    """The folder of the checkpoint. Raises UsageError where it has changed, TiebenchError where it is not there."""
    folder, start = find_checkpoint(run, data_dir=data_dir), run.spec.initialise_from
    digest = digest_checkpoint(folder)
    if start is not None and start.digest not in (None, digest):
        raise UsageError(
            f"{folder} has changed: its digest is {digest}, and {run.name} begins with {start.digest}",
            "put the old checkpoint back, or remove initialise_from.digest and train under another name",
        )
    return folder


def find_checkpoint(run: RunSpec, *, data_dir: Path | None = None) -> Path:
    """The first folder that there is: beside the experiment file, in the current folder, in the data folder."""
    start = run.spec.initialise_from
    assert start is not None
    name = Path(start.folder).expanduser() if start.folder.startswith("~/") else Path(start.folder)
    chosen = data_dir or os.environ.get("TIEBENCH_DATA") or None
    places = [place for place in (run.folder, Path(), Path(chosen) if chosen else None) if place is not None]
    tried = list(dict.fromkeys((place / name).absolute() for place in places))
    found = next((folder for folder in tried if folder.is_dir()), None)
    if found is None:
        raise TiebenchError(
            f"the checkpoint of initialise_from was not found: tried {' and '.join(map(str, tried))}",
            "export a run as one: tiebench export RUN DIR; or give the folder that save_pretrained wrote",
        )
    return found


def digest_checkpoint(folder: Path) -> str:
    """The SHA-256 over name and SHA-256 of all that the model and its tokens depend on, as 64 hex digits."""
    names = (CONFIG_FILE, TOKENIZER_FILE, TOKENIZER_CONFIG_FILE)
    others = [folder / name for name in names if (folder / name).exists()]
    digest = hashlib.sha256()
    for file in sorted([*find_weight_files(folder), *others], key=lambda file: file.name):
        facts = file.stat()
        digest.update(f"{file.name} {_digest_file(file, facts.st_mtime_ns, facts.st_size)}\n".encode())
    return digest.hexdigest()


@cache
def _digest_file(file: Path, changed: int, size: int) -> str:
    """Once for each state of a file, as it may be large."""
    return compute_digest(file)
