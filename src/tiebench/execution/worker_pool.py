"""Many runs on one machine: in this process one after the other or in packs, or several at once, a process each.

Threads are shared out fairly. Each process tells what it does through a pipe of its own, so that one display can show
all, and one that is killed in the middle of a sentence disturbs no other. A pack are runs that share their steps.
Ctrl-C and SIGTERM reach every run, and each is checkpointed before it ends.
"""

import multiprocessing
import os
import signal
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from dataclasses import dataclass, replace
from multiprocessing import connection, resource_tracker
from multiprocessing.process import BaseProcess
from typing import Any

import torch

from tiebench.errors import TiebenchError, forget_frames
from tiebench.experiment.run_spec import RunSpec
from tiebench.results.record import Record
from tiebench.reporting.pages import refresh_tables
from tiebench.execution.environment import choose_device
from tiebench.execution.counting import Finding, inspect_arms
from tiebench.training.signals import Interrupted, noticing_signals
from tiebench.training.lockstep import Outcome, execute_pack
from tiebench.training.callbacks import Observer
from tiebench.training.packing import group_alike
from tiebench.execution.settings import Settings, find_finished
from tiebench.execution.run import execute_run

Watch = Callable[[RunSpec, int], Observer]
PACKED = "packed"
POLL_SECONDS = 0.2


def choose_num_jobs(asked: str, *, num_runs: int, device: str) -> int:
    """How many processes: `auto` is one per core on a CPU and one in all on anything else, `packed` is one.

    Never more than there are runs.
    """
    if asked == PACKED:
        return 1
    if asked != "auto":
        return min(int(asked), max(1, num_runs))
    return min(count_cores(), max(1, num_runs)) if device == "cpu" else 1


