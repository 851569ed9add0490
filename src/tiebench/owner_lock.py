"""A lock between processes on file systems without flock, such as some network mounts: an owner file, kept fresh.

The lock is a folder that holds one empty file, named after its owner. Only a renaming decides who owns it:

- A free lock is taken by renaming a folder with one's own file in it to the lock's name; the system refuses this while
  the lock holds a file.
- The lock of an owner who gives no sign of life any more is taken over by renaming that owner's file to one's own. No
  name is used twice, so of many who find it stale one succeeds, and nobody can take what has a new owner already.

The sign of life is the time of the file. It counts as stale when it is old by this machine's clock and has also not
changed while it was watched, so that a clock that is wrong does not take a lock from somebody alive. An owner on this
machine whose process is gone needs no watching.
"""

import errno
import hashlib
import os
import platform
import re
import secrets
import shutil
import threading
import time
from contextlib import suppress
from pathlib import Path

from tiebench.files import make_folder

STALE_SECONDS = 120.0
BEATS = 40  # signs of life in the time after which an owner counts as gone
WATCHED_SHARE = 0.1  # of that time, without a sign
POLL_SECONDS = 0.1
HELD = {errno.ENOTEMPTY, errno.EEXIST, errno.ENOENT}  # ENOENT: swept by the owner, who sweeps what was written aside


class OwnerLock:
    """Example: `lock = OwnerLock(folder / ".lock.owner"); lock.acquire(timeout_s=1); ...; lock.release()`."""

    def __init__(self, folder: Path, *, stale_seconds: float = STALE_SECONDS) -> None:
        self.folder, self.stale_seconds = folder, stale_seconds
        self.beat_seconds = stale_seconds / BEATS
        self.file = folder / _name_owner()
        self.ended = threading.Event()
        self.thread = threading.Thread(target=self._beat, name=f"owner of {folder}", daemon=True)
        self.seen_at = 0.0

    def acquire(self, *, timeout_s: float) -> None:
        """Take the lock; a negative timeout waits for ever. An owner who may be gone is watched beyond the timeout.

        Raises filelock.Timeout while another process owns it, OSError where nothing can be written.
        """
        from filelock import Timeout

        watch_seconds = self.stale_seconds * WATCHED_SHARE
        ends, watched, since = time.monotonic() + timeout_s, ("", 0.0), time.monotonic()
        while not self._take_free():
            owner = find_owner(self.folder)
            sign = (owner or "", _read_beat(self.folder / owner) if owner else 0.0)
            if sign != watched:
                watched, since = sign, time.monotonic()
            is_old = owner is not None and time.time() - sign[1] > self.stale_seconds
            is_silent = time.monotonic() - since > watch_seconds
            if owner and (_is_dead(owner) or (is_old and is_silent)) and self._take_over(owner):
                break
            if timeout_s >= 0 and time.monotonic() > ends + (2 * watch_seconds if is_old else 0):
                raise Timeout(str(self.folder))
            time.sleep(POLL_SECONDS)
        self.seen_at = time.time()
        self.thread.start()

    def is_held(self) -> bool:
        """Whether it still is this process's own: false after a silence so long that another took it over."""
        if abs(time.time() - self.seen_at) > self.beat_seconds * 2:
            self._sign()
        return not self.ended.is_set()

    def release(self) -> None:
        """Give it back, if it still is held. Nothing happens where it was released before."""
        self.ended.set()
        self.thread.join()
        self.file.unlink(missing_ok=True)
        with suppress(OSError):  # the owner who took it over is in there
            self.folder.rmdir()

    def _take_free(self) -> bool:
        """Whether it was free and now is ours."""
        if find_owner(self.folder) is not None:
            return False
        aside = self.folder.with_name(f".{self.folder.name}.{os.getpid()}-{secrets.token_hex(4)}")
        try:
            make_folder(self.folder.parent)
            aside.mkdir()
            (aside / self.file.name).touch()
            os.rename(aside, self.folder)
        except OSError as error:
            if error.errno not in HELD:
                raise
        finally:
            shutil.rmtree(aside, ignore_errors=True)
        return self.file.exists()  # a network may report a renaming as failed that was made

    def _take_over(self, owner: str) -> bool:
        """Whether this process, of all that try, is the new owner. The file is made fresh before it has a new name."""
        with suppress(FileNotFoundError):
            os.utime(self.folder / owner)
            os.rename(self.folder / owner, self.file)
        return self.file.exists()

    def _beat(self) -> None:
        while not self.ended.wait(self.beat_seconds):
            self._sign()

    def _sign(self) -> None:
        try:
            os.utime(self.file)
        except FileNotFoundError:
            self.ended.set()
        except OSError:  # the file system does not answer for the moment
            return
        self.seen_at = time.time()


def find_owner(folder: Path) -> str | None:
    """The name of the file in a lock's folder; None where it is free."""
    try:
        return next(iter(os.listdir(folder)), None)
    except (FileNotFoundError, NotADirectoryError):
        return None


def is_owned(folder: Path, *, stale_seconds: float = STALE_SECONDS) -> bool:
    """Whether somebody alive holds the lock, as far as one look can tell. Writes nothing."""
    with suppress(OSError):
        owner = find_owner(folder)
        return owner is not None and not _is_dead(owner) and time.time() - _read_beat(folder / owner) <= stale_seconds
    return False


def _read_beat(file: Path) -> float:
    """When the owner gave its last sign, in seconds since 1970; 0 where it is gone. Opening asks the server anew."""
    try:
        descriptor = os.open(file, os.O_RDONLY)
    except FileNotFoundError:
        return 0.0
    try:
        return os.fstat(descriptor).st_mtime
    finally:
        os.close(descriptor)


def _name_owner() -> str:
    """A name that is used once: machine, process, its beginning, the kernel that numbers it, and something random."""
    host = re.sub(r"[^A-Za-z0-9-]", "-", platform.node())[:60] or "unknown"
    return ".".join([host, str(os.getpid()), _read_start(os.getpid()) or "0", _find_kernel(), secrets.token_hex(8)])


def _is_dead(owner: str) -> bool:
    """Whether its process ended on this machine; false for one on another machine, of which nothing is known."""
    parts = owner.split(".")
    if len(parts) != 5 or parts[3] != _find_kernel() or not parts[1].isdecimal():
        return False
    try:
        os.kill(int(parts[1]), 0)
    except ProcessLookupError:
        return True
    except OSError:  # another user's
        return False
    return _read_start(int(parts[1])) != parts[2]


def _find_kernel() -> str:
    """The same for processes that see each other's numbers, on this machine since it was started; else random."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text("utf-8")
        numbers = os.readlink("/proc/self/ns/pid")
    except OSError:
        return secrets.token_hex(4)
    return hashlib.sha256(f"{boot}{numbers}".encode()).hexdigest()[:8]


def _read_start(process: int) -> str | None:
    """When a process began, in the kernel's ticks; None where it has ended or cannot be asked."""
    try:
        state, *fields = Path(f"/proc/{process}/stat").read_text("utf-8", "replace").rpartition(")")[2].split()
    except OSError:
        return None
    return None if state in "ZX" else fields[18]
