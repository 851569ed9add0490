"""A plan becomes records, by the engine that the settings name: this process, a pool of processes, the
ranks of torchrun, or a cluster."""

from collections.abc import Callable
from typing import Protocol

from tiebench.errors import TiebenchError
from tiebench.execution.engine_config import RayEngine, SlurmEngine
from tiebench.execution.environment import choose_device
from tiebench.execution.launch import find_launch
from tiebench.execution.plan import Plan
from tiebench.execution.run import execute_run
from tiebench.execution.settings import Settings
from tiebench.execution.worker_pool import Watch, WorkerPool, count_cores
from tiebench.experiment.run_spec import RunSpec
from tiebench.results.record import Record

OnRecord = Callable[[Record], None]


class Engine(Protocol):
    """Whatever executes many runs. A new one is a class with this method and a line in `open_engine`."""

    def execute(self, pending: list[tuple[int, RunSpec]]) -> dict[str, Record]:
        """The records by run name, each in its folder too; `pending` has the place of each run in the plan.

        One run's failure does not stop the others; the first is raised when all have ended. Raises Interrupted when
        told to stop, after every run at work was checkpointed.
        """
        ...


def execute(
    plan: Plan,
    *,
    settings: Settings,
    watch: Watch,
    jobs: str = "auto",
    on_record: OnRecord = lambda record: None,
) -> list[Record]:
    """Every run's record, in the order of the plan; `on_record` is called with each new one when it is written.

    `watch(run, index)` gives the callback of a run. One run's failure does not stop the others; the first failure is
    raised when all have ended. Raises Interrupted when told to stop.
    """
    records = dict(plan.finished)
    for index, run in enumerate(plan.runs):
        if run.name in records:
            watch(run, index).finish_run(records[run.name], reused=True)
    pending = [(index, run) for index, run in enumerate(plan.runs) if run.name not in records]
    if pending:
        engine = open_engine(settings, watch=watch, jobs=jobs, num_runs=len(pending), on_record=on_record)
        records |= engine.execute(pending)
    return [records[run.name] for run in plan.runs]


def open_engine(settings: Settings, *, watch: Watch, jobs: str, num_runs: int, on_record: OnRecord) -> Engine:
    """Raises TiebenchError where a cluster does not answer."""
    if find_launch() is not None:
        from tiebench.execution.parallel_runs import RunsOverRanks

        return RunsOverRanks(settings, watch, on_record=on_record, jobs=jobs)
    config, most = settings.engine, None if jobs == "auto" else int(jobs)
    if isinstance(config, SlurmEngine):
        from tiebench.execution.slurm import SlurmRuns

        return SlurmRuns(settings, watch, config, most=most, on_record=on_record)
    if isinstance(config, RayEngine):
        from tiebench.execution.ray_runs import RayRuns

        return RayRuns(settings, watch, config, most=most, on_record=on_record)
    num_jobs = choose_num_jobs(jobs, num_runs=num_runs, device=choose_device(settings.device).type)
    if num_jobs > 1:
        return WorkerPool(settings, watch, num_jobs, on_record=on_record)
    return RunsInTurn(settings, watch, on_record=on_record)


class RunsInTurn:
    """In this process, one run after the other."""

    def __init__(self, settings: Settings, watch: Watch, *, on_record: OnRecord) -> None:
        self.settings, self.watch, self.on_record = settings, watch, on_record

    def execute(self, pending: list[tuple[int, RunSpec]]) -> dict[str, Record]:
        """See `Engine.execute`."""
        records, failures = {}, []
        for index, run in pending:
            callback = self.watch(run, index)
            try:
                records[run.name] = execute_run(run, settings=self.settings, callback=callback)
            except TiebenchError as error:
                failures.append(error)
                if len(pending) > 1:
                    callback.say(f"{run.name} failed: {error.message}")
            else:
                self.on_record(records[run.name])
        if failures:
            raise failures[0]
        return records


def choose_num_jobs(asked: str, *, num_runs: int, device: str) -> int:
    """How many processes: `auto` is one per core on a CPU and one in all on anything else; never more than runs."""
    if asked != "auto":
        return min(int(asked), max(1, num_runs))
    return min(count_cores(), max(1, num_runs)) if device == "cpu" else 1
