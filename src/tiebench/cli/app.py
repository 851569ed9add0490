"""The command line: parse, call, print. What is heavy is imported by the command itself."""

import functools
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer

import tiebench
from tiebench.errors import TiebenchError, UsageError
from tiebench.cli.output import (
    print_claims,
    print_comparisons,
    print_costs,
    print_findings,
    print_json,
    print_runs,
    print_table,
    show_value,
)
from tiebench.cli.workflow import (
    announce_quickstart,
    check_output,
    complete_runs,
    find_run_folder,
    gather_settings,
    keep_seeds,
    train_arms,
)

app = typer.Typer(
    help="Should I tie my embeddings? Controlled experiments on weight tying in language models.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

Config = Annotated[str, typer.Argument(help="An experiment file, or the name of a bundled one (tiebench list configs).")]
Overrides = Annotated[list[str], typer.Option("--set", metavar="KEY=VALUE", help="Change one value: training.epochs=1.")]
Seeds = Annotated[list[int], typer.Option("--seed", min=0, help="Only this seed; may be repeated.")]
ArmNames = Annotated[list[str], typer.Option("--arm", help="Only this arm; may be repeated.")]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1, mps.")]
Results = Annotated[Path, typer.Option(help="The folder of runs and tables.")]
DataDir = Annotated[Path | None, typer.Option(help="The folder with downloaded corpora (or TIEBENCH_DATA).")]
Force = Annotated[bool, typer.Option("--force", help="Replace what is there.")]
Jobs = Annotated[str, typer.Option(help="Runs at once: a number, auto, or packed (one step for all that are alike).")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="No progress.")]
Format = Annotated[str, typer.Option(help="text, markdown, csv, latex, html or json.")]

NO_LIST: list[Any] = []
RESULTS = Path("results")
SPINS = "20000"  # a waiting thread soon lets go of its core: as fast on a quiet machine, and far faster on a busy one


def reporting(command: Callable[..., None]) -> Callable[..., None]:
    """Every failure that a user can cause ends in a message and an exit code, never in a traceback."""

    @functools.wraps(command)
    def wrapped(*arguments: Any, **keywords: Any) -> None:
        try:
            command(*arguments, **keywords)
            sys.stdout.flush()
        except TiebenchError as error:
            fail(error.message, hint=error.hint, exit_code=error.exit_code)
        except KeyboardInterrupt as interrupt:
            fail(f"interrupted{f': {interrupt}' if interrupt.args else ''}", hint="the same command goes on", exit_code=130)
        except BrokenPipeError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        except OSError as error:
            place = f": {error.filename}" if error.filename else ""
            fail(f"{error.strerror or error}{place}", hint="check the disk and the permissions", exit_code=1)

    return wrapped


def fail(message: str, *, hint: str = "", exit_code: int) -> NoReturn:
    """Say what is wrong and what to do next on stderr, and end."""
    typer.echo(f"error: {message}", err=True)
    if hint:
        typer.echo(f"hint: {hint}", err=True)
    raise typer.Exit(exit_code)


def show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"tiebench {tiebench.__version__}")
        raise typer.Exit


@app.callback()
def start(
    version: Annotated[bool, typer.Option("--version", callback=show_version, is_eager=True, help="Print it.")] = False,
) -> None:
    """Should I tie my embeddings? Controlled experiments on weight tying in language models."""


