"""Locks between processes: flock, which ends with its process, even after a crash, or an owner file (owner_lock.py).

The owner file serves where the file system has no flock, and everywhere with TIEBENCH_LOCKS=owner-file, for a network
mount whose flock does not reach other machines. All who use a folder must use the same.
"""

import errno
import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import NamedTuple

from tiebench.errors import UsageError
from tiebench.files import make_folder
from tiebench.owner_lock import STALE_SECONDS, OwnerLock, is_owned

NO_LOCKS = {errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOLCK, errno.EINVAL}
LOOKING_SECONDS = 1.0  # `is_locked` in another process takes the lock for an instant
SETTING = "TIEBENCH_LOCKS"
OWNER_SUFFIX = ".owner"


class LockSetting(NamedTuple):
    """After `stale_seconds` without a sign of life, another process may take over an owner file."""

    always_owner_file: bool
    stale_seconds: float


class HeldLock:
    """What `hold_lock` gives while the lock is held."""

    def __init__(self, file: Path, *, owner: OwnerLock | None) -> None:
        self.file, self.owner = file, owner

    def is_held(self) -> bool:
        """False after this process was silent, as a stopped one is, and another took its owner file over."""
        return self.owner is None or self.owner.is_held()

    def remove(self) -> None:
        """Leave no file of it behind. A process that waits for it makes a new one."""
        self.file.unlink(missing_ok=True)
        if self.owner is not None:
            self.owner.release()


@contextmanager
def hold_lock(file: Path, *, timeout_s: float = LOOKING_SECONDS) -> Iterator[HeldLock]:
    """Hold the lock on `file` within the block; a negative timeout waits for ever.

    Raises filelock.Timeout when another process has it, OSError where nothing can be written, UsageError for a wrong
    value of TIEBENCH_LOCKS.
    """
    setting = read_setting()
    owner = OwnerLock(_name_folder(file), stale_seconds=setting.stale_seconds)
    with ExitStack() as held:
        has_flock = not setting.always_owner_file and _hold_flock(file, timeout_s=timeout_s, held=held)
        needs_owner = not has_flock or owner.folder.exists()  # it exists where another machine found no flock
        if needs_owner:
            owner.acquire(timeout_s=timeout_s)
            held.callback(owner.release)
        yield HeldLock(file, owner=owner if needs_owner else None)


def read_setting() -> LockSetting:
    """`TIEBENCH_LOCKS`: auto or owner-file, with `:SECONDS` after it for owner files that are stale sooner or later.

    Raises UsageError for any other value.
    """
    text = os.environ.get(SETTING) or "auto"
    kind, _, seconds = text.partition(":")
    try:
        stale_seconds = float(seconds or STALE_SECONDS)
    except ValueError:
        stale_seconds = 0.0
    if kind not in ("auto", "owner-file") or not 1 <= stale_seconds <= 86_400:
        hint = f"export {SETTING}=owner-file, or owner-file:60 for a minute; unset it for auto"
        raise UsageError(f"{SETTING}={text} names no lock", hint)
    return LockSetting(kind == "owner-file", stale_seconds)


def is_lock(file: Path) -> bool:
    """Whether this is a lock, or an owner file's folder."""
    return file.name.removesuffix(OWNER_SUFFIX).endswith(".lock")


def _hold_flock(file: Path, *, timeout_s: float, held: ExitStack) -> bool:
    """Whether the system has locks there; then it is held until `held` ends."""
    from filelock import FileLock

    lock = FileLock(file, timeout=timeout_s, fallback_to_soft=False)
    for attempt in range(20):
        make_folder(file.parent)
        try:
            lock.acquire()
        except FileNotFoundError:  # the last holder removed the folder, because it was empty
            if attempt == 19:
                raise
        except (OSError, NotImplementedError) as error:
            if not isinstance(error, NotImplementedError) and error.errno not in NO_LOCKS:
                raise
            return False
        else:
            break
    held.callback(lock.release)
    return True


def is_locked(file: Path) -> bool:
    """Whether another process holds the lock; false where it cannot be known. Writes nothing, needs no right to write.

    It takes a shared lock and releases it at once, which the lock library cannot do on a read-only file.
    """
    if is_owned(_name_folder(file), stale_seconds=read_setting().stale_seconds):
        return True
    try:
        import fcntl

        descriptor = os.open(file, os.O_RDONLY)
    except (ImportError, OSError):
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    finally:
        os.close(descriptor)
    return False


def _name_folder(file: Path) -> Path:
    return file.with_name(file.name + OWNER_SUFFIX)
