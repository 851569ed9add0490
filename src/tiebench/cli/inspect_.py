"""`tiebench inspect`: what the trained embeddings of a run look like."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tiebench.cli.options import AsJson, DataDir
from tiebench.cli.output import print_json, print_note, print_table
from tiebench.cli.workflow import check_output, find_run_folder

if TYPE_CHECKING:
    from tiebench.analysis.inspection import Inspection
    from tiebench.reporting.tables import Table

MEANINGS = (
    "Partition is min Z / max Z over directions (Mu & Viswanath 2018), IsoScore is by Rudman et al. (2022): both are 1 "
    "where all directions are used alike, and near 0 where only one is. Rank is the effective rank (Roy & Vetterli "
    "2007), at most the width."
)


def inspect_embeddings(
    run: Annotated[Path, typer.Argument(help="The folder of a finished run with its weights.")],
    data_dir: DataDir = None,
    plot: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Draw norms and spectra: FILE.svg, .png or .pdf.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Measure the trained embeddings of a run: norms over frequency, isotropy, rank, input beside output."""
    from tiebench.analysis.inspection import inspect_run

    check_output("json" if as_json else "text", plot=plot)
    found = inspect_run(find_run_folder(run), data_dir=data_dir)
    if found.remark:
        print_note(found.remark)
    if as_json:
        print_json(found.model_dump(mode="json"))
    else:
        print_table(measures_table(found))
        if any(matrix.norms for matrix in found.matrices.values()):
            print_table(norms_table(found))
    if plot is not None:
        from tiebench.reporting.embedding_plot import plot_embeddings

        norms = {
            name: [(part.decade, part.mean, part.lower_quartile, part.upper_quartile) for part in matrix.norms]
            for name, matrix in found.matrices.items()
        }
        spectra = {name: matrix.singular_values for name, matrix in found.matrices.items()}
        title = f"{found.experiment}/{found.arm} seed {found.seed}"
        print_note(f"drew {plot_embeddings(norms, spectra, file=plot, title=title)}")


def measures_table(found: "Inspection") -> "Table":
    """A row for each embedding of the run: how long its rows are, how alike its directions, its rank."""
    from tiebench.reporting.tables import Column, Table

    columns = (
        Column("embedding"),
        Column("rows", "count"),
        Column("mean norm", "number"),
        Column("partition", "number"),
        Column("IsoScore", "number"),
        Column("rank", "number"),
        Column("width", "count"),
    )
    rows = tuple(
        (
            name,
            matrix.num_rows,
            matrix.mean_norm,
            matrix.partition_ratio,
            matrix.isoscore,
            matrix.effective_rank,
            matrix.width,
        )
        for name, matrix in found.matrices.items()
    )
    title = f"{found.experiment}/{found.arm} seed {found.seed}: trained embeddings"
    return Table(title, columns, rows, caption=MEANINGS, notes=tuple(_describe_rest(found)))


def norms_table(found: "Inspection") -> "Table":
    """A row for each decade of training counts: how many words, and the mean norm in each embedding."""
    from tiebench.comparison.frequency import name_decade
    from tiebench.reporting.tables import Column, Table

    columns = [
        Column("in training"),
        Column("words", "count"),
        *(Column(f"{name} norm", "number") for name in found.matrices),
    ]
    norms = zip(*(matrix.norms for matrix in found.matrices.values()), strict=True)
    rows = [(name_decade(same[0].decade), same[0].num_rows, *(part.mean for part in same)) for same in norms]
    return Table("mean norm of a row by how often its word stands in the training text", tuple(columns), tuple(rows))


def _describe_rest(found: "Inspection") -> list[str]:
    sentences = []
    if found.alike:
        cka, procrustes = found.alike["linear_cka"], found.alike["procrustes"]
        sentences.append(
            f"Input beside output: linear CKA {cka:.3f} (Kornblith et al. 2019; 1 is a turned and scaled copy), "
            f"Procrustes {procrustes:.3f} (what is left after centring, scaling and turning; 0 is a copy)."
        )
    if found.num_untrained:
        number = f"{found.num_untrained:,} row{'' if found.num_untrained == 1 else 's'}"
        sentences.append(f"Left out: {number} of words that never stand in the training text.")
    return sentences
