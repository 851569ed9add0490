"""The Python interface: load an experiment, train it, compare its arms, reproduce a paper.

Settings are those of the command line. Nothing is printed; progress goes to a `Callback`.
"""

import logging
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

from tiebench.claims.evidence import Evidence, plan_papers
from tiebench.claims.papers import load_papers
from tiebench.claims.verdicts import ClaimResult, judge_papers
from tiebench.comparison.looking import find_looks_below
from tiebench.comparison.pairing import Comparison, compare_arms
from tiebench.errors import TiebenchError, UsageError
from tiebench.execution.engine_config import EngineConfig, check_jobs, choose_engine
from tiebench.execution.plan import Plan, plan_runs
from tiebench.execution.settings import Settings
from tiebench.execution.tuning import enter_choices, tune_arms
from tiebench.experiment.loading import Experiment, load_experiment
from tiebench.experiment.run_spec import RunSpec
from tiebench.reporting.pages import refresh_tables
from tiebench.reporting.tuning_plot import refresh_tuning_plot
from tiebench.results.record import Record
from tiebench.results.selection import put_baseline_first
from tiebench.results.store import Store
from tiebench.training.callbacks import Callback

__all__ = ["compare", "load_experiment", "reproduce", "train"]

Place = str | Path

logger = logging.getLogger(__name__)


def train(
    experiment: Experiment | Place,
    *,
    arms: Sequence[str] = (),
    seeds: Sequence[int] = (),
    results: Place = "results",
    data_dir: Place | None = None,
    device: str = "auto",
    jobs: str | int = "auto",
    engine: str | EngineConfig = "local",
    watch: Callable[[RunSpec, int], Callback] = lambda run, index: Callback(),
) -> list[Record]:
    """Train every arm at every seed that is not finished, and return all their records. Where the file has `tuning:`,
    trials first choose the values of each arm.

    `experiment` is one that was loaded, a file, or the name of a bundled one. `arms` and `seeds` choose among those of
    the file. `jobs` is how many runs are trained at once; more than one needs the `if __name__ == "__main__":` of a
    script, as every use of multiprocessing does. `engine` is `local`, `slurm` or `ray`, set as tiebench.toml in the
    working directory says, or a config such as `RayEngine(cpus=4)`. `watch(run, index)` gives the callback of a run.

    Raises UsageError for wrong arguments or a wrong experiment file, TiebenchError when a run fails, and
    KeyboardInterrupt after a checkpoint on Ctrl-C; called again, it continues.
    """
    from tiebench.execution.execute import execute

    check_jobs(str(jobs))
    experiment = _load(experiment)
    settings = replace(_settings(results, data_dir=data_dir, device=device), engine=choose_engine(engine))
    experiment.list_runs(arms=list(arms), seeds=list(seeds))
    make_trials = partial(_make_trials, watch=watch, jobs=str(jobs))
    experiment = tune_arms(experiment, settings=settings, arms=arms, train=make_trials)
    _refresh(partial(refresh_tuning_plot, settings.store.root / experiment.name))
    plan = plan_runs(experiment.list_runs(arms=list(arms), seeds=list(seeds)), settings=settings)
    if not plan.pending:
        return [plan.finished[run.name] for run in plan.runs]
    return execute(
        plan,
        settings=settings,
        watch=watch,
        jobs=str(jobs),
        on_record=lambda record: _refresh(partial(refresh_tables, settings.store)),
    )


def compare(
    experiment: Experiment | Place,
    *,
    arms: Sequence[str] = (),
    seeds: Sequence[int] = (),
    results: Place = "results",
    data_dir: Place | None = None,
) -> Comparison:
    """Compare each arm with the first (of two arms, with the untied one), from finished runs; trains nothing.

    Raises UsageError where a run is pending, or where runs may not be compared, naming the field.
    """
    experiment = _load(experiment)
    settings = _settings(results, data_dir=data_dir, device="cpu")
    experiment = tune_arms(experiment, settings=settings, arms=arms)
    runs = experiment.list_runs(arms=list(arms), seeds=list(seeds))
    plan = plan_runs(runs, settings=settings)
    if plan.pending:
        raise UsageError(f"{plan.pending[0].name} is not finished", "train it first: tiebench.train(experiment)")
    records = enter_choices([plan.finished[run.name] for run in plan.runs], experiment)
    names = list(arms) or list(experiment.arms)
    by_arm = {name: [record for record in records if record.arm == name] for name in names}
    store = settings.store
    return compare_arms(
        put_baseline_first(by_arm),
        token_nll=store.token_nll,
        curve=store.curve,
        decades=store.target_decades,
        bleu_counts=store.bleu_counts,
        others=store.records(),
        looks=find_looks_below(store.root),
    )


def reproduce(
    paper: str, *, only: Sequence[str] = (), seeds: Sequence[int] = (), results: Place = "results"
) -> list[ClaimResult]:
    """A paper's claims judged by finished runs; trains nothing. `paper` may be `all`, or a claims file of your own.

    Raises UsageError for an unknown paper, claim, table or figure.
    """
    papers = load_papers(paper, only=list(only))
    plans = plan_papers(papers, only=list(only), seeds=list(seeds), overrides=[])
    settings = _settings(results, data_dir=None, device="cpu")
    plans = {
        name: replace(plan, experiment=tune_arms(plan.experiment, settings=settings, arms=plan.arms))
        for name, plan in plans.items()
    }
    evidence = Evidence(settings.store, plans, tuple(seeds))
    return judge_papers(papers, evidence=evidence, only=list(only))


def _make_trials(
    plan: Plan, settings: Settings, *, watch: Callable[[RunSpec, int], Callback], jobs: str
) -> list[Record]:
    from tiebench.execution.execute import execute

    return execute(plan, settings=settings, watch=watch, jobs=jobs)


def _refresh(write: Callable[[], None]) -> None:
    """Write what is made from records; training goes on where that cannot be written."""
    try:
        write()
    except (OSError, TiebenchError) as error:
        logger.warning("tables and drawings could not be written: %s", error)


def _load(experiment: Experiment | Place) -> Experiment:
    return experiment if isinstance(experiment, Experiment) else load_experiment(experiment)


def _settings(results: Place, *, data_dir: Place | None, device: str) -> Settings:
    return Settings(store=Store(Path(results)), device=device, data_dir=Path(data_dir) if data_dir else None)
