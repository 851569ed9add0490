"""Several runs at once on one machine, a process each.

Threads are shared out fairly. Each process reports through a pipe of its own, so that one progress display can show
all of them, and a process that is killed in the middle of a message disturbs no other. Ctrl-C and SIGTERM reach every
run, and each is checkpointed before it ends.
"""

import multiprocessing
import os
import signal
import time
import traceback
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from multiprocessing import connection, resource_tracker
from multiprocessing.process import BaseProcess
from typing import Any, cast

import torch

from tiebench.errors import TiebenchError
from tiebench.execution.run import execute_run
from tiebench.execution.settings import Settings
from tiebench.experiment.run_spec import RunSpec
from tiebench.results.curve import CurvePoint
from tiebench.results.record import Parameters, Record
from tiebench.results.store import has_checkpoint
from tiebench.training.callbacks import Callback
from tiebench.training.signals import Interrupted, catch_signals, handle_stopping, raise_interrupted

Watch = Callable[[RunSpec, int], Callback]
Pipe = connection.Connection
POLL_SECONDS = 0.2


def count_cores() -> int:
    """The cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@dataclass
class _Worker:
    process: BaseProcess
    run: RunSpec
    callback: Callback
    events: Pipe


class WorkerPool:
    """At most `num_jobs` processes, each at one run; `on_record` is called in this process with every new record."""

    def __init__(self, settings: Settings, watch: Watch, num_jobs: int, *, on_record: Callable[[Record], None]) -> None:
        self.on_record = on_record
        self.context = multiprocessing.get_context("spawn")
        self.num_jobs = num_jobs
        threads = settings.num_threads or min(torch.get_num_threads(), max(1, count_cores() // num_jobs))
        self.settings = replace(settings, num_threads=threads)
        self.watch = watch
        self.workers: dict[str, _Worker] = {}
        self.records: dict[str, Record] = {}
        self.failures: list[BaseException] = []
        self.stopping = False
        self.num_checkpointed = self.num_lost = 0

    def execute(self, pending: list[tuple[int, RunSpec]]) -> dict[str, Record]:
        """The records by run name. Raises the first failure when all runs have ended, Interrupted when told to stop."""
        try:
            with catch_signals(self._stop):
                self._run_all(list(pending))
        finally:
            for worker in self.workers.values():
                worker.process.terminate()
                worker.events.close()
                worker.process.join()
        if self.stopping:
            raise Interrupted(self._describe_stop())
        if self.failures:
            raise self.failures[0]
        return self.records

    def _describe_stop(self) -> str:
        """What became of the runs that were at work."""
        if not self.num_lost:
            return "all runs were checkpointed" if self.num_checkpointed else "no run was at work"
        number = self.num_checkpointed + self.num_lost
        return f"{self.num_checkpointed} of {number} runs at work were checkpointed; the others begin again"

    def _run_all(self, pending: list[tuple[int, RunSpec]]) -> None:
        while self.workers or (pending and not self.stopping):
            while pending and len(self.workers) < self.num_jobs and not self.stopping:
                self._start(*pending.pop(0))
            self._receive_events()

    def _start(self, index: int, run: RunSpec) -> None:
        """The child never receives Ctrl-C; the parent does, once the child is started, and passes it on as SIGTERM."""
        callback = self.watch(run, index)
        events, theirs = cast(tuple[Pipe, Pipe], self.context.Pipe(duplex=False))
        process = self.context.Process(target=_run_in_child, args=(run, self.settings, theirs), name=run.name)
        resource_tracker.ensure_running()  # started by the first process, it would unblock the signal
        before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        try:
            process.start()
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
            theirs.close()
        self.workers[run.name] = _Worker(process, run, callback, events)
        if self.stopping:  # told to while the process was being started
            process.terminate()

    def _receive_events(self) -> None:
        """Handle what the processes reported; wait a little where nothing came."""
        workers = list(self.workers.values())
        ready = connection.wait([worker.events for worker in workers], timeout=POLL_SECONDS)
        for worker in workers:
            if worker.events not in ready:
                continue
            try:
                event, content = worker.events.recv()
            except (EOFError, OSError):
                self._on_crash(worker)
            else:
                self._on_event(worker, event, content)

    def _on_event(self, worker: _Worker, event: str, content: Any) -> None:
        name = worker.run.name
        if event == "done":
            self.records[name] = content
            self.on_record(content)
        elif event == "failed":
            self.failures.append(content)
            worker.callback.say(f"{name} failed: {content}")
        elif event == "interrupted":
            self._book_stop(worker)
            self._stop()
        else:
            positional, keywords = content
            getattr(worker.callback, event)(*positional, **keywords)
        if event in ("done", "failed", "interrupted"):
            self._dismiss(worker)

    def _on_crash(self, worker: _Worker) -> None:
        """A process that was killed closed its pipe without a last message."""
        self._dismiss(worker)
        if self.stopping:
            self._book_stop(worker)
        else:
            what = f"the process of {worker.run.name} ended with exit code {worker.process.exitcode}"
            hint = "train again: it goes on from its last checkpoint"
            if worker.process.exitcode == -signal.SIGKILL:
                hint += "; if memory was too small, add --jobs 1"
            self.failures.append(TiebenchError(what, hint))
            worker.callback.say(f"{worker.run.name} failed: {what}")

    def _book_stop(self, worker: _Worker) -> None:
        run = worker.run
        if has_checkpoint(self.settings.store.folder(run.experiment, run.arm, run.seed)):
            self.num_checkpointed += 1
        else:
            self.num_lost += 1

    def _dismiss(self, worker: _Worker) -> None:
        worker.process.join()
        worker.events.close()
        del self.workers[worker.run.name]

    def _stop(self) -> None:
        self.stopping = True
        for worker in self.workers.values():
            worker.process.terminate()


class PipeCallback(Callback):
    """The callback of a child process: forwards every call through the pipe, and progress a few times a second."""

    SEND_SECONDS = 0.2

    def __init__(self, events: Pipe) -> None:
        self.events = events
        self.num_tokens, self.sent_at = 0, 0.0

    def start_run(self, spec: RunSpec, *, parameters: Parameters) -> None:
        self._send("start_run", spec, parameters=parameters)

    def start_stage(self, name: str, *, total_tokens: int, done_tokens: int = 0) -> None:
        self.num_tokens = 0
        self._send("start_stage", name, total_tokens=total_tokens, done_tokens=done_tokens)

    def advance(self, num_tokens: int, *, nll_per_token: float | None = None) -> None:
        self.num_tokens += num_tokens
        if time.monotonic() - self.sent_at > self.SEND_SECONDS:
            self._send("advance", self.num_tokens, nll_per_token=nll_per_token)
            self.num_tokens, self.sent_at = 0, time.monotonic()

    def report_evaluation(self, point: CurvePoint) -> None:
        self._send("report_evaluation", point)

    def finish_run(self, record: Record, *, reused: bool) -> None:
        self._send("finish_run", record, reused=reused)

    def say(self, message: str) -> None:
        self._send("say", message)

    def _send(self, event: str, *positional: Any, **keywords: Any) -> None:
        """Where the parent is gone, the run is checkpointed and ends, as on SIGTERM."""
        try:
            self.events.send((event, (positional, keywords)))
        except OSError:
            signal.raise_signal(signal.SIGTERM)


def _run_in_child(run: RunSpec, settings: Settings, events: Pipe) -> None:
    """What a child process does: one run."""
    handle_stopping(raise_interrupted)
    event: str
    content: Record | BaseException | None
    try:
        event, content = "done", execute_run(run, settings=settings, callback=PipeCallback(events))
    except Interrupted:
        event, content = "interrupted", None
    except TiebenchError as error:
        event, content = "failed", _portable(error)
    except Exception:
        event, content = "failed", RuntimeError(f"{run.name} failed:\n{traceback.format_exc()}")
    handle_stopping(lambda number, frame: None)  # only the report is left to be sent
    with suppress(OSError):  # the parent is gone
        events.send((event, content))


def _portable(error: TiebenchError) -> TiebenchError:
    """The same error, able to travel between processes with its hint."""
    error.args = (error.message, error.hint)
    return error
