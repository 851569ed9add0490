"""The command line: one file per command; what is heavy is imported by the command itself."""

import os
from typing import Annotated

import typer

import tiebench
from tiebench.cli.allocator import tune_allocator
from tiebench.cli.audit import audit
from tiebench.cli.bench import bench
from tiebench.cli.check import check
from tiebench.cli.compare import compare
from tiebench.cli.export import export
from tiebench.cli.failures import keep_streams_open, report_failures
from tiebench.cli.grid import grid
from tiebench.cli.inspect_ import inspect_embeddings
from tiebench.cli.list_ import list_things
from tiebench.cli.neighbours import neighbours
from tiebench.cli.quantise import quantise
from tiebench.cli.report import report
from tiebench.cli.reproduce import reproduce
from tiebench.cli.sample import sample
from tiebench.cli.schema import schema
from tiebench.cli.show import show
from tiebench.cli.train import train
from tiebench.cli.translate import translate
from tiebench.cli.watch import watch
from tiebench.execution.launch import find_launch

app = typer.Typer(
    help="Should I tie my embeddings? Controlled experiments on weight tying in language models.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)
SPINS = "20000"  # a waiting thread soon frees its core: as fast on a quiet machine, far faster on a busy one

COMMAND_NAMES = {list_things: "list", inspect_embeddings: "inspect"}  # where the name is one of Python's own

for command in (
    train,
    watch,
    compare,
    grid,
    report,
    reproduce,
    check,
    list_things,
    show,
    sample,
    translate,
    neighbours,
    inspect_embeddings,
    quantise,
    export,
    audit,
    bench,
    schema,
):
    app.command(COMMAND_NAMES.get(command, command.__name__))(report_failures(command))


def show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"tiebench {tiebench.__version__}")
        raise typer.Exit


@app.callback()
def start(
    version: Annotated[
        bool, typer.Option("--version", callback=show_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Should I tie my embeddings? Controlled experiments on weight tying in language models."""


def main() -> None:
    """The entry point of the `tiebench` command."""
    keep_streams_open()
    os.environ.setdefault("PYTHONSAFEPATH", "1")  # so that started processes import no module of the working directory
    os.environ.setdefault("GOMP_SPINCOUNT", SPINS)  # before torch is imported
    tune_allocator()
    launch = find_launch()
    if launch is None:
        app()
        return
    from tiebench.execution.parallel_runs import follow, release

    if launch.rank:
        follow()
    else:
        try:
            app()
        finally:
            release()
