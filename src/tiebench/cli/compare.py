"""`tiebench compare`: compare arms, seed by seed; missing runs are trained first."""

from pathlib import Path
from typing import Annotated

import typer

from tiebench.cli.options import (
    NO_LIST,
    RESULTS,
    AsJson,
    DataDir,
    Device,
    Force,
    Format,
    Jobs,
    Overrides,
    Quiet,
    Results,
    Seeds,
)
from tiebench.cli.output import print_comparisons
from tiebench.cli.workflow import announce_quickstart, check_output, choose_format, gather_settings, keep_seeds, train_arms
from tiebench.errors import UsageError


def compare(
    names: Annotated[
        list[str],
        typer.Argument(
            metavar="ARM ARM...", help="Arms, or folders of runs. The first is the baseline; of two, the untied one."
        ),
    ],
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

    format = choose_format(format, as_json=as_json)
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