@app.command()
@reporting
def train(
    config: Config,
    overrides: Overrides = NO_LIST,
    seeds: Seeds = NO_LIST,
    arms: ArmNames = NO_LIST,
    device: Device = "auto",
    results: Results = RESULTS,
    data_dir: DataDir = None,
    force: Force = False,
    jobs: Jobs = "1",
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Train every arm of an experiment at every seed, and write perplexities and parameter counts to the tables."""
    from tiebench.experiment.loading import load_experiment

    experiment = load_experiment(config, overrides=overrides)
    runs = experiment.plan_runs(arms=arms, seeds=seeds)
    settings = gather_settings(results, device=device, data_dir=data_dir, force=force)
    records = complete_runs(experiment, runs, settings=settings, jobs=jobs, quiet=quiet)
    print_runs(records, as_json=as_json)


@app.command()
@reporting
def compare(
    names: Annotated[list[str], typer.Argument(metavar="ARM ARM...", help="Arms, or folders of runs. The first is the baseline; of two, the untied one.")],
    config: Annotated[str | None, typer.Option(help="The experiment; what is missing of it is trained.")] = None,
    overrides: Overrides = NO_LIST,
    seeds: Seeds = NO_LIST,
    device: Device = "auto",
    results: Results = RESULTS,
    data_dir: DataDir = None,
    force: Force = False,
    jobs: Jobs = "auto",
    format: Format = "text",
    plot: Annotated[Path | None, typer.Option(help="Draw the learning curves: FILE.svg, .png or .pdf.")] = None,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Compare arms, seed by seed; what is missing is trained first. Without runs, the quickstart is trained."""
    from tiebench.results.selection import explain_nothing, select_arms

    format = "json" if as_json else format
    check_output(format, plot=plot)
    settings = gather_settings(results, device=device, data_dir=data_dir, force=force)
    if len(names) < 2:
        raise UsageError(f"only '{names[0]}' was named", "name at least two arms: tiebench compare tied untied")
    if config is None and (overrides or force):
        raise UsageError("--set and --force change what is trained", "say which experiment: --config CONFIG")
    if config is None and not settings.store.records():
        config = announce_quickstart(names, quiet=quiet)
    if config is None:
        groups = select_arms(names, store=settings.store)
        if not groups:
            raise explain_nothing(names, store=settings.store)
    else:
        groups = [train_arms(config, names, overrides, seeds, settings=settings, jobs=jobs, quiet=quiet)]
    if seeds:
        groups = [keep_seeds(group, seeds) for group in groups]
    print_comparisons(groups, settings=settings, format=format, plot=plot)


@app.command()
@reporting
def reproduce(
    paper: Annotated[str, typer.Argument(help="A paper (tiebench list claims), a file of claims, or all.")],
    only: Annotated[list[str], typer.Option("--only", help="Only this claim, table or figure; may be repeated.")] = NO_LIST,
    overrides: Overrides = NO_LIST,
    seeds: Seeds = NO_LIST,
    device: Device = "auto",
    results: Results = RESULTS,
    data_dir: DataDir = None,
    jobs: Jobs = "auto",
    no_train: Annotated[bool, typer.Option("--no-train", help="Judge what is there already.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what it would cost on this machine.")] = False,
    format: Format = "text",
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Check a paper's claims: run what is missing, then print published beside measured, with a verdict on each."""
    from tiebench.claims.papers import load_papers
    from tiebench.claims.verdicts import Evidence, judge_papers, plan_papers
    from tiebench.analysis.measuring import complete_findings, list_missing_studies

    check_output(format)
    settings = gather_settings(results, device=device, data_dir=data_dir, force=False)
    papers = load_papers(paper, only=only)
    plans = plan_papers(papers, only=only, seeds=seeds, overrides=overrides)
    evidence = Evidence(settings.store, plans, tuple(seeds))
    format = "json" if as_json else format
    if dry_run or not no_train:
        from tiebench.execution.costs import estimate_costs, select_countable

        studies = tuple(study[1:] for study in list_missing_studies(papers, evidence=evidence, only=only))
        costs = estimate_costs(list(plans.values()), settings=settings, studies=studies)
        if dry_run or (not quiet and any(cost.num_runs for cost in costs)):
            print_costs(costs, device=device, format=format, only_cost=dry_run)
        if dry_run:
            return
        for plan in select_countable(list(plans.values()), costs):
            complete_runs(plan.experiment, plan.runs, settings=settings, jobs=jobs, quiet=quiet)
        evidence.kept.clear()
    say = (lambda message: None) if quiet else functools.partial(typer.echo, err=True)
    complete_findings(papers, evidence=evidence, only=only, say=say, train=not no_train, data_dir=data_dir)
    print_claims(judge_papers(papers, evidence=evidence, only=only), papers, format=format)


@app.command()
@reporting
def check(
    config: Config,
    overrides: Overrides = NO_LIST,
    arms: ArmNames = NO_LIST,
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """Validate an experiment: build every arm without memory, count it, and show in what the arms differ."""
    from tiebench.experiment.loading import load_experiment
    from tiebench.comparison.pairing import difference_table
    from tiebench.execution.counting import inspect_arms

    experiment = load_experiment(config, overrides=overrides)
    runs = experiment.plan_runs(arms=arms, seeds=[experiment.seeds[0]])
    findings = inspect_arms(runs, data_dir=data_dir)
    differences = difference_table({run.arm: run.resolved for run in runs}) if len(runs) > 1 else []
    if as_json:
        rows = [{"path": path, **values} for path, values in differences]
        print_json({"experiment": experiment.name, "arms": [vars(found) for found in findings], "differences": rows})
        return
    from tiebench.reporting.tables import Column, Table

    print_findings(findings, title=experiment.name, caption=experiment.description)
    if differences:
        columns = (Column("what differs"), *(Column(run.arm) for run in runs))
        rows = tuple((path, *(show_value(values.get(run.arm)) for run in runs)) for path, values in differences)
        print_table(Table("arms", columns, rows))
    typer.echo(f"{len(experiment.arms)} arms x {len(experiment.seeds)} seeds. Nothing is wrong with {experiment.source}.")


@app.command("list")
@reporting
def list_things(
    kind: Annotated[str, typer.Argument(help="corpora, architectures, ties, configs, claims or runs.")] = "",
    results: Results = RESULTS,
    as_json: AsJson = False,
) -> None:
    """List what there is: corpora, architectures, ties, bundled configs, claims, runs."""
    from tiebench.cli.inventory import KINDS, take_inventory
    from tiebench.registry import did_you_mean

    if kind and kind not in KINDS:
        raise UsageError(f"there is no list of '{kind}'", did_you_mean(kind, KINDS))
    inventory = {name: take_inventory(name, results=results) for name in ([kind] if kind else KINDS)}
    if as_json:
        print_json(inventory)
        return
    for name, entries in inventory.items():
        typer.echo(f"{name}:" if entries else f"{name}: none")
        width = max((len(entry) for entry in entries), default=0)
        for entry, description in entries.items():
            typer.echo(f"  {entry.ljust(width)}  {description}")


@app.command()
@reporting
def show(
    run: Annotated[Path, typer.Argument(help="The folder of a run, such as results/quickstart/tied/seed-1.")],
    as_json: AsJson = False,
) -> None:
    """Show what one finished run found, what it cost and where its figures come from."""
    from tiebench.results.record import read_record

    record = read_record(find_run_folder(run))
    if as_json:
        print_json(record.model_dump(mode="json"))
        return
    print_runs([record], as_json=False)
    evaluations = {split: found.model_dump() for split, found in record.evaluations.items()}
    for name, block in (("spec", record.spec), ("evaluations", evaluations), ("best", record.best.model_dump()), ("cost", record.cost.model_dump()),
                        ("corpus", record.corpus.model_dump()), ("provenance", record.provenance.model_dump())):
        typer.echo(f"{name}:")
        for key, value in block.items():
            typer.echo(f"  {key}: {show_value(value)}")
    for warning in record.warnings:
        typer.echo(f"warning: {warning}")


@app.command()
@reporting
def sample(
    run: Annotated[Path, typer.Argument(help="The folder of a finished run with its weights.")],
    prompt: Annotated[str, typer.Option(help="The beginning of the text.")] = "",
    num_tokens: Annotated[int, typer.Option("--tokens", min=1, help="How many tokens.")] = 100,
    temperature: Annotated[float, typer.Option(min=0.0, help="0 takes the likeliest token.")] = 1.0,
    seed: Annotated[int, typer.Option(min=0, help="Equal seeds, equal text.")] = 1,
    as_json: AsJson = False,
) -> None:
    """Write text with a trained model."""
    from tiebench.execution.sampling import sample_text

    text = sample_text(find_run_folder(run), prompt=prompt, num_tokens=num_tokens, temperature=temperature, seed=seed)
    if as_json:
        print_json({"run": str(run), "prompt": prompt, "text": text})
    else:
        typer.echo(text)


@app.command()
@reporting
def bench(
    workloads: Annotated[list[str], typer.Argument(metavar="[WORKLOAD...]", help="Names such as lstm-200-ptb, or experiments.")] = NO_LIST,
    seconds: Annotated[float, typer.Option(min=0.1, help="How long to train, and to score, each arm.")] = 10.0,
    threads: Annotated[int | None, typer.Option(min=1, help="Threads on a CPU.")] = None,
    device: Device = "auto",
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """Measure how fast this machine trains and scores, beside how fast it multiplies matrices."""
    from tiebench.execution.bench import describe_setting, measure_workloads, tabulate_measurements

    announce = functools.partial(typer.echo, err=True)
    asked = measure_workloads(
        workloads, seconds=seconds, device=device, num_threads=threads, data_dir=data_dir, announce=announce
    )
    found = list(asked)
    if as_json:
        setting = describe_setting(found[0].device, num_threads=found[0].num_threads)
        print_json({**setting, "measurements": [measurement.figures() for measurement in found]})
    else:
        print_table(tabulate_measurements(found))


def main() -> None:
    """The entry point of the `tiebench` command."""
    os.environ.setdefault("GOMP_SPINCOUNT", SPINS)  # before torch is imported
    app()
