"""`tiebench grid`: two arms compared at every combination of values; missing runs are trained first."""

from typing import TYPE_CHECKING, Annotated

import typer

from tiebench.cli.options import (
    NO_LIST,
    RESULTS,
    AsJson,
    Config,
    DataDir,
    Device,
    EngineName,
    Format,
    Jobs,
    Overrides,
    Quiet,
    Results,
    Seeds,
    Track,
    Wait,
)
from tiebench.cli.output import print_json, print_note, print_table
from tiebench.cli.workflow import check_output, choose_format, complete_runs, gather_settings, tune_experiment
from tiebench.errors import TiebenchError, UsageError

if TYPE_CHECKING:
    from tiebench.execution.settings import Settings
    from tiebench.experiment.grid import Cell, Grid
    from tiebench.results.record import Record


def grid(
    config: Config,
    overrides: Overrides = NO_LIST,
    seeds: Seeds = NO_LIST,
    device: Device = "auto",
    results: Results = RESULTS,
    data_dir: DataDir = None,
    no_train: Annotated[bool, typer.Option("--no-train", help="Compare finished runs; train none.")] = False,
    jobs: Jobs = "auto",
    engine: EngineName = None,
    wait: Wait = False,
    track: Track = NO_LIST,
    format: Format = "text",
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Compare two arms in every cell of a grid; missing runs are trained first. Writes a page with a heat map."""
    from tiebench.comparison.cells import compare_cells
    from tiebench.experiment.grid import load_grid
    from tiebench.reporting.grid_page import write_grid_page
    from tiebench.reporting.grid_table import grid_table

    format = choose_format(format, as_json=as_json)
    check_output(format)
    found = load_grid(config, overrides=overrides)
    settings = gather_settings(
        results, device=device, data_dir=data_dir, force=False, wait=wait, track=track, engine=engine
    )
    failures = [] if no_train else train_cells(found, seeds, settings=settings, jobs=jobs, quiet=quiet)
    records = [find_cell_records(cell, seeds, settings=settings) for cell in found.cells]
    store = settings.store
    compared = compare_cells(found, records, seeds=seeds, token_nll=store.token_nll, curve=store.curve)
    if format == "json":
        print_json([result.model_dump(mode="json") for result in compared])
    else:
        print_table(grid_table(found, compared, brief=format == "text"), format=format)
    if any(records) and not seeds:  # the page is about all seeds of the file
        written = write_grid_page(found, compared, records, folder=store.root)
        if not quiet:
            print_note(f"wrote {' and '.join(map(str, written))}, with all figures of each cell")
    if failures:
        raise failures[0]


def train_cells(grid: "Grid", seeds: list[int], *, settings: "Settings", jobs: str, quiet: bool) -> list[TiebenchError]:
    """Train missing runs, cell by cell. A cell that fails does not stop the others; the failures are returned.

    Raises UsageError, and TiebenchError for text that cannot be found, which would stop every cell.
    """
    from tiebench.corpora.opening import open_corpus

    pending = [
        cell
        for cell in grid.cells
        if len(find_cell_records(cell, seeds, settings=settings)) < len(cell.experiment.list_runs(seeds=seeds))
    ]
    if not quiet:
        print_note(f"{len(grid.cells) - len(pending)} of {len(grid.cells)} cells of {grid.name} are there already")
    runs = [run for cell in pending for run in cell.experiment.list_runs(seeds=seeds)]
    for corpus, near in dict.fromkeys((run.spec.corpus, run.folder) for run in runs):
        open_corpus(corpus, data_dir=settings.data_dir, near=near)
    failures = []
    for number, cell in enumerate(pending, start=1):
        if not quiet:
            print_note(f"cell {number} of {len(pending)}: {cell.experiment.name}")
        try:
            experiment = tune_experiment(cell.experiment, [], settings=settings, jobs=jobs, quiet=quiet)
            runs = experiment.list_runs(seeds=seeds)
            complete_runs(experiment, runs, settings=settings, jobs=jobs, quiet=quiet)
        except UsageError:
            raise
        except TiebenchError as error:
            print_note(f"{cell.experiment.name} failed: {error.message}")
            failures.append(error)
    return failures


def find_cell_records(cell: "Cell", seeds: list[int], *, settings: "Settings") -> list["Record"]:
    """The finished runs of a cell, at these seeds or at those of the file; of a tuned arm, with the values chosen."""
    from tiebench.execution.finished import list_finished
    from tiebench.execution.tuning import enter_choices, tune_arms

    experiment = tune_arms(cell.experiment, settings=settings)
    runs = [run for run in experiment.list_runs(seeds=seeds) if not run.is_untuned]
    found = [record for record in list_finished(runs, settings=settings) if record is not None]
    return enter_choices(found, experiment)
