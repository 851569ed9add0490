"""`tiebench show`: show one finished run."""

from pathlib import Path
from typing import Annotated

import typer

from tiebench.cli.options import AsJson
from tiebench.cli.output import print_json, print_runs, show_value
from tiebench.cli.workflow import find_run_folder
from tiebench.reporting.escaping import escape


def show(
    run: Annotated[Path, typer.Argument(help="The folder of a run, such as results/quickstart/tied/seed-1.")],
    as_json: AsJson = False,
) -> None:
    """Show what one finished run found, what it cost and where its figures come from."""
    from tiebench.results.record import read_record
    from tiebench.results.trials import describe_choice, describe_trials

    record = read_record(find_run_folder(run))
    if as_json:
        print_json(record.model_dump(mode="json"))
        return
    print_runs([record], as_json=False)
    if record.tuned:
        typer.echo(escape(f"tuned by {describe_trials(record.tuned)}"))
        typer.echo(escape(f"  {describe_choice(record.arm, record.tuned)}"))
    evaluations = {split: found.model_dump() for split, found in record.evaluations.items()}
    for name, block in (
        ("spec", record.spec.model_dump(mode="json")),
        ("evaluations", evaluations),
        *([("translation", record.translation.model_dump())] if record.translation else []),
        ("checkpoint", record.checkpoint.model_dump()),
        ("usage", record.usage.model_dump()),
        ("corpus", record.corpus.model_dump()),
        ("provenance", record.provenance.model_dump()),
    ):
        typer.echo(f"{name}:")
        for key, value in block.items():
            typer.echo(escape(f"  {key}: {show_value(value)}"))
    for warning in record.warnings:
        typer.echo(escape(f"warning: {warning}"))
