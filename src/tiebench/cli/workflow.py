"""What the commands have in common: from arms and seeds to records; missing runs are trained."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING

from tiebench.cli.options import NO_LIST
from tiebench.cli.output import print_counts, print_note
from tiebench.errors import TiebenchError, UsageError

if TYPE_CHECKING:
    from tiebench.execution.plan import Plan
    from tiebench.execution.settings import Settings
    from tiebench.experiment.loading import Experiment
    from tiebench.experiment.run_spec import RunSpec
    from tiebench.results.record import Record


def gather_settings(
    results: Path,
    *,
    device: str,
    data_dir: Path | None,
    force: bool,
    wait: bool = False,
    track: list[str] | None = None,
    engine: str | None = None,
) -> "Settings":
    """What a command was asked for; `track` is None for a command that follows no runs."""
    from tiebench.execution.engine_config import choose_engine, choose_trackers
    from tiebench.execution.settings import Settings
    from tiebench.results.store import Store
    from tiebench.tracking.following import check_trackers

    check_results(results)
    trackers = () if track is None else choose_trackers(track)
    check_trackers(trackers)
    store = Store(results)
    return Settings(
        store=store,
        device=device,
        data_dir=data_dir,
        force=force,
        wait=wait,
        track=trackers,
        engine=choose_engine(engine),
    )


def check_results(results: Path) -> None:
    """Raises UsageError for a file; what is not there is a folder without runs."""
    if (results.exists() or results.is_symlink()) and not results.is_dir():
        found = "a file" if results.exists() else "a link to nothing"
        raise UsageError(f"--results {results} is {found}", "name a folder")


def tune_experiment(
    experiment: "Experiment",
    names: list[str],
    seeds: list[int] = NO_LIST,
    *,
    settings: "Settings",
    jobs: str,
    quiet: bool,
    train: bool = True,
) -> "Experiment":
    """The experiment with the values that trials chose for these arms (none: all); with `train`, missing trials are
    made first. `seeds` (none: those of the file) are those of the runs that come after.
    """
    from tiebench.execution.engine_config import check_jobs
    from tiebench.execution.tuning import list_trials, tune_arms

    check_jobs(jobs)
    number = len(list_trials(experiment, arms=names))
    if not number:
        return experiment

    def train_trials(plan: "Plan", place: "Settings") -> list["Record"]:
        if not quiet:
            known = f" ({number - len(plan.runs)} are finished)" if number > len(plan.runs) else ""
            what = "each arm is then trained with the values that gave it the lowest validation perplexity"
            print_note(f"{experiment.name}: {number} trials first{known}; {what}")
        return _train_runs(
            plan,
            settings=place,
            jobs=jobs,
            quiet=quiet,
            on_record=lambda record: None,
            tracked=settings.store.root,
            later_tokens=_count_later_tokens(experiment, names, seeds, settings=settings),
        )

    said = {"say": print_note} if not quiet else {}
    experiment = tune_arms(experiment, settings=settings, arms=names, train=train_trials if train else None, **said)
    if train:
        draw_tuning(experiment, settings=settings)
    return experiment


def _count_later_tokens(experiment: "Experiment", names: list[str], seeds: list[int], *, settings: "Settings") -> int:
    """Training tokens of the runs that are to follow the trials."""
    from tiebench.execution.counting import count_arms

    runs, store = experiment.list_runs(arms=names, seeds=seeds), settings.store
    pending = [
        run for run in runs if settings.force or store.read(store.folder(run.experiment, run.arm, run.seed)) is None
    ]
    tokens = {count.arm: count.num_tokens for count in count_arms(pending, data_dir=settings.data_dir)}
    return sum(tokens[run.arm] for run in pending)


def draw_tuning(experiment: "Experiment", *, settings: "Settings") -> None:
    """Draw the trials beside `tuning.json`. Where that cannot be written, the figures are kept all the same."""
    from tiebench.reporting.tuning_plot import refresh_tuning_plot

    try:
        refresh_tuning_plot(settings.store.root / experiment.name)
    except (OSError, TiebenchError) as error:
        print_note(f"warning: the picture of the trials could not be written: {error}")


def complete_runs(
    experiment: "Experiment", runs: list["RunSpec"], *, settings: "Settings", jobs: str, quiet: bool
) -> list["Record"]:
    """The records of all runs: pending ones are counted, trained and entered in the tables first."""
    from tiebench.execution.engine_config import check_jobs
    from tiebench.execution.plan import plan_runs

    check_jobs(jobs)
    plan = plan_runs(runs, settings=settings)
    with keep_tables(settings):
        if not plan.pending:
            if not quiet:
                found = f"all {len(runs)} runs of {experiment.name} are" if len(runs) > 1 else f"{runs[0].name} is"
                print_note(f"{found} there already")
            return [plan.finished[run.name] for run in runs]
        if not quiet:
            print_counts(plan.counts, title=experiment.name, caption=experiment.description, to_stderr=True)
            for arm, remarks in {run.arm: run.remarks for run in plan.runs}.items():
                for remark in remarks:
                    print_note(f"{arm}: {remark}")
        return _train_runs(plan, settings=settings, jobs=jobs, quiet=quiet, on_record=lambda record: refresh(settings))


def _train_runs(
    plan: "Plan",
    *,
    settings: "Settings",
    jobs: str,
    quiet: bool,
    on_record: Callable[["Record"], None],
    tracked: Path | None = None,
    later_tokens: int = 0,
) -> list["Record"]:
    """Train pending runs, with progress on the screen; `on_record` is called with every new record. Trackers write
    below `tracked`, else beside the records. `later_tokens` are trained after these runs.
    """
    from tiebench.cli.progress import Display
    from tiebench.execution.execute import execute
    from tiebench.tracking.following import Tracking
    from tiebench.training.signals import handle_stopping, raise_interrupted

    tracking = Tracking(settings.track, results=tracked or settings.store.root)
    display = Display(plan, quiet=quiet, later_tokens=later_tokens)
    handle_stopping(raise_interrupted)
    try:
        return execute(
            plan,
            settings=settings,
            watch=tracking.follow(display.watch),
            jobs=jobs,
            on_record=on_record,
        )
    finally:
        tracking.close()
        display.close()


@contextmanager
def keep_tables(settings: "Settings") -> Iterator[None]:
    """Write the tables anew at the end of the block, however it ends."""
    try:
        yield
    finally:
        refresh(settings)


def refresh(settings: "Settings") -> None:
    """Write the tables anew where they differ. Where they cannot be written, the records are there all the same."""
    from filelock import Timeout

    from tiebench.reporting.pages import refresh_tables

    try:
        refresh_tables(settings.store)
    except (OSError, TiebenchError, Timeout) as error:
        print_note(f"warning: the tables in {settings.store.root} could not be written: {error}")


def train_arms(
    config: str,
    names: list[str],
    overrides: list[str],
    seeds: list[int],
    *,
    settings: "Settings",
    jobs: str,
    quiet: bool,
    train: bool = True,
    allow: list[str] = NO_LIST,
) -> dict[str, list["Record"]]:
    """The finished runs of these arms (none: all of the experiment), at all seeds. Missing runs at the seeds of the
    file are trained first, unless `train=False`. Raises UsageError, before training, for arms that could not be
    compared.
    """
    from tiebench.comparison.checks import check_specs
    from tiebench.execution.tuning import enter_choices
    from tiebench.experiment.loading import load_experiment

    experiment = load_experiment(config, overrides=overrides)
    names = names or list(experiment.arms)
    experiment.list_runs(arms=names, seeds=seeds)
    check_specs({name: experiment.arms[name] for name in names}, allow=allow)
    experiment = tune_experiment(experiment, names, seeds, settings=settings, jobs=jobs, quiet=quiet, train=train)
    runs = [run for run in experiment.list_runs(arms=names, seeds=seeds) if not run.is_untuned]
    if train:
        records = complete_runs(experiment, runs, settings=settings, jobs=jobs, quiet=quiet)
    else:
        records = find_records(experiment, runs, settings=settings, quiet=quiet)
    if not seeds:
        records += find_other_seeds(experiment, records, names=names, settings=settings)
    records = enter_choices(records, experiment)
    return {name: [record for record in records if record.arm == name] for name in names}


def find_records(
    experiment: "Experiment", runs: list["RunSpec"], *, settings: "Settings", quiet: bool
) -> list["Record"]:
    """The records of the runs that are finished; a note says how many are not."""
    from tiebench.execution.finished import list_finished

    records = [record for record in list_finished(runs, settings=settings) if record is not None]
    if len(records) < len(runs) and not quiet:
        print_note(f"{len(runs) - len(records)} of {len(runs)} runs of {experiment.name} are not finished")
    return records


def find_other_seeds(
    experiment: "Experiment", records: list["Record"], *, names: list[str], settings: "Settings"
) -> list["Record"]:
    """Finished runs of these arms at seeds that are not among `records`; only those of the very same spec."""
    from tiebench.execution.finished import resolve_runs

    known = {(record.arm, record.seed) for record in records}
    others = [
        record
        for record in settings.store.records()
        if record.experiment == experiment.name
        and record.arm in set(names) - set(experiment.untuned)
        and record.seed not in experiment.tuning_seeds
        and (record.arm, record.seed) not in known
    ]
    asked = [run for each in others for run in experiment.list_runs(arms=[each.arm], seeds=[each.seed])]
    runs = resolve_runs(asked, data_dir=settings.data_dir)
    return [record for record, run in zip(others, runs, strict=True) if run.signature == record.signature]


def announce_quickstart(names: list[str], *, quiet: bool) -> str:
    """The name of the bundled quickstart, which is trained where there are no runs. Raises UsageError for arms that
    it does not have.
    """
    from tiebench.execution.tuning import list_trials
    from tiebench.experiment.bundled import QUICKSTART
    from tiebench.experiment.loading import load_experiment

    experiment = load_experiment(QUICKSTART)
    runs = experiment.list_runs(arms=names)
    if not quiet:
        num_trials = len(list_trials(experiment, arms=names))
        first = f"{num_trials} trials and " if num_trials else ""
        print_note(f"no runs yet: training the bundled quickstart first ({first}{len(runs)} runs, a few minutes)")
    return QUICKSTART


def choose_format(format: str, *, as_json: bool) -> str:
    """`--json` is short for `--format json`. Raises UsageError where both are given and differ."""
    if as_json and format not in ("text", "json"):
        raise UsageError(f"--format {format} and --json ask for two formats", "choose one of the two")
    return "json" if as_json else format


def check_output(format: str, *, plot: Path | None = None) -> None:
    """Raises UsageError for a format or a picture that cannot be written, before anything is trained for it."""
    from tiebench.reporting.plots import check_suffix
    from tiebench.reporting.render import check_format

    check_format(format)
    if plot is not None:
        check_suffix(plot)


def keep_seeds(group: dict[str, list["Record"]], seeds: list[int]) -> dict[str, list["Record"]]:
    """The runs at these seeds. Raises UsageError where an arm has no finished run at one of them."""
    for arm, records in group.items():
        there = {record.seed for record in records}
        if missing := sorted(set(seeds) - there):
            hint = (
                f"there are {', '.join(map(str, sorted(there)))}; train the others with tiebench train CONFIG --seed N"
            )
            raise UsageError(f"'{arm}' has no finished run at seed {missing[0]}", hint)
    return {arm: [record for record in records if record.seed in seeds] for arm, records in group.items()}


def find_run_folder(run: Path) -> Path:
    """The folder itself. Raises UsageError where it is not that of a finished run."""
    from tiebench.results.record import RECORD_FILE

    if (run / RECORD_FILE).exists():
        return run
    inside = sorted(str(file.parent) for file in run.glob(f"**/{RECORD_FILE}"))[:3] if run.is_dir() else []
    hint = f"did you mean {' or '.join(inside)}?" if inside else "`tiebench list runs` shows them"
    raise UsageError(f"{run} is not a finished run", hint)


def suggest_next(records: list["Record"], *, settings: "Settings", first: list[str]) -> None:
    """On a terminal, print what one would probably type next: `first`, then how to look at these runs."""
    if not sys.stderr.isatty() or not records:
        return
    place = settings.store.root
    where = "" if place == Path("results") else f" --results {quote(str(place))}"
    shown = f"tiebench show {quote(str(settings.store.folder_of(records[-1])))}"
    print_note("next: " + "\n      ".join((*(f"{line}{where}" for line in first), shown, f"tiebench list runs{where}")))
