"""`tiebench list`: list what there is to choose from."""

from typing import Annotated

import typer

from tiebench.cli.options import RESULTS, AsJson, Results
from tiebench.cli.output import print_json
from tiebench.errors import UsageError
from tiebench.reporting.escaping import escape


def list_things(
    kind: Annotated[str, typer.Argument(help="corpora, architectures, ties, configs, claims or runs.")] = "",
    results: Results = RESULTS,
    as_json: AsJson = False,
) -> None:
    """List what there is: corpora, architectures, ties, bundled configs, claims, runs."""
    from tiebench.cli.inventory import KINDS, take_inventory
    from tiebench.errors import did_you_mean

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
            typer.echo(escape(f"  {entry.ljust(width)}  {description}"))
