"""Many runs on other machines: what every cluster has in common.

A run is one job of the cluster. The job writes into the run's folder, which every node sees, as a run on this machine
does: lock, heartbeat, checkpoints, record. This process reads the heartbeats, and submits a run again if its node died.
"""

import os
import signal
import time
import traceback
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from tiebench.errors import TiebenchError
from tiebench.execution.engine_config import LocalEngine
from tiebench.execution.progress_reader import ProgressReader
from tiebench.execution.run import execute_run
from tiebench.execution.settings import Settings
from tiebench.execution.worker_pool import Watch
from tiebench.experiment.run_spec import RunSpec
from tiebench.results.record import Record
from tiebench.results.store import CHECKPOINT_PATTERN, Store, has_checkpoint
from tiebench.training.signals import Interrupted, catch_signals, handle_stopping, raise_interrupted

REMOTE_POLL_SECONDS = 1.0
MOST_TRIES = 3  # without a new checkpoint in between
STOP_SECONDS = 120.0
RECORD_SECONDS = 20.0  # a file system over a network may show a new file late


@dataclass(frozen=True)
class JobOutcome:
    """How a job ended: `done` has its record, `stopped` was told to stop, `lost` ended without an outcome."""

    status: Literal["done", "failed", "stopped", "lost"]
    message: str = ""
    hint: str = ""


class RemoteJob(ABC):
    """One run, handed to a cluster."""

    @abstractmethod
    def find_outcome(self) -> JobOutcome | None:
        """None while the job waits or runs."""

    @abstractmethod
    def cancel(self) -> None:
        """Tell the run to stop, which checkpoints it; a job that has not begun is removed."""


@dataclass
class _Submission:
    index: int
    run: RunSpec
    job: RemoteJob
    reader: ProgressReader
    checkpointed_at: float
    tries: int = 1
    ended_at: float | None = None


