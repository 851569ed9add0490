"""Locks between processes, kept by the operating system: a lock ends with its process, even after a crash."""

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from tiebench.errors import TiebenchError
from tiebench.files import make_folder

if TYPE_CHECKING:
    from filelock import BaseFileLock

NO_LOCKS = {errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOLCK, errno.EINVAL}
LOOKING_SECONDS = 1.0  # `is_locked` in another process takes the lock for an instant


@contextmanager
def hold_lock(file: Path, *, timeout_s: float = LOOKING_SECONDS) -> Iterator[None]:
    """Hold the lock on `file` within the block; a negative timeout waits for ever.

    Raises filelock.Timeout when another process has it, and TiebenchError where the file system has no locks: two
    processes could then write the same files.
    """
    lock = _acquire_lock(file, timeout_s=timeout_s)
    try:
        yield
    finally:
        lock.release()


def _acquire_lock(file: Path, *, timeout_s: float) -> "BaseFileLock":
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
            hint = (
                "without a lock two processes could write the same files: name a folder on another file system, "
                "with --results for runs, with TIEBENCH_CACHE for the cache"
            )
            reason = getattr(error, "strerror", None) or error
            raise TiebenchError(f"cannot lock {file}: its file system has no locks ({reason})", hint) from error
        else:
            break
    return lock


def is_locked(file: Path) -> bool:
    """Whether another process holds the lock; false where it cannot be known. Writes nothing, needs no right to write.

    It takes a shared lock and releases it at once, which the lock library cannot do on a read-only file.
    """
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
