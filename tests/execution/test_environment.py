"""What a process settles before it trains: checked in a process of its own, because it cannot be taken back."""

import platform
import subprocess
import sys
from pathlib import Path

import pytest

from tiebench.execution import environment

ASK = """
from pathlib import Path
import torch
from tiebench.execution import environment
from tiebench.execution.environment import measure_peak_memory, tune_allocator
environment.HUGE_PAGES = Path({pages!r})
said = tune_allocator()
{work}
"""
MAPPED = """
block = torch.empty(100 * 2**20, dtype=torch.uint8)
address, inside, flags = block.data_ptr() + len(block) // 2, False, ""
for line in open("/proc/self/smaps"):
    first = line.split()[0]
    if "-" in first and not first.endswith(":"):
        start, end = (int(part, 16) for part in first.split("-"))
        inside = start <= address < end
    elif inside and first == "VmFlags:":
        flags = line.split()[1:]
print(said, "|", "hg" in flags)
"""
IDLE = """
print(measure_peak_memory(torch.device("cpu")) / 2**20)
"""


def ask(work: str, *, pages: Path = environment.HUGE_PAGES) -> str:
    command = [sys.executable, "-c", ASK.format(work=work, pages=str(pages))]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


glibc = pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the allocator's settings are those of glibc")


@glibc
@pytest.mark.parametrize(
    ("system", "said"),
    [("always [madvise] never", "huge pages in the first GiB"), ("always madvise [never]", "pages as they are"),
     (None, "pages as they are")],
)
def test_what_is_said_of_huge_pages_is_so(tmp_path, system, said):
    if not environment.HUGE_PAGES.exists() and "huge" in said:
        pytest.skip("this kernel has no huge pages")
    pages = tmp_path / "enabled"
    if system:
        pages.write_text(system + "\n", "ascii")
    heard, are_asked_for = ask(MAPPED, pages=pages).split(" | ")
    assert heard.endswith(said) and are_asked_for == str("huge" in said)


@glibc
def test_room_that_is_not_used_costs_no_memory():
    assert float(ask(IDLE)) < 600
