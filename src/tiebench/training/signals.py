"""Ctrl-C, SIGTERM and SIGHUP ask for a checkpoint; they do not break a step in the middle.

Time in which the process was stopped (Ctrl-Z, or SIGSTOP as `scontrol suspend` sends it) is not counted.
"""

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

STOPPING = [signal.SIGINT, signal.SIGTERM, *([signal.SIGHUP] if hasattr(signal, "SIGHUP") else [])]

_last_number = int(signal.SIGINT)
_stopped_seconds = 0.0
_last_seen = 0.0  # when the clock was last read, or the process was about to stop


class Interrupted(KeyboardInterrupt):
    """Ctrl-C, SIGTERM or SIGHUP came; the run was checkpointed and goes on when it is trained again.

    `number` is the signal's, by default that of the last one that was caught.
    """

    def __init__(self, *message: object, number: int | None = None) -> None:
        super().__init__(*message)
        self.number = _last_number if number is None else number


@contextmanager
def catch_signals(notice: Callable[[], None]) -> Iterator[None]:
    """Call `notice` whenever Ctrl-C, SIGTERM or SIGHUP comes; after the block they do what they did before.

    A SIGHUP that is ignored, as under nohup, stays so. In another thread than the main one, which alone hears signals,
    nothing is caught.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def handle(number: int, frame: FrameType | None) -> None:
        global _last_number
        _last_number = number
        notice()

    numbers = [number for number in STOPPING if number == signal.SIGINT or signal.getsignal(number) != signal.SIG_IGN]
    previous = {number: signal.signal(number, handle) for number in numbers}
    if hasattr(signal, "SIGTSTP"):
        read_clock()
        previous[signal.SIGTSTP] = signal.signal(signal.SIGTSTP, _stop)
        previous[signal.SIGCONT] = signal.signal(signal.SIGCONT, _leave_out_the_stop)
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


def raise_interrupted(number: int, frame: FrameType | None) -> None:
    """A handler for where no checkpoint is due: the signal ends the command as Ctrl-C does."""
    raise Interrupted(number=number)


def handle_stopping(handler: Callable[[int, FrameType | None], None]) -> None:
    """Set a handler for SIGTERM and SIGHUP, except where they are ignored."""
    for number in STOPPING:
        if number != signal.SIGINT and signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, handler)


def read_clock() -> float:
    """Seconds since some moment, without those in which the process was stopped in `catch_signals`.

    Nobody hears SIGSTOP; what is left out then begins where the clock was last read, so it should be read often.
    """
    global _last_seen
    _last_seen = time.perf_counter()
    return _last_seen - _stopped_seconds


def _stop(number: int, frame: FrameType | None) -> None:
    """Stop as asked; whoever is in the terminal continues the process."""
    read_clock()
    os.kill(os.getpid(), signal.SIGSTOP)


def _leave_out_the_stop(number: int, frame: FrameType | None) -> None:
    global _stopped_seconds, _last_seen
    now = time.perf_counter()
    _stopped_seconds += now - _last_seen
    _last_seen = now
