"""Runs as jobs of Slurm, submitted by submitit.

submitit asks `sacct` how a job is, which answers only where the cluster keeps accounts; `squeue` answers everywhere.
"""

import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from tiebench.errors import TiebenchError
from tiebench.execution.engine_config import SlurmEngine
from tiebench.execution.remote import JobOutcome, RemoteEngine, RemoteJob, execute_on_node
from tiebench.execution.settings import Settings
from tiebench.execution.worker_pool import Watch
from tiebench.experiment.run_spec import RunSpec
from tiebench.results.record import Record

LOG_FOLDER = ".slurm"
SQUEUE_SECONDS = 3.0  # the controller is asked once for all jobs
RESULT_SECONDS = 20.0  # a job may have ended before its result is seen here
ENDED = {"CANCELLED", "FAILED", "TIMEOUT", "NODE_FAIL", "BOOT_FAIL", "PREEMPTED", "OUT_OF_MEMORY", "DEADLINE"}
ENDED |= {"COMPLETED", "REVOKED", "SPECIAL_EXIT", "GONE"}


class SlurmQueue:
    """The states of this user's jobs, by number; asked for at most every `SQUEUE_SECONDS`."""

    def __init__(self) -> None:
        self.states: dict[str, str] = {}
        self.asked_at = -SQUEUE_SECONDS

    def find_state(self, number: str) -> str | None:
        """`GONE` for a job that the controller has forgotten; None where it does not answer."""
        if time.monotonic() - self.asked_at >= SQUEUE_SECONDS:
            command = ["squeue", "--noheader", "--me", "--states=all", "--format=%i %T"]
            with suppress(OSError, subprocess.TimeoutExpired):
                answer = subprocess.run(command, capture_output=True, text=True, timeout=30)
                if answer.returncode == 0:
                    self.states = dict(line.split(maxsplit=1) for line in answer.stdout.splitlines() if " " in line)
                    self.states[""] = "known"
            self.asked_at = time.monotonic()
        return self.states.get(number, "GONE") if self.states else None


class SlurmRuns(RemoteEngine):
    """Files of submitit and the output of the jobs lie in `.slurm` in the folder of results."""

    def __init__(
        self,
        settings: Settings,
        watch: Watch,
        config: SlurmEngine,
        *,
        most: int | None,
        on_record: Callable[[Record], None],
    ) -> None:
        super().__init__(settings, watch, cpus=config.cpus, most=most, on_record=on_record)
        from submitit import SlurmExecutor  # pyright: ignore[reportMissingImports]  (an extra)

        self.logs = self.settings.store.root / LOG_FOLDER
        self.executor = SlurmExecutor(folder=self.logs, python=sys.executable)
        self.executor.update_parameters(**_list_parameters(config))
        self.queue = SlurmQueue()

    def submit(self, run: RunSpec, *, settings: Settings) -> RemoteJob:
        self.executor.update_parameters(job_name=run.name)
        try:
            job = self.executor.submit(execute_on_node, run, settings, working_folder=str(Path.cwd()))
        except Exception as error:  # submitit raises errors of its own, with the output of sbatch
            hint = "see what the cluster admits (sinfo), and engine.* in tiebench.toml"
            raise TiebenchError(f"Slurm refuses {run.name}: {error}", hint) from error
        return _SlurmJob(job, self.queue)

    def close(self) -> None:
        """Every run's script, result and output stay: Slurm may still be writing."""


class _SlurmJob(RemoteJob):
    def __init__(self, job: Any, queue: SlurmQueue) -> None:
        self.job, self.queue = job, queue
        self.ended_at: float | None = None
        self.submitted_at = time.monotonic()

    def find_outcome(self) -> JobOutcome | None:
        if self.job.paths.result_pickle.exists():
            error = self.job.exception()
            return self.job.result() if error is None else JobOutcome("failed", str(error), self._name_log())
        state = self.queue.find_state(self.job.job_id)
        if state is None or state not in ENDED or time.monotonic() - self.submitted_at < SQUEUE_SECONDS:
            self.ended_at = None
            return None
        self.ended_at = self.ended_at or time.monotonic()
        if state == "CANCELLED":
            return JobOutcome("stopped", f"the Slurm job {self.job.job_id} was cancelled")
        if state == "OUT_OF_MEMORY":
            return JobOutcome("failed", "Slurm ended the job: out of memory", "raise engine.memory_mb in tiebench.toml")
        if time.monotonic() - self.ended_at < RESULT_SECONDS and state in ("COMPLETED", "GONE"):
            return None
        words = state.lower().replace("_", " ")
        return JobOutcome("lost", f"the Slurm job {self.job.job_id} ended ({words}) without a result", self._name_log())

    def cancel(self) -> None:
        with suppress(subprocess.SubprocessError, OSError):
            subprocess.run(["scancel", self.job.job_id], capture_output=True, timeout=30)

    def _name_log(self) -> str:
        return f"what it printed: {self.job.paths.stderr}"


def _list_parameters(config: SlurmEngine) -> dict[str, Any]:
    """The options of sbatch by submitit's names; those that are not set are left out."""
    wanted = {
        "time": config.minutes,
        "cpus_per_task": config.cpus,
        "gpus_per_node": config.gpus or None,
        "mem": None if config.memory_mb is None else f"{config.memory_mb}MB",
        "partition": config.partition,
        "account": config.account,
        "setup": list(config.setup) or None,
    }
    return {key: value for key, value in wanted.items() if value is not None}
