"""The owner file, between real processes: one owner at a time, and none for ever."""

import itertools
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from filelock import Timeout

from tiebench.errors import UsageError
from tiebench.locks import hold_lock, is_locked

PROGRAM = Path(__file__).with_name("locking.py")
NUM_RACERS, NUM_ROUNDS = 4, 100


@pytest.fixture(autouse=True)
def without_flock(monkeypatch):
    """A lock whose owner gives no sign of life for three seconds is anybody's."""
    monkeypatch.setenv("TIEBENCH_LOCKS", "owner-file:3")


@pytest.fixture
def start():
    started = []

    def start_process(*arguments: object) -> subprocess.Popen:
        typed = [sys.executable, str(PROGRAM), *map(str, arguments)]
        started.append(subprocess.Popen(typed, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True))
        return started[-1]

    yield start_process
    for process in started:
        process.kill()
        process.communicate()


def say(process: subprocess.Popen) -> str:
    """What it answers to an empty line."""
    process.stdin.write("\n")
    process.stdin.flush()
    return process.stdout.readline().strip()


def test_while_it_is_held_no_other_process_gets_it(start, tmp_path):
    file = tmp_path / "run" / ".lock"
    assert not is_locked(file)
    owner = start("hold", file)
    assert owner.stdout.readline() == "held\n"
    assert is_locked(file)
    with pytest.raises(Timeout), hold_lock(file):
        pass
    assert say(owner) == "is"
    owner.wait()
    with hold_lock(file) as lock:
        assert lock.is_held()
    assert not is_locked(file) and list(file.parent.iterdir()) == []


def test_of_processes_that_count_in_turn_none_is_lost(start, tmp_path):
    counting = [start("count", tmp_path / ".lock", 25) for _ in range(NUM_RACERS)]
    assert [process.wait() for process in counting] == [0] * NUM_RACERS
    assert (tmp_path / "counted").read_text() == str(25 * NUM_RACERS)
    assert [file.name for file in tmp_path.iterdir()] == ["counted"]


@pytest.mark.parametrize("before", ["free", "its owner was killed"])
def test_of_all_who_reach_for_a_lock_one_gets_it(before, start, tmp_path):
    if before != "free":
        assert start("die", tmp_path, NUM_ROUNDS).wait() == -signal.SIGKILL
    racers = [start("race", tmp_path, NUM_ROUNDS) for _ in range(NUM_RACERS)]
    for racer in racers:
        assert racer.stdout.readline() == "ready\n"
    winners = set()
    for number in range(NUM_ROUNDS):
        racers = [*racers[1:], racers[0]]  # each is the first to be told in its turn
        for racer in racers:
            racer.stdin.write("\n")
            racer.stdin.flush()
        said = [racer.stdout.readline().strip() for racer in racers]
        assert sorted(said) == ["lost"] * (NUM_RACERS - 1) + ["won"], f"round {number}"
        winners.add(racers[said.index("won")])
    assert len(winners) > 1, "they raced"
    assert all(len(os.listdir(folder)) == 1 for folder in tmp_path.glob("*.owner"))


def test_an_owner_who_was_killed_has_a_next_one_at_once_and_one_who_is_silent_after_a_while(start, tmp_path):
    file = tmp_path / ".lock"
    killed = start("hold", file)
    assert killed.stdout.readline() == "held\n"
    killed.kill()
    killed.wait()
    silent = start("hold", file)
    assert silent.stdout.readline() == "held\n"
    with pytest.raises(Timeout), hold_lock(file):
        pass
    silent.send_signal(signal.SIGSTOP)
    with hold_lock(file, timeout_s=60) as lock:
        silent.send_signal(signal.SIGCONT)
        assert say(silent) == "was", "it knows when it wakes up"
        silent.wait()
        assert lock.is_held() and is_locked(file), "the old owner's end takes nothing from the new one"


@pytest.fixture
def other(tmp_path):
    """The file of an owner on another machine, whose clock is far behind."""
    file = tmp_path / ".lock.owner" / "node-3.1.1.0badcafe.0123456789abcdef"
    file.parent.mkdir()
    file.touch()
    os.utime(file, (0, 0))
    return file


def test_an_owner_on_another_machine_who_gives_no_sign_is_followed_by_the_next(other, tmp_path):
    assert not is_locked(tmp_path / ".lock"), "as far as one look can tell"
    with hold_lock(tmp_path / ".lock"):
        assert not other.exists() and is_locked(tmp_path / ".lock")


def test_a_clock_that_is_wrong_takes_no_lock_from_an_owner_who_is_alive(other, tmp_path):
    ended = threading.Event()

    def live() -> None:
        for second in itertools.count(1):
            os.utime(other, (second, second))
            if ended.wait(0.02):
                return

    thread = threading.Thread(target=live)
    thread.start()
    try:
        with pytest.raises(Timeout), hold_lock(tmp_path / ".lock"):
            pass
    finally:
        ended.set()
        thread.join()
    assert other.exists()


def test_where_another_machine_found_no_flock_its_owner_file_counts(start, tmp_path, monkeypatch):
    owner = start("hold", tmp_path / ".lock")
    assert owner.stdout.readline() == "held\n"
    monkeypatch.delenv("TIEBENCH_LOCKS")
    with pytest.raises(Timeout), hold_lock(tmp_path / ".lock"):
        pass


@pytest.mark.parametrize("text", ["flock", "owner-file:soon", "owner-file:0", "owner-file:nan", "auto:-1"])
def test_a_setting_that_cannot_be_meant_is_named_with_what_can(text, monkeypatch, tmp_path):
    monkeypatch.setenv("TIEBENCH_LOCKS", text)
    with pytest.raises(UsageError, match=f"TIEBENCH_LOCKS={text} names no lock") as caught, hold_lock(tmp_path / "a"):
        pass
    assert "owner-file:60" in caught.value.hint
