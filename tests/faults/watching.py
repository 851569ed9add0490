"""Counts what a process does to the files below some folders, and lets one of these operations go wrong.

It works at the level of Python (`open`, `write`, `os.replace`, ...), so that it runs wherever the tests run. What a
library writes by itself is seen only where it is led through Python: safetensors is, `ndarray.tofile` is not.
"""

import builtins
import errno
import fcntl
import io
import json
import os
import signal
from base64 import b64encode
from collections.abc import Callable
from pathlib import Path
from typing import Any

HEARTBEAT = "heartbeat.json"
TAKES_SPACE = ("create", "write", "mkdir", "fsync")
real_open = io.open
real = {name: getattr(os, name) for name in ("open", "write", "fsync", "replace", "rename", "unlink", "mkdir", "rmdir")}


class Watch:
    """The operations of this process below `folders`, in order.

    `fault` is what happens at operation `at` (the first is 1): `kill` ends the process there, in the middle of it where
    it is a write; `full` is a disk that has no space from there on; `broken` fails once with an I/O error. `unlockable`
    is a file system without locks, from the first operation on. With `since`, operations count from the first renaming
    to a path that has this part: how many there are before it may depend on the machine. With `keep_content` every
    file's content is noted when it is renamed or synced, for `powerloss`.
    """

    def __init__(
        self, folders: list[str], *, fault: str = "", at: int = 0, since: str = "", keep_content: bool = False
    ) -> None:
        self.folders, self.fault, self.at, self.keep_content = folders, fault, at, keep_content
        self.since, self.num_before = since, -1
        self.operations: list[dict[str, Any]] = []

    def covers(self, path: str) -> bool:
        return any(path == folder or path.startswith(f"{folder}/") for folder in self.folders)

    def note(self, name: str, path: str, *, half: Callable[[], Any] = lambda: None, **more: Any) -> None:
        """Called before the operation is made; raises the injected error."""
        if not self.covers(path) or (name in ("mkdir", "create") and os.path.isdir(path)):
            return  # elsewhere, or without effect
        if HEARTBEAT in os.path.basename(path):
            return  # it comes by the clock: counted, the number of what follows would depend on how busy the machine is
        content = {"content": _read_all(path)} if self.keep_content and name in ("rename", "fsync") else {}
        self.operations.append({"name": name, "path": path, **more, **content})
        if self.num_before < 0:
            if self.since not in more.get("to", ""):
                return
            self.num_before = len(self.operations) - 1
        number = len(self.operations) - self.num_before
        if self.fault == "kill" and number == self.at:
            half()
            os.kill(os.getpid(), signal.SIGKILL)
        if self.fault == "full" and number >= self.at and name in TAKES_SPACE:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), path)
        if self.fault == "broken" and number == self.at:
            raise OSError(errno.EIO, os.strerror(errno.EIO), path)

    def write_log(self, file: str) -> None:
        with real_open(file, "w", encoding="utf-8") as stream:
            json.dump(self.operations, stream)


def watch_files(watch: Watch) -> None:
    """From now on, until the process ends."""

    real_lock = fcntl.flock

    class WatchedFile(io.FileIO):
        def write(self, data: Any) -> int:
            whole = super().write
            watch.note("write", _find_path(self.fileno()), half=lambda: whole(bytes(data)[: len(bytes(data)) // 2]))
            return whole(data)

    def open_watched(file, mode="r", buffering=-1, encoding=None, errors=None, newline=None, closefd=True, opener=None):
        path = _find_path(file)
        if not watch.covers(path) or not set(mode) & set("wax+"):
            watch.note("read", path)
            return real_open(file, mode, buffering, encoding, errors, newline, closefd, opener)
        if not isinstance(file, int):
            watch.note("create", path)
        raw = WatchedFile(file, mode.replace("b", "").replace("t", "").replace("+", "") + "+", closefd, opener)
        if buffering == 0:
            return raw
        buffered = io.BufferedRandom(raw)  # no BufferedWriter: numpy would write past it
        return buffered if "b" in mode else io.TextIOWrapper(buffered, encoding, errors, newline)

    def open_descriptor(path, flags, mode=0o777, *, dir_fd=None):
        if flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT):
            watch.note("create", _find_path(path, dir_fd))
        return real["open"](path, flags, mode, dir_fd=dir_fd)

    def write_descriptor(descriptor, data):
        half = bytes(data)[: len(data) // 2]
        watch.note("write", _find_path(descriptor), half=lambda: real["write"](descriptor, half))
        return real["write"](descriptor, data)

    def fsync(descriptor):
        number = descriptor if isinstance(descriptor, int) else descriptor.fileno()
        watch.note("fsync", _find_path(number))
        return real["fsync"](descriptor)

    def rename_by(name):
        def rename(source, target, **keywords):
            watch.note("rename", _find_path(source), to=_find_path(target))
            return real[name](source, target, **keywords)

        return rename

    def change_by(name):
        def change(path, *positional, dir_fd=None, **keywords):
            watch.note(name, _find_path(path, dir_fd))
            return real[name](path, *positional, dir_fd=dir_fd, **keywords)

        return change

    def lock(descriptor, operation):
        if watch.fault == "unlockable" and watch.covers(_find_path(descriptor)):
            raise OSError(errno.ENOTSUP, os.strerror(errno.ENOTSUP))
        return real_lock(descriptor, operation)

    builtins.open = io.open = open_watched
    os.open, os.write, os.fsync = open_descriptor, write_descriptor, fsync
    os.replace, os.rename = rename_by("replace"), rename_by("rename")
    os.unlink = os.remove = change_by("unlink")
    os.mkdir, os.rmdir = change_by("mkdir"), change_by("rmdir")
    fcntl.flock = lock
    _lead_safetensors_through_python()


def _lead_safetensors_through_python() -> None:
    from safetensors import SafetensorError, serialize
    from safetensors import torch as safetensors_torch

    def serialize_file(tensors, filename, metadata=None):
        content = serialize(tensors, metadata)
        try:
            with open(filename, "wb") as file:
                file.write(content)
        except OSError as error:
            raise SafetensorError(f"Error while serializing: I/O error: {error}") from None

    safetensors_torch.serialize_file = serialize_file


def _find_path(file: Any, dir_fd: int | None = None) -> str:
    """The absolute path of a name or of a descriptor."""
    if isinstance(file, int):
        return os.readlink(f"/proc/self/fd/{file}")
    if dir_fd is not None:
        return os.path.join(os.readlink(f"/proc/self/fd/{dir_fd}"), os.fsdecode(file))
    return os.path.abspath(os.fsdecode(file))


def _read_all(path: str) -> dict[str, str] | None:
    """What the files at or below a path hold, by relative path (`.` is the path itself), as base64."""
    place = Path(path)
    if place.is_file():
        return {".": b64encode(place.read_bytes()).decode()}
    return {
        str(file.relative_to(place)): b64encode(file.read_bytes()).decode()
        for file in place.rglob("*")
        if file.is_file()
    }
