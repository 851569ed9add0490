"""The memory allocator of the command and of the processes that it starts; a library must not change its host's."""

import ctypes
import os
import platform

M_TRIM_THRESHOLD, M_TOP_PAD, M_MMAP_MAX = -1, -2, -4
SETTINGS = {
    "MALLOC_MMAP_MAX_": (M_MMAP_MAX, 0),
    "MALLOC_TRIM_THRESHOLD_": (M_TRIM_THRESHOLD, 2**31 - 1),
    "MALLOC_TOP_PAD_": (M_TOP_PAD, 64 * 2**20),
}


def tune_allocator() -> None:
    """Let glibc keep freed memory instead of returning and zeroing it at every step.

    results/performance.md shows what a program gains that takes fresh memory at every step: peers as shipped beside the
    same with such settings. `mallopt` sets this process; glibc's own environment variables, which a user may set to
    something else, set child processes.
    """
    if platform.libc_ver()[0] != "glibc" or os.environ.get("LD_PRELOAD"):
        return
    libc = ctypes.CDLL(None)
    for variable, (option, value) in SETTINGS.items():
        if variable not in os.environ and libc.mallopt(option, value):
            os.environ[variable] = str(value)
