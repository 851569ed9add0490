"""What is finished and what is pending: asked here and nowhere else."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from tiebench.execution.finished import find_finished, resolve_runs
from tiebench.execution.run_folder import tidy_finished
from tiebench.execution.settings import Settings
from tiebench.experiment.run_spec import RunSpec
from tiebench.results.record import Record

if TYPE_CHECKING:
    from tiebench.execution.counting import ArmCount


@dataclass(frozen=True)
class Plan:
    """Runs in the order asked for; `finished` holds the records that are there already, by the run's name.

    `counts` has one entry per arm with a pending run; it is empty where nothing is pending.
    """

    runs: tuple[RunSpec, ...]
    finished: dict[str, Record]
    counts: tuple["ArmCount", ...] = ()

    @property
    def pending(self) -> list[RunSpec]:
        """The runs without a record, in order."""
        return [run for run in self.runs if run.name not in self.finished]


def plan_runs(runs: list[RunSpec], *, settings: Settings) -> Plan:
    """Look for the record of every run, and count every arm that is still to be trained.

    Raises UsageError when a run's folder holds another run and when an arm cannot be built, TiebenchError for a corpus
    that cannot be found: before anything is trained. Needs torch only where something is pending or an arm
    is to be matched with another one.
    """
    runs = resolve_runs(runs, data_dir=settings.data_dir)
    found = {run.name: _find_and_tidy(run, settings=settings) for run in runs}
    plan = Plan(tuple(runs), {name: record for name, record in found.items() if record is not None})
    if not plan.pending:
        return plan
    from tiebench.execution.counting import count_arms

    return Plan(plan.runs, plan.finished, tuple(count_arms(plan.pending, data_dir=settings.data_dir)))


def _find_and_tidy(run: RunSpec, *, settings: Settings) -> Record | None:
    """The record of a run, after finishing what killed processes left undone. With `force`, nothing is tidied: an
    interrupted replacement of the run goes on."""
    folder = settings.store.folder(run.experiment, run.arm, run.seed)
    if not settings.force:
        tidy_finished(folder, is_finished=lambda: settings.store.read(folder) is not None)
    return find_finished(run, settings=settings)
