"""`tiebench train`: train every arm of an experiment at every seed."""

from shlex import quote

from tiebench.cli.options import (
    NO_LIST,
    RESULTS,
    ArmNames,
    AsJson,
    Config,
    DataDir,
    Device,
    EngineName,
    Force,
    Jobs,
    Overrides,
    Quiet,
    Results,
    Seeds,
    Track,
    Wait,
)
from tiebench.cli.output import print_runs
from tiebench.cli.workflow import complete_runs, gather_settings, suggest_next, tune_experiment


def train(
    config: Config,
    overrides: Overrides = NO_LIST,
    seeds: Seeds = NO_LIST,
    arms: ArmNames = NO_LIST,
    device: Device = "auto",
    results: Results = RESULTS,
    data_dir: DataDir = None,
    force: Force = False,
    jobs: Jobs = "auto",
    engine: EngineName = None,
    wait: Wait = False,
    track: Track = NO_LIST,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Train every arm of an experiment at every seed, and write perplexities and parameter counts to the tables."""
    from tiebench.experiment.loading import load_experiment

    experiment = load_experiment(config, overrides=overrides)
    experiment.list_runs(arms=arms, seeds=seeds)
    settings = gather_settings(
        results, device=device, data_dir=data_dir, force=force, wait=wait, track=track, engine=engine
    )
    experiment = tune_experiment(experiment, arms, seeds, settings=settings, jobs=jobs, quiet=quiet)
    runs = experiment.list_runs(arms=arms, seeds=seeds)
    records = complete_runs(experiment, runs, settings=settings, jobs=jobs, quiet=quiet)
    print_runs(records, as_json=as_json)
    if not quiet and not as_json:
        names = list(dict.fromkeys(record.arm for record in records))
        only = "" if overrides else f" --config {quote(config)}"
        first = [f"tiebench compare {' '.join(names)}{only}"] if len(names) > 1 else []
        suggest_next(records, settings=settings, first=first)
