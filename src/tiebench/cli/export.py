"""`tiebench export`: write a trained model as a folder that other libraries read."""

from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from tiebench.cli.output import print_line, print_note
from tiebench.cli.workflow import find_run_folder
from tiebench.errors import UsageError, did_you_mean


def export(
    run: Annotated[Path, typer.Argument(help="The folder of a finished run with its weights.")],
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="The folder to write.")],
    format: Annotated[
        str, typer.Option(metavar="FORMAT", help="hf: what from_pretrained of transformers reads.")
    ] = "hf",
    force: Annotated[bool, typer.Option("--force", help="Replace a model that was exported to DIR before.")] = False,
) -> None:
    """Write a trained model, its tokenizer and its figures as a folder that other libraries read."""
    if format != "hf":
        raise UsageError(f"--format {format} is not known", did_you_mean(format, ["hf"]))
    found = find_run_folder(run)
    from tiebench.execution.exporting import export_run
    from tiebench.models.hugging_face_config import list_dropout_unsaid
    from tiebench.reporting.model_card import write_model_card
    from tiebench.results.record import read_record

    unsaid = list_dropout_unsaid(read_record(found).spec)
    record = export_run(found, to=folder, write_card=partial(write_model_card, unsaid=unsaid), force=force)
    if unsaid:
        print_note(f"without a key in this format, and without effect outside of training: {', '.join(unsaid)}")
    kind = f"{record.spec.architecture.type}, {record.spec.tie.type}"
    print_line(f"wrote {folder}: {kind}, {record.parameters.total:,} parameters")
