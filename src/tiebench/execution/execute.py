"""A plan becomes records: in this process one run after the other, or several at once, a process each."""

from collections.abc import Callable

from tiebench.errors import TiebenchError
from tiebench.execution.environment import choose_device
from tiebench.execution.plan import Plan
from tiebench.execution.run import execute_run
from tiebench.execution.settings import Settings
from tiebench.execution.worker_pool import Watch, WorkerPool, count_cores
from tiebench.results.record import Record

OnRecord = Callable[[Record], None]


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
    num_jobs = choose_num_jobs(jobs, num_runs=len(pending), device=choose_device(settings.device).type)
    if num_jobs > 1:
        records |= WorkerPool(settings, watch, num_jobs, on_record=on_record).execute(pending)
        return [records[run.name] for run in plan.runs]
    failures = []
    for index, run in pending:
        callback = watch(run, index)
        try:
            records[run.name] = execute_run(run, settings=settings, callback=callback)
        except TiebenchError as error:
            failures.append(error)
            if len(pending) > 1:
                callback.say(f"{run.name} failed: {error.message}")
        else:
            on_record(records[run.name])
    if failures:
        raise failures[0]
    return [records[run.name] for run in plan.runs]


def choose_num_jobs(asked: str, *, num_runs: int, device: str) -> int:
    """How many processes: `auto` is one per core on a CPU and one in all on anything else; never more than runs."""
    if asked != "auto":
        return min(int(asked), max(1, num_runs))
    return min(count_cores(), max(1, num_runs)) if device == "cpu" else 1
