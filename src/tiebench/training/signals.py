"""Ctrl-C and SIGTERM ask for a checkpoint; they do not break a step in the middle."""

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any


class Interrupted(KeyboardInterrupt):
    """Ctrl-C or SIGTERM came; the run was checkpointed and goes on when it is trained again."""


@contextmanager
def catch_signals(notice: Callable[[], None]) -> Iterator[None]:
    """Call `notice` whenever Ctrl-C or SIGTERM comes; after the block they do what they did before."""

    def handle(number: int, frame: Any) -> None:
        notice()

    previous = {number: signal.signal(number, handle) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
