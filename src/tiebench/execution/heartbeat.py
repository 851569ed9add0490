"""A run says how far it is in a file in its folder, which any machine that sees the folder can read."""

import os
import platform
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from tiebench.experiment.run_spec import RunSpec
from tiebench.results.curve import CurvePoint
from tiebench.results.heartbeat_file import HEARTBEAT_FILE, Heartbeat, write_heartbeat
from tiebench.results.record import Parameters
from tiebench.training.callbacks import Callback, CallbackList

BEAT_SECONDS = 2.0
MOST_MESSAGES = 20


def begin_heartbeat(run: RunSpec) -> Heartbeat:
    """The first heartbeat of this process."""
    now = time.time()
    return Heartbeat(
        run=run.name,
        process=os.getpid(),
        machine=platform.node(),
        job=_describe_job(),
        started_at=now,
        beat_at=now,
    )


@contextmanager
def keep_heartbeat(folder: Path, *, run: RunSpec, callback: Callback) -> Iterator[Callback]:
    """A callback that tells `callback` everything and keeps the file up to date; the file is removed at the end of the
    block.

    A file that cannot be written stops no training. The folder must be locked.
    """
    beats = HeartbeatCallback(run, folder=folder)
    thread = threading.Thread(target=beats.write_until_ended, name=f"heartbeat of {run.name}", daemon=True)
    thread.start()
    try:
        yield CallbackList([beats, callback])
    finally:
        beats.ended.set()
        thread.join()
        with suppress(OSError):
            (folder / HEARTBEAT_FILE).unlink(missing_ok=True)


class HeartbeatCallback(Callback):
    """Counts what it is told; a thread of its own writes it, so that a long step is not taken for a dead process."""

    def __init__(self, run: RunSpec, *, folder: Path) -> None:
        self.folder = folder
        self.now = begin_heartbeat(run)
        self.ended = threading.Event()
        self.stage_began, self.tokens_before = time.monotonic(), 0

    def write_until_ended(self) -> None:
        """Every `BEAT_SECONDS`, and at once at the beginning."""
        while True:
            with suppress(OSError):
                write_heartbeat(self.now.model_copy(update={"beat_at": time.time()}), folder=self.folder)
            if self.ended.wait(BEAT_SECONDS):
                return

    def start_run(self, spec: RunSpec, *, parameters: Parameters) -> None:
        self._update(parameters=parameters)

    def start_stage(self, name: str, *, total_tokens: int, done_tokens: int = 0) -> None:
        self.stage_began, self.tokens_before = time.monotonic(), done_tokens
        speed = self.now.tokens_per_second if name == "train" else None
        self._update(stage=name, total_tokens=total_tokens, done_tokens=done_tokens, tokens_per_second=speed)

    def advance(self, num_tokens: int, *, nll_per_token: float | None = None) -> None:
        done, step = self.now.done_tokens + num_tokens, self.now.step
        if self.now.stage == "train" and num_tokens:  # taking earlier steps to have had as many tokens
            step = step + 1 if step is not None else max(1, round(done / num_tokens))
        seconds = time.monotonic() - self.stage_began
        speed = (done - self.tokens_before) / seconds if seconds > 0 else None
        self._update(done_tokens=done, step=step, tokens_per_second=speed, nll_per_token=nll_per_token)

    def report_evaluation(self, point: CurvePoint) -> None:
        self._update(step=point.step)

    def say(self, message: str) -> None:
        self._update(messages=(*self.now.messages, message)[-MOST_MESSAGES:], num_messages=self.now.num_messages + 1)

    def _update(self, **changes: object) -> None:
        self.now = self.now.model_copy(update=changes)


def _describe_job() -> str:
    """The name under which a cluster knows this process; empty outside a cluster."""
    number = os.environ.get("SLURM_JOB_ID")
    return f"Slurm job {number}" if number else ""
