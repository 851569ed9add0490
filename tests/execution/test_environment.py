"""What the command settles for its process before it trains, in a process of its own, and what a record says of it."""

import os
import platform
import shutil
import subprocess
import sys

import pytest
import torch

from tiebench.execution import environment

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


@pytest.fixture
def checkout(tmp_path):
    """A checkout of another project, with tiebench installed in an environment that it ignores. Returns one source."""
    file = tmp_path / ".venv" / "tiebench" / "execution" / "environment.py"
    file.parent.mkdir(parents=True)
    file.write_text("installed\n", "utf-8")
    (tmp_path / ".gitignore").write_text(".venv\n", "utf-8")
    git = ["git", "-C", str(tmp_path), "-c", "user.name=me", "-c", "user.email=me@example.org"]
    for command in (["init", "-q"], ["add", "."], ["commit", "-q", "-m", "a project"]):
        subprocess.run([*git, *command], check=True)
    return file


def test_the_commit_of_the_project_around_an_installed_tiebench_is_not_taken_for_its_own(checkout):
    find_commit = environment.find_commit.__wrapped__  # without the cache
    assert find_commit(checkout) == (None, None)
    subprocess.run(["git", "-C", str(checkout.parent), "add", "-f", checkout.name], check=True)
    commit, is_dirty = find_commit(checkout)
    assert commit is not None and is_dirty, "git knows the source, and it is not committed"


def test_where_git_does_not_say_whether_sources_were_changed_nothing_is_claimed(checkout, tmp_path, monkeypatch):
    subprocess.run(["git", "-C", str(checkout.parent), "add", "-f", checkout.name], check=True)
    program = tmp_path / "bin" / "git"
    program.parent.mkdir()
    told = f'case "$*" in *status*) exit 1;; *) exec {shutil.which("git")} "$@";; esac'
    program.write_text(f"#!/bin/sh\n{told}\n", "utf-8")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(program.parent), prepend=os.pathsep)
    commit, is_dirty = environment.find_commit.__wrapped__(checkout)
    assert commit is not None and is_dirty is None


def test_peak_memory_is_known_where_the_kernel_states_no_peak(tmp_path, monkeypatch):
    monkeypatch.setattr(environment, "PROCESS_STATUS", tmp_path / "status")
    known = environment.measure_peak_memory(torch.device("cpu"))
    (tmp_path / "status").write_text("Name:\tpython\nVmRSS:\t  1024 kB\n", "utf-8")
    assert environment.measure_peak_memory(torch.device("cpu")) >= known > 2**20
