"""`tiebench quantise`: the embeddings of finished runs rounded to few bits, and what that costs."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tiebench.cli.options import NO_LIST, AsJson, DataDir, Quiet
from tiebench.cli.output import print_json, print_note, print_table
from tiebench.cli.workflow import find_run_folder
from tiebench.errors import UsageError

if TYPE_CHECKING:
    from tiebench.analysis.quantisation import QuantisedScore
    from tiebench.reporting.tables import Table


def quantise(
    runs: Annotated[list[Path], typer.Argument(metavar="RUN", help="Folders of finished runs with their weights.")],
    bits: Annotated[
        list[int], typer.Option(metavar="BITS", help="8, 6 or 4; may be repeated. Without it, all three.")
    ] = NO_LIST,
    data_dir: DataDir = None,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Round the embeddings of finished runs to few bits and score them on the validation split."""
    folders = [find_run_folder(run) for run in runs]
    from tiebench.analysis.quantisation import BITS, quantise_run

    if odd := [number for number in bits if number not in BITS]:
        raise UsageError(f"--bits {odd[0]} is not supported", f"choose {', '.join(map(str, BITS))}, or several")
    chosen = list(dict.fromkeys(bits)) or list(BITS)
    say = (lambda message: None) if quiet else print_note
    found = [score for folder in folders for score in quantise_run(folder, bits=chosen, data_dir=data_dir, say=say)]
    if as_json:
        print_json([score.model_dump(mode="json") for score in found])
        return
    print_table(quantised_table(found))


def quantised_table(found: "list[QuantisedScore]") -> "Table":
    """A row for each run as trained and for each rounding of it. `found` is not empty."""
    from tiebench.reporting.tables import Column, Table

    several = len({score.experiment for score in found}) > 1
    columns = (
        Column("run"),
        Column("rounded"),
        Column("bits", "count"),
        Column("bytes", "count"),
        Column("valid", "number"),
        Column("change in nats", "nats"),
    )
    rows = tuple(
        (
            f"{score.experiment}/{score.arm}/{score.seed}" if several else f"{score.arm}/{score.seed}",
            score.embedding,
            score.bits,
            score.num_bytes,
            score.perplexity,
            None if score.bits is None else score,
        )
        for score in found
    )
    caption = (
        "Perplexity on the validation split (the test split is scored once, for the record). Each row of a matrix is "
        "rounded symmetrically around zero to its own grid. Bytes are those of all embedding matrices of the run, with "
        "a float32 scale for each rounded row; the change is per token, with 95 % intervals over blocks of the text."
    )
    title = "quantised embeddings" if several else f"{found[0].experiment}: quantised embeddings"
    return Table(title, columns, rows, caption=caption, num_keys=2)