def count_cores() -> int:
    """The cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def execute_runs(
    runs: list[RunSpec],
    *,
    settings: Settings,
    watch: Watch,
    jobs: str = "1",
    report: Callable[[list[Finding]], None] = lambda findings: None,
) -> list[Record]:
    """Every run's record, in the order asked for; what is finished is reused, and the tables follow each new one.

    Every arm is built without memory before any is trained, and `report` is told what was counted: an arm that
    cannot be built (UsageError) costs seconds. `watch(run, index)` opens the observer of a run. One run's failure does
    not stop the others; the first is raised when all have ended. Raises Interrupted when told to stop.
    """
    report(inspect_arms(runs, data_dir=settings.data_dir))
    finished = {run.name: find_finished(run, settings=settings) for run in runs}
    waiting = [(index, run) for index, run in enumerate(runs) if finished[run.name] is None]
    num_jobs = choose_num_jobs(jobs, num_runs=len(waiting), device=choose_device(settings.device).type)
    for index, run in enumerate(runs):
        if finished[run.name] is not None:
            watch(run, index).finish_run(finished[run.name], reused=True)
    if num_jobs > 1 and len(waiting) > 1:
        finished |= _Crew(settings, watch, num_jobs).work_off(waiting)
    else:
        finished |= _work_in_turn(waiting, settings=settings, watch=watch, packed=jobs == PACKED)
    return [finished[run.name] for run in runs]


def _work_in_turn(
    waiting: list[tuple[int, RunSpec]], *, settings: Settings, watch: Watch, packed: bool
) -> dict[str, Record]:
    records, failures = {}, []
    with closing(_execute_in_turn(waiting, settings=settings, watch=watch, packed=packed)) as ends:
        for run, observer, outcome in ends:
            try:
                records[run.name] = _enter(outcome, settings=settings)
            except TiebenchError as error:
                failures.append(error)
                if len(waiting) > 1:
                    observer.say(f"{run.name} failed: {error.message}")
    if failures:
        raise failures[0]
    return records


def _execute_in_turn(
    waiting: list[tuple[int, RunSpec]], *, settings: Settings, watch: Watch, packed: bool
) -> Iterator[tuple[RunSpec, Observer, Outcome]]:
    """One run after the other, or one pack after the other; a run that is like no other is trained by itself."""
    numbers = {run.name: index for index, run in waiting}
    for group in group_alike(run for _, run in waiting) if packed else [[run] for _, run in waiting]:
        watched = [(run, watch(run, numbers[run.name])) for run in group]
        execute = execute_pack if len(group) > 1 else _execute_alone
        yield from execute(watched, settings=settings)


def _execute_alone(
    watched: list[tuple[RunSpec, Observer]], *, settings: Settings
) -> Iterator[tuple[RunSpec, Observer, Outcome]]:
    for run, observer in watched:
        try:
            outcome: Outcome = execute_run(run, settings=settings, observer=observer)
        except TiebenchError as error:
            outcome = forget_frames(error)
        yield run, observer, outcome


def _enter(outcome: Outcome, *, settings: Settings) -> Record:
    """The record, entered in the tables. Raises the error where there is none."""
    if isinstance(outcome, TiebenchError):
        raise outcome
    refresh_tables(settings.store)
    return outcome


@dataclass
class _Worker:
    process: BaseProcess
    run: RunSpec
    observer: Observer
    events: connection.Connection


class _Crew:
    """The processes at work, and what they tell."""

    def __init__(self, settings: Settings, watch: Watch, num_jobs: int) -> None:
        self.context = multiprocessing.get_context("spawn")
        self.num_jobs = num_jobs
        threads = settings.num_threads or min(torch.get_num_threads(), max(1, count_cores() // num_jobs))
        self.settings = replace(settings, num_threads=threads)
        self.watch = watch
        self.workers: dict[str, _Worker] = {}
        self.records: dict[str, Record] = {}
        self.failures: list[BaseException] = []
        self.stopping = False

    def work_off(self, waiting: list[tuple[int, RunSpec]]) -> dict[str, Record]:
        try:
            with noticing_signals(self._stop):
                self._serve(list(waiting))
        finally:
            for worker in self.workers.values():
                worker.process.terminate()
                worker.events.close()
                worker.process.join()
        if self.stopping:
            raise Interrupted("all runs were checkpointed")
        if self.failures:
            raise self.failures[0]
        return self.records

    def _serve(self, waiting: list[tuple[int, RunSpec]]) -> None:
        while self.workers or (waiting and not self.stopping):
            while waiting and len(self.workers) < self.num_jobs and not self.stopping:
                self._start(*waiting.pop(0))
            self._listen()

    def _start(self, index: int, run: RunSpec) -> None:
        """The child never hears Ctrl-C; the parent does once the child is started, and passes it on as SIGTERM."""
        observer = self.watch(run, index)
        events, theirs = self.context.Pipe(duplex=False)
        process = self.context.Process(target=_work, args=(run, self.settings, theirs), name=run.name)
        resource_tracker.ensure_running()  # started by the first process, it would unblock the signal
        before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        try:
            process.start()
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
            theirs.close()
        self.workers[run.name] = _Worker(process, run, observer, events)
        if self.stopping:  # told to while the process was being started
            process.terminate()

    def _listen(self) -> None:
        """Pass on what was told; wait a little where nothing was."""
        by_pipe = {worker.events: worker for worker in self.workers.values()}
        for events in connection.wait(list(by_pipe), timeout=POLL_SECONDS):
            worker = by_pipe[events]
            try:
                event, content = events.recv()
            except (EOFError, OSError):
                self._bury(worker)
            else:
                self._hear(worker, event, content)

    def _hear(self, worker: _Worker, event: str, content: Any) -> None:
        name = worker.run.name
        if event == "done":
            self.records[name] = content
            refresh_tables(self.settings.store)
        elif event == "failed":
            self.failures.append(content)
            worker.observer.say(f"{name} failed: {content}")
        elif event == "interrupted":
            self._stop()
        else:
            positional, keywords = content
            getattr(worker.observer, event)(*positional, **keywords)
        if event in ("done", "failed", "interrupted"):
            self._dismiss(worker)

    def _bury(self, worker: _Worker) -> None:
        """A process that was killed says nothing any more."""
        self._dismiss(worker)
        if not self.stopping:
            what = f"the process of {worker.run.name} ended with exit code {worker.process.exitcode}"
            self.failures.append(TiebenchError(what, "train again: it goes on from its last checkpoint"))
            worker.observer.say(f"{worker.run.name} failed: {what}")

    def _dismiss(self, worker: _Worker) -> None:
        worker.process.join()
        worker.events.close()
        del self.workers[worker.run.name]

    def _stop(self) -> None:
        self.stopping = True
        for worker in self.workers.values():
            worker.process.terminate()


class _Messenger(Observer):
    """An observer in a child process: everything it is told goes into the pipe, progress in larger bites."""

    BITE_SECONDS = 0.2

    def __init__(self, events: connection.Connection) -> None:
        self.events = events
        self.num_tokens, self.told_at = 0, 0.0

    def start_run(self, *positional: Any, **keywords: Any) -> None:
        self._tell("start_run", positional, keywords)

    def start_stage(self, *positional: Any, **keywords: Any) -> None:
        self.num_tokens = 0
        self._tell("start_stage", positional, keywords)

    def advance(self, num_tokens: int, *, nats_per_token: float | None = None) -> None:
        self.num_tokens += num_tokens
        if time.monotonic() - self.told_at > self.BITE_SECONDS:
            self._tell("advance", (self.num_tokens,), {"nats_per_token": nats_per_token})
            self.num_tokens, self.told_at = 0, time.monotonic()

    def report_evaluation(self, *positional: Any) -> None:
        self._tell("report_evaluation", positional, {})

    def finish_run(self, *positional: Any, **keywords: Any) -> None:
        self._tell("finish_run", positional, keywords)

    def say(self, *positional: Any) -> None:
        self._tell("say", positional, {})

    def _tell(self, event: str, positional: tuple, keywords: dict[str, Any]) -> None:
        """Where nobody listens any more, the run is checkpointed and ends, as when it is told to."""
        try:
            self.events.send((event, (positional, keywords)))
        except OSError:
            signal.raise_signal(signal.SIGTERM)


def _work(run: RunSpec, settings: Settings, events: connection.Connection) -> None:
    """The life of a child process: one run."""
    try:
        event, content = "done", execute_run(run, settings=settings, observer=_Messenger(events))
    except Interrupted:
        event, content = "interrupted", None
    except TiebenchError as error:
        event, content = "failed", _portable(error)
    except Exception:
        event, content = "failed", RuntimeError(f"{run.name} failed:\n{traceback.format_exc()}")
    with suppress(OSError):  # nobody listens any more
        events.send((event, content))


def _portable(error: TiebenchError) -> TiebenchError:
    """The same error, able to travel between processes with its hint."""
    error.args = (error.message, error.hint)
    return error

