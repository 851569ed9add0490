"""Folders of the cache, which can always be built again: in a temporary folder, with a manifest, renamed into place.

Opening one verifies it against its manifest; when a file is missing or damaged, the folder is built again, under a
lock.
"""

import json
import os
import secrets
import shutil
from collections.abc import Callable
from pathlib import Path

from tiebench.errors import TiebenchError
from tiebench.files import cache_folder, compute_digest, sync, write_text
from tiebench.locks import hold_lock

MANIFEST = "manifest.json"


def keep_folder(name: str, *, build: Callable[[Path], None]) -> Path:
    """The intact folder `name` of the cache, built by `build(folder)` when there is none.

    Every file is read and compared with its digest at every opening. Opening an intact folder needs no permission to
    write. Of two processes, one builds and the other waits for it.

    Raises TiebenchError when the cache cannot be read, written or locked.
    """
    folder = cache_folder() / name
    if is_intact(folder):
        return folder
    try:
        with hold_lock(folder.with_name(f"{folder.name}.lock"), timeout_s=-1):
            if not is_intact(folder):
                _build_folder(folder, build=build)
    except OSError as error:
        hint = "Free some space, or name another folder: export TIEBENCH_CACHE=/path/to/folder"
        raise TiebenchError(f"cannot fill the cache folder {folder}: {error}", hint) from error
    return folder


def is_intact(folder: Path) -> bool:
    """Whether every file of the manifest is there, as it was."""
    try:
        manifest = json.loads((folder / MANIFEST).read_text("utf-8"))
        return bool(manifest) and all(compute_digest(folder / name) == digest for name, digest in manifest.items())
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return False


def _build_folder(folder: Path, *, build: Callable[[Path], None]) -> None:
    """Only the owner of the lock comes here, so temporary folders are what killed processes left behind."""
    for abandoned in folder.parent.glob(f"{folder.name}.temporary-*"):
        shutil.rmtree(abandoned)
    temporary = folder.with_name(f"{folder.name}.temporary-{secrets.token_hex(4)}")
    try:
        temporary.mkdir()
        build(temporary)
        _write_manifest(temporary)
        sync(temporary)
        if folder.exists():
            shutil.rmtree(folder)
        os.replace(temporary, folder)
        sync(folder.parent)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _write_manifest(folder: Path) -> None:
    manifest = {file.name: compute_digest(file) for file in sorted(folder.iterdir())}
    for file in folder.iterdir():
        sync(file)
    write_text(json.dumps(manifest, indent=1), file=folder / MANIFEST)
