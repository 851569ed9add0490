"""Where a run happens: the device, the versions, the hardware and the commit."""

import datetime
import os
import platform
import resource
import shlex
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any

import torch

import tiebench
from tiebench.errors import UsageError
from tiebench.execution.launch import find_launch
from tiebench.results.record import Precision, Provenance
from tiebench.training.precision import keep_float32

ALLOCATOR_VARIABLES = ("MALLOC_MMAP_MAX_", "MALLOC_TRIM_THRESHOLD_", "MALLOC_TOP_PAD_", "LD_PRELOAD")
PROCESS_STATUS = Path("/proc/self/status")
VERSIONS = ("torch", "numpy", "tokenizers", "datasets", "transformers")


def choose_device(name: str = "auto") -> torch.device:
    """`auto` is CUDA, then MPS, then the CPU. Raises UsageError for a device that is not there."""
    available = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if name == "auto":
        return torch.device(next(kind for kind, there in available.items() if there))
    kind = name.partition(":")[0]
    if not available.get(kind, False):
        there = ", ".join(kind for kind, is_there in available.items() if is_there)
        raise UsageError(f"no device '{name}' on this machine", f"allowed here: auto, {there}")
    return torch.device(name)


@contextmanager
def keep_torch_settings() -> Iterator[None]:
    """Give torch its number of threads back after the block; in it float32 is float32 on a GPU too (`keep_float32`)."""
    rnn: Any = torch.backends.cudnn.rnn
    num_threads, rounding = torch.get_num_threads(), rnn.fp32_precision
    keep_float32()
    try:
        yield
    finally:
        torch.set_num_threads(num_threads)
        rnn.fp32_precision = rounding


def restart_peak_memory(device: torch.device) -> None:
    """Forget the highest memory so far, so that a later run in this process is not charged for an earlier one."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    reset = Path("/proc/self/clear_refs")
    if reset.exists() and os.access(reset, os.W_OK):
        reset.write_text("5")


def measure_peak_memory(device: torch.device) -> int:
    """Bytes: the device's highest allocation on CUDA, else the process's highest resident size."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    lines = PROCESS_STATUS.read_text().splitlines() if PROCESS_STATUS.exists() else []
    for line in lines:
        if line.startswith("VmHWM"):  # which not every kernel says
            return int(line.split()[1]) * 1024
    highest = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return highest if sys.platform == "darwin" else highest * 1024


def describe_hardware(device: torch.device) -> dict[str, str | int]:
    """What the figures depend on beside the code."""
    facts: dict[str, str | int] = {
        "device": str(device),
        "cpu": name_cpu(),
        "cores": os.cpu_count() or 1,
        "threads": torch.get_num_threads(),
        "platform": platform.platform(terse=True),
        "allocator": describe_allocator(),
        "openmp_spins": os.environ.get("GOMP_SPINCOUNT", "as it is"),
    }
    if device.type == "cuda":
        facts["gpu"] = torch.cuda.get_device_name(device)
    return facts


def describe_allocator() -> str:
    """The settings in this process's environment that decide how memory is taken and kept."""
    found = [f"{name}={os.environ[name]}" for name in ALLOCATOR_VARIABLES if os.environ.get(name)]
    return " ".join(found) or "as it is"


def list_versions() -> dict[str, str]:
    """tiebench, Python and the packages that figures depend on; what is not installed is not listed."""
    versions = {"tiebench": tiebench.__version__, "python": platform.python_version()}
    for name in VERSIONS:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return versions


@cache
def find_commit(file: Path = Path(__file__)) -> tuple[str | None, bool | None]:
    """The commit of tiebench's own sources (of which `file` is one) and whether they were changed since.

    None for what is not known: both outside a checkout of tiebench, as in an environment that lies in another one.
    """
    folder = file.parent
    is_tracked = _run_git(folder, "ls-files", "--error-unmatch", "--", file.name) is not None
    commit = _run_git(folder, "rev-parse", "HEAD") if is_tracked else None
    if commit is None:
        return None, None
    changed = _run_git(folder, "status", "--porcelain", "--", str(folder.parent))
    return commit, None if changed is None else bool(changed)


def describe_command() -> str:
    """The command line as it could be typed again; absolute paths by their last part, since records are published."""
    program = Path(sys.argv[0]).name.replace("__main__.py", "tiebench")
    command = shlex.join([program, *map(_shorten_path, sys.argv[1:])])
    launch = find_launch()
    return f"{launch.command} {command}" if launch else command


def _shorten_path(argument: str) -> str:
    """An absolute path by its last part, also after the `=` of `--results=/a/b` and `corpus.train=/a/b.txt`."""
    key, sign, value = ("", "", argument) if os.path.isabs(argument) else argument.partition("=")
    return f"{key}{sign}{Path(value).name if os.path.isabs(value) else value}"


def describe_provenance(
    *, started: str, device: torch.device, precision: Precision | None = None, num_ranks: int = 1
) -> Provenance:
    """The provenance of what was measured from `started` until now; the hardware is that of the first rank."""
    commit, dirty = find_commit()
    return Provenance(
        command=describe_command(),
        started=started,
        finished=utc_now(),
        commit=commit,
        dirty=dirty,
        versions=list_versions(),
        hardware=describe_hardware(device) | ({"ranks": num_ranks} if num_ranks > 1 else {}),
        precision=precision,
    )


def utc_now() -> str:
    """Now, ISO 8601 in UTC, to the second."""
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")


def _run_git(folder: Path, *arguments: str) -> str | None:
    try:
        answer = subprocess.run(
            ["git", "-C", str(folder), *arguments], capture_output=True, text=True, timeout=10, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return answer.stdout.strip() if answer.returncode == 0 else None


def name_cpu() -> str:
    """The processor, as it calls itself."""
    file = Path("/proc/cpuinfo")
    if file.exists():
        for line in file.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
