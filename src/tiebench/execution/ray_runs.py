"""Runs as tasks of Ray. A task whose node dies is submitted again, to whatever node is left."""

import logging
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tiebench.errors import TiebenchError
from tiebench.execution.engine_config import RayEngine
from tiebench.execution.remote import JobOutcome, RemoteEngine, RemoteJob, execute_on_node
from tiebench.execution.settings import Settings
from tiebench.execution.worker_pool import Watch
from tiebench.experiment.run_spec import RunSpec
from tiebench.results.record import Record

HANDED_ON = (
    "PYTHONPATH",
    "OMP_NUM_THREADS",
    "TIEBENCH_DATA",
    "TIEBENCH_CACHE",
    "TIEBENCH_LOCKS",
)  # environment variables that a task gets from here


class RayRuns(RemoteEngine):
    """Joins a cluster that is there; starts none."""

    def __init__(
        self,
        settings: Settings,
        watch: Watch,
        config: RayEngine,
        *,
        most: int | None,
        on_record: Callable[[Record], None],
    ) -> None:
        super().__init__(settings, watch, cpus=config.cpus, most=most, on_record=on_record)
        self.ray = _join_cluster(config.address)
        remote = self.ray.remote(num_cpus=config.cpus, num_gpus=config.gpus, max_retries=0, max_calls=1)
        self.task = remote(execute_on_node)

    def submit(self, run: RunSpec, *, settings: Settings) -> RemoteJob:
        task = self.task.options(name=run.name)
        return _RayJob(self.ray, task.remote(run, settings, working_folder=str(Path.cwd())))

    def close(self) -> None:
        self.ray.shutdown()


class _RayJob(RemoteJob):
    def __init__(self, ray: Any, reference: Any) -> None:
        self.ray, self.reference = ray, reference

    def find_outcome(self) -> JobOutcome | None:
        ready, _ = self.ray.wait([self.reference], timeout=0)
        if not ready:
            return None
        try:
            return self.ray.get(self.reference)
        except self.ray.exceptions.TaskCancelledError:
            return JobOutcome("stopped")
        except self.ray.exceptions.RayTaskError as error:
            return JobOutcome("failed", str(error))
        except self.ray.exceptions.RayError as error:
            return JobOutcome("lost", f"its node or process died ({type(error).__name__})")

    def cancel(self) -> None:
        self.ray.cancel(self.reference, force=False)


def _join_cluster(address: str) -> Any:
    """The module, connected. Raises TiebenchError where no cluster answers."""
    import ray  # pyright: ignore[reportMissingImports]  (an extra)

    handed_on = {name: os.environ[name] for name in HANDED_ON if name in os.environ}
    try:
        ray.init(
            address=address,
            log_to_driver=False,
            logging_level=logging.ERROR,
            runtime_env={"env_vars": handed_on},
        )
    except (ConnectionError, RuntimeError, ValueError) as error:
        hint = "start one with `ray start --head`, or name its head as engine.address in tiebench.toml"
        raise TiebenchError(f"no Ray cluster answers at '{address}': {error}", hint) from error
    return ray
