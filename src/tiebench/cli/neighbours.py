"""`tiebench neighbours`: which words are alike in the embeddings of a run."""

from pathlib import Path
from typing import Annotated

import typer

from tiebench.cli.options import AsJson
from tiebench.cli.output import print_json, print_table
from tiebench.cli.workflow import find_run_folder

SPACE = "Ġ"  # as byte pairs write it


def neighbours(
    run: Annotated[Path, typer.Argument(help="The folder of a finished run with its weights.")],
    words: Annotated[list[str], typer.Argument(metavar="WORD", help="Words of its training text, case included.")],
    top: Annotated[int, typer.Option(min=1, max=1000, help="How many neighbours.")] = 10,
    as_json: AsJson = False,
) -> None:
    """Show the words nearest to a word by cosine, in the input and the output embedding side by side."""
    from tiebench.analysis.neighbours import list_neighbours
    from tiebench.reporting.tables import Column, Table

    found = list_neighbours(find_run_folder(run), words, num_neighbours=top)
    if as_json:
        print_json([each.model_dump(mode="json") for each in found])
        return
    for each in found:
        columns = [part for name in each.nearest for part in (Column(name), Column("cosine", "number"))]
        rows = [
            tuple(cell for neighbour in row for cell in (neighbour.token, neighbour.cosine))
            for row in zip(*each.nearest.values(), strict=True)
        ]
        tokens = [each.word, *(neighbour.token for row in each.nearest.values() for neighbour in row)]
        marked = any(SPACE in token for token in tokens)
        caption = f"{SPACE} stands for the space before a word." if marked else ""
        print_table(Table(f"nearest to {each.word}", tuple(columns), tuple(rows), caption))
