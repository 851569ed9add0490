"""`tiebench list`: list what there is to choose from."""

import sys
from typing import Annotated

import typer

from tiebench.cli.completion import complete_kind, complete_name
from tiebench.cli.options import RESULTS, AsJson, Results
from tiebench.cli.output import print_json, print_line
from tiebench.cli.workflow import check_results
from tiebench.errors import UsageError
from tiebench.reporting.escaping import escape

MANY_RUNS = 20  # more get a line for each arm
LONGEST_NAME = 24  # longer ones stand above what is said of them


def list_things(
    kind: Annotated[
        str,
        typer.Argument(
            metavar="TYPE",
            help="corpora, architectures, ties, configs, claims or runs; or the parts of a file: vocabularies, "
            "blocks, optimizers, schedules or objectives.",
            autocompletion=complete_kind,
        ),
    ] = "",
    name: Annotated[
        str,
        typer.Argument(
            metavar="NAME", help="One entry of that list; shows all its keys.", autocompletion=complete_name
        ),
    ] = "",
    results: Results = RESULTS,
    as_json: AsJson = False,
) -> None:
    """List what there is to choose from; with TYPE and NAME, show the keys of one entry."""
    from tiebench.cli.inventory import LISTED, summarise_runs, take_inventory
    from tiebench.errors import did_you_mean
    from tiebench.experiment.documentation import BLOCKS

    if kind and kind not in LISTED and kind not in BLOCKS:
        raise UsageError(f"there is no list of '{kind}'", did_you_mean(kind, {**LISTED, **BLOCKS}))
    if name:
        print_one(kind, name, as_json=as_json)
        return
    check_results(results)
    inventory = {kind: take_inventory(kind, results=results) for kind in ([kind] if kind else LISTED)}
    if as_json:
        print_json(inventory)
        return
    num_runs = len(inventory.get("runs", ()))
    if num_runs > MANY_RUNS:
        inventory["runs"] = summarise_runs(results)
    for kind, entries in inventory.items():
        typer.echo(f"{kind}:" if entries else f"{kind}: none")
        print_entries(entries)
    if num_runs > MANY_RUNS:
        print_line(f"{num_runs} runs, a line for each arm; `tiebench list runs --json` has a line for each run")


def print_entries(entries: dict[str, str]) -> None:
    """A line each, the descriptions in a column; below their names on a terminal where these are long."""
    width = max((len(entry) for entry in entries), default=0)
    below = sys.stdout.isatty() and width > LONGEST_NAME
    for entry, description in entries.items():
        if below:
            print_line(f"  {entry}\n      {description}", indent=6)
        else:
            print_line(f"  {entry.ljust(width)}  {description}", indent=width + 4)


def print_one(kind: str, name: str, *, as_json: bool) -> None:
    """All keys of a block, or the text of a bundled file. Raises UsageError for an unknown name."""
    from tiebench.cli.inventory import FILES
    from tiebench.errors import did_you_mean
    from tiebench.experiment.documentation import BLOCKS, describe_block, list_keys

    if kind == "runs":
        raise UsageError(f"a run is shown by another command, not by `list runs {name}`", "tiebench show RUN")
    known = BLOCKS[kind] if kind in BLOCKS else FILES[kind]()
    if name not in known:
        raise UsageError(f"no '{name}' among the {kind}", did_you_mean(name, known))
    if kind in FILES:
        text = FILES[kind]()[name].read_text("utf-8")
        if as_json:
            print_json({"name": name, "text": text})
        else:
            typer.echo(escape(text.rstrip("\n")))
        return
    block = BLOCKS[kind][name]
    keys = list_keys(block)
    if as_json:
        print_json({"name": name, "description": describe_block(block), "keys": [vars(key) for key in keys]})
        return
    print_line(f"{name}: {describe_block(block)}\n", indent=0)
    width = max(len(key.name) for key in keys)
    for key in keys:
        default = "needed" if key.default is None else f"default {key.default}"
        print_line(f"  {key.name.ljust(width)}  {key.description}", indent=width + 4)
        print_line(f"  {' ' * width}  {key.values} ({default})", indent=width + 4)
