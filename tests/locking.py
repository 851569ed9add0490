"""What processes do with a lock in the tests: python locking.py ACTION FILE ...

hold FILE            says `held`, and when a line comes whether it `is` or `was` its own; then gives it back
die FOLDER NUMBER    takes so many locks and is killed with all of them
race FOLDER NUMBER   at each line tries for the next of so many locks, says `won` or `lost`, and keeps what it got
count FILE NUMBER    so many times: takes the lock, reads a number beside it, and writes the next
"""

import os
import signal
import sys
from contextlib import ExitStack
from pathlib import Path

from filelock import Timeout

from tiebench.locks import hold_lock


def hold(file: Path) -> None:
    with hold_lock(file, timeout_s=-1) as lock:
        print("held", flush=True)
        sys.stdin.readline()
        print("is" if lock.is_held() else "was", flush=True)


def die(folder: Path, number: int) -> None:
    with ExitStack() as held:
        for name in range(number):
            held.enter_context(hold_lock(folder / f"{name}.lock"))
        os.kill(os.getpid(), signal.SIGKILL)


def race(folder: Path, number: int) -> None:
    print("ready", flush=True)
    with ExitStack() as held:
        for name in range(number):
            sys.stdin.readline()
            try:
                held.enter_context(hold_lock(folder / f"{name}.lock", timeout_s=0))
            except Timeout:
                print("lost", flush=True)
            else:
                print("won", flush=True)
        sys.stdin.readline()


def count(file: Path, number: int) -> None:
    counted = file.with_name("counted")
    for _ in range(number):
        with hold_lock(file, timeout_s=-1):
            before = int(counted.read_text()) if counted.exists() else 0
            counted.write_text(str(before + 1))


if __name__ == "__main__":
    action, place, *numbers = sys.argv[1:]
    {"hold": hold, "die": die, "race": race, "count": count}[action](Path(place), *map(int, numbers))