class RemoteEngine(ABC):
    """Submits runs of `cpus` threads, at most `most` at once, and follows them to their records."""

    def __init__(
        self, settings: Settings, watch: Watch, *, cpus: int, most: int | None, on_record: Callable[[Record], None]
    ) -> None:
        self.watch, self.most, self.on_record = watch, most, on_record
        self.settings = replace(
            settings,
            store=Store(settings.store.root.absolute()),
            data_dir=settings.data_dir.absolute() if settings.data_dir else None,
            num_threads=settings.num_threads or cpus,
            engine=LocalEngine(),
            track=(),
        )
        self.submissions: dict[str, _Submission] = {}
        self.records: dict[str, Record] = {}
        self.failures: list[BaseException] = []
        self.num_checkpointed = self.num_lost = 0
        self.stopping = False

    @abstractmethod
    def submit(self, run: RunSpec, *, settings: Settings) -> RemoteJob:
        """Hand a run to the cluster. Raises TiebenchError where the cluster refuses it."""

    @abstractmethod
    def close(self) -> None:
        """Disconnect from the cluster."""

    def execute(self, pending: list[tuple[int, RunSpec]]) -> dict[str, Record]:
        """The records by run name. Raises the first failure when all runs have ended, Interrupted when told to stop."""
        try:
            with catch_signals(self._stop):
                self._follow_all(list(pending))
        finally:
            for submission in self.submissions.values():
                submission.job.cancel()
            self.close()
        if self.stopping:
            raise Interrupted(self._describe_stop())
        if self.failures:
            raise self.failures[0]
        return self.records

    def _follow_all(self, pending: list[tuple[int, RunSpec]]) -> None:
        most = self.most or len(pending)
        told_at: float | None = None
        while self.submissions or (pending and not self.stopping):
            while pending and len(self.submissions) < most and not self.stopping:
                self._begin(*pending.pop(0))
            if self.stopping and told_at is None:
                told_at = time.monotonic()
                for submission in self.submissions.values():
                    submission.job.cancel()
            for submission in list(self.submissions.values()):
                self._look_at(submission)
            if told_at is not None and time.monotonic() - told_at > STOP_SECONDS:
                return
            if self.submissions:
                time.sleep(REMOTE_POLL_SECONDS)

    def _begin(self, index: int, run: RunSpec) -> None:
        callback = self.watch(run, index)
        folder = self.settings.store.folder(run.experiment, run.arm, run.seed)
        reader = ProgressReader(run, folder=folder, callback=callback)
        try:
            job = self.submit(run, settings=self.settings)
        except TiebenchError as error:
            self._fail(run, error, callback.say)
            return
        self.submissions[run.name] = _Submission(index, run, job, reader, _find_checkpoint_time(folder))

    def _look_at(self, submission: _Submission) -> None:
        run, reader = submission.run, submission.reader
        outcome = submission.job.find_outcome()
        reader.look()
        if outcome is None:
            return
        if outcome.status == "done":
            self._collect(submission)
            return
        if self.stopping:
            del self.submissions[run.name]
            kept = has_checkpoint(reader.folder)
            self.num_checkpointed, self.num_lost = self.num_checkpointed + kept, self.num_lost + (not kept)
            return
        try:
            if outcome.status == "lost" and self._take_up(submission, outcome):
                return
        except TiebenchError as error:  # the cluster refuses it now
            outcome = JobOutcome("failed", error.message, error.hint)
        del self.submissions[run.name]
        what = outcome.message or f"the job of {run.name} was cancelled"
        hint = outcome.hint or "type the same command again: it continues from the last checkpoint"
        self._fail(run, TiebenchError(what, hint), reader.callback.say)

    def _collect(self, submission: _Submission) -> None:
        run, reader = submission.run, submission.reader
        record = self.settings.store.read(reader.folder)
        if record is not None and record.signature == run.signature:
            del self.submissions[run.name]
            self.records[run.name] = record
            reader.finish(record)
            self.on_record(record)
            return
        submission.ended_at = submission.ended_at or time.monotonic()
        if time.monotonic() - submission.ended_at > RECORD_SECONDS:
            del self.submissions[run.name]
            what = f"the job of {run.name} ended without an error, but its record is not in {reader.folder}"
            hint = "name a folder that all nodes and this machine see: --results DIR"
            self._fail(run, TiebenchError(what, hint), reader.callback.say)

    def _take_up(self, submission: _Submission, outcome: JobOutcome) -> bool:
        """Submit a lost run again; false after too many tries in which it wrote no new checkpoint.

        The new job waits for the run's lock, which may stay in the name of the dead node for a while.
        """
        run, reader = submission.run, submission.reader
        checkpointed_at = _find_checkpoint_time(reader.folder)
        tries = 1 if checkpointed_at > submission.checkpointed_at else submission.tries + 1
        if tries > MOST_TRIES:
            return False
        where = "its last checkpoint" if has_checkpoint(reader.folder) else "the beginning"
        reader.callback.say(f"{run.name}: {outcome.message or 'its job is gone'}; submitted again, from {where}")
        submission.job = self.submit(run, settings=replace(self.settings, wait=True))
        submission.tries, submission.checkpointed_at = tries, checkpointed_at
        return True

    def _fail(self, run: RunSpec, error: TiebenchError, say: Callable[[str], None]) -> None:
        self.failures.append(error)
        say(f"{run.name} failed: {error.message}")

    def _describe_stop(self) -> str:
        """What became of the runs that were submitted."""
        if self.submissions:
            names = ", ".join(self.submissions)
            return f"the jobs of {names} were cancelled and have not ended yet"
        if not self.num_lost:
            return "all runs were checkpointed" if self.num_checkpointed else "no run was at work"
        number = self.num_checkpointed + self.num_lost
        return f"{self.num_checkpointed} of {number} runs at work were checkpointed; the others begin again"

    def _stop(self) -> None:
        self.stopping = True


def execute_on_node(run: RunSpec, settings: Settings, *, working_folder: str) -> JobOutcome:
    """What a job does. It ends with an outcome whatever happens, unless it is killed.

    SIGUSR2 is how Slurm announces the end of the time limit: the run is checkpointed, and goes on in another job.
    """
    out_of_time: list[bool] = []

    def end_in_time(number: int, frame: Any) -> None:
        out_of_time.append(True)
        signal.raise_signal(signal.SIGTERM)

    handle_stopping(raise_interrupted)
    signal.signal(signal.SIGUSR2, end_in_time)
    try:
        os.chdir(working_folder)
        execute_run(run, settings=settings)
    except KeyboardInterrupt:
        return JobOutcome("lost", "its time limit came") if out_of_time else JobOutcome("stopped")
    except TiebenchError as error:
        return JobOutcome("failed", error.message, error.hint)
    except Exception:
        return JobOutcome("failed", f"{run.name} failed:\n{traceback.format_exc()}")
    return JobOutcome("done")


def _find_checkpoint_time(folder: Path) -> float:
    """When the last checkpoint was written; 0 where there is none."""
    times = [0.0]
    for file in folder.rglob(CHECKPOINT_PATTERN):
        try:
            times.append(file.stat().st_mtime)
        except OSError:  # replaced in this moment
            times.append(time.time())
    return max(times)
