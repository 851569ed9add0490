"""What the command settles for its process before it trains: checked in a process of its own."""

import platform
import subprocess
import sys

import pytest

glibc = pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the allocator's settings are those of glibc")


def ask(program: str, **variables: str) -> str:
    command = [sys.executable, "-c", program]
    return subprocess.run(command, capture_output=True, text=True, check=True, env=variables).stdout.strip()


def test_a_library_leaves_the_allocator_alone():
    imported = "import tiebench.execution.execute; from tiebench.execution.environment import describe_allocator"
    assert ask(f"{imported}; print(describe_allocator())") == "as it is"


@glibc
def test_the_command_s_settings_reach_its_child_processes_and_stand_in_the_record():
    program = "from tiebench.cli.allocator import tune_allocator; tune_allocator(); import os, sys, subprocess;"
    program += "print(subprocess.run([sys.executable, '-c', 'from tiebench.execution.environment import "
    program += "describe_allocator; print(describe_allocator())'], capture_output=True, text=True).stdout)"
    settings = "MALLOC_MMAP_MAX_=0 MALLOC_TRIM_THRESHOLD_=2147483647 MALLOC_TOP_PAD_=67108864"
    assert ask(program) == settings
    assert ask(program, MALLOC_TOP_PAD_="1") == settings.replace("67108864", "1"), "a user's own setting stays"
