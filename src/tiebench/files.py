"""Atomic, durable writes: a temporary file beside the real one is written, synced to the disk, then renamed."""

import hashlib
import os
import re
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tiebench.errors import TiebenchError

WRITTEN_ASIDE = re.compile(r"\..+\.\d+-[0-9a-f]{8}")


def cache_folder() -> Path:
    """The folder for everything that can be made again: `TIEBENCH_CACHE`, else the user's cache folder.

    Raises TiebenchError for a user without a home folder, as in a container that runs under an unknown user id.
    """
    chosen = os.environ.get("TIEBENCH_CACHE")
    if chosen:
        return Path(chosen)
    try:
        return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "tiebench"
    except RuntimeError as error:
        hint = "name a folder for the cache: export TIEBENCH_CACHE=/path/to/folder"
        raise TiebenchError("this user has no home folder", hint) from error


@contextmanager
def open_atomic(file: Path) -> Iterator[Path]:
    """A temporary path to write to; on success it replaces `file`, on failure it is removed and `file` stays as it was.

    After the block, content and name survive a power cut: file and folder are synced.
    """
    make_folder(file.parent)
    temporary = file.with_name(f".{file.name}.{os.getpid()}-{secrets.token_hex(4)}")
    try:
        yield temporary
        sync(temporary)
        os.replace(temporary, file)
        sync(file.parent)
    finally:
        temporary.unlink(missing_ok=True)


def write_text(text: str, *, file: Path) -> None:
    """Replace the whole of `file` by `text`, as UTF-8 with plain newlines."""
    with open_atomic(file) as temporary:
        temporary.write_text(text, "utf-8", newline="\n")


def make_folder(folder: Path) -> None:
    """Make a folder and those above it; the names of new ones survive a power cut."""
    missing = [path for path in (folder, *folder.parents) if not path.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    for path in missing:
        sync(path.parent)


def sync(path: Path) -> None:
    """Wait until a file's content, or a folder's list of names, is on the disk."""
    if os.name == "nt" and path.is_dir():
        return
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sweep_folder(folder: Path) -> None:
    """Remove the temporary files of killed processes. Hold the folder's lock: another process may be writing."""
    for file in folder.iterdir():
        if WRITTEN_ASIDE.fullmatch(file.name):
            shutil.rmtree(file, ignore_errors=True) if file.is_dir() else file.unlink(missing_ok=True)


def compute_digest(content: bytes | memoryview | Path) -> str:
    """The SHA-256 of bytes or of a file, as 64 hex digits."""
    if not isinstance(content, Path):
        return hashlib.sha256(content).hexdigest()
    with content.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
