"""How results are printed: tables and JSON on stdout, everything else on stderr."""

import json
import shutil
import sys
import textwrap
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from tiebench.errors import CheckFailed
from tiebench.reporting.escaping import escape, escape_json

if TYPE_CHECKING:
    from tiebench.claims.papers import PaperClaims
    from tiebench.claims.verdicts import ClaimResult
    from tiebench.comparison.pairing import Comparison
    from tiebench.execution.costs import CostEstimate
    from tiebench.execution.counting import ArmCount
    from tiebench.execution.settings import Settings
    from tiebench.results.record import Record

MAX_NAMED = 5
FAILURES = ("contradicted", "does not hold")


def print_comparisons(
    comparisons: Sequence["Comparison"],
    groups: Sequence[dict[str, list["Record"]]],
    *,
    settings: "Settings",
    format: str,
    plot: Path | None,
) -> None:
    """Comparisons of groups of arms; on the screen, what was decided comes last. CSV has one heading, and with several
    experiments a column that names them.
    """
    from tiebench.reporting.frequency_table import frequency_table, plot_by_frequency
    from tiebench.reporting.intervals import draw_intervals
    from tiebench.reporting.price_table import draw_prices, has_prices, price_table
    from tiebench.reporting.tables import comparison_table, list_answers, stack_comparisons
    from tiebench.reporting.translation_table import translation_table

    if format == "json":
        print_json([comparison.model_dump(mode="json") for comparison in comparisons])
    elif format == "csv" and len(comparisons) > 1:
        print_table(stack_comparisons(comparisons), format=format)
    else:
        for place, comparison in enumerate(comparisons):
            table, further, drawn, answers = comparison_table(comparison), [], "", ""
            if format != "csv":  # which has one heading
                further = [translation_table(comparison), frequency_table(comparison)]
                further += [price_table(comparison)] if has_prices(comparison) else []
            if format == "text":
                said = list_answers(comparison)
                table = replace(table, notes=table.notes[: -len(said)])
                drawn = escape("\n".join(draw_intervals(comparison, width=find_width())))
                answers = "\n".join(textwrap.fill(escape(answer), find_width()) for answer in said)
            tables = [render(each, format=format) for each in (table, *further) if each is not None]
            parts = [part.rstrip("\n") for part in (tables[0], drawn, *tables[1:], answers) if part]
            typer.echo(("\n" if place else "") + "\n\n".join(parts))
    if plot is not None:
        from tiebench.reporting.plots import plot_curves

        curves = {arm: [settings.store.curve(record) for record in records] for arm, records in groups[0].items()}
        beside = partial(draw_prices, comparison=comparisons[0]) if has_prices(comparisons[0]) else None
        file = plot_curves(curves, file=plot, title=comparisons[0].experiment, beside=beside)
        print_note(f"drew {file}")
        if any(contrast.by_frequency for contrast in comparisons[0].contrasts):
            beside = file.with_name(f"{file.stem}-by-frequency{file.suffix}")
            print_note(f"drew {plot_by_frequency(comparisons[0], file=beside)}")


def print_costs(costs: list["CostEstimate"], *, device: str, format: str, only_cost: bool) -> None:
    """What is still to do and how long it will take: the whole table, or on stderr its sums alone."""
    from tiebench.cli.costs_table import costs_table

    table = costs_table(costs, device=device)
    if only_cost:
        print_table(table, format=format)
    else:
        print_note("\n".join((table.caption, *table.notes)))


def print_claims(outcomes: list["ClaimResult"], papers: list["PaperClaims"], *, format: str) -> None:
    """The claims that were run and the verdicts by paper; raises CheckFailed when a claim is contradicted or a
    check does not hold."""
    from tiebench.reporting.claims_table import claims_table, figures_table, verdicts_table

    if format == "json":
        print_json([outcome.model_dump(mode="json") for outcome in outcomes])
    elif format == "csv":
        print_table(figures_table(outcomes), format=format)
    else:
        width = find_width() if format == "text" else None
        table = claims_table(outcomes, papers=papers, width=width)
        if table.rows or format != "text":
            print_table(table, format=format)
        else:
            print_line("\n".join((f"{table.title}\n", *table.notes, "")))
        print_table(verdicts_table(outcomes), format=format)
    failed = {verdict: [each.id for each in outcomes if each.verdict == verdict] for verdict in FAILURES}
    if any(failed.values()):
        hint = "the table shows by how much; --json has the notes on what is ambiguous"
        told = "; ".join(f"{verdict}: {_name_some(ids)}" for verdict, ids in failed.items() if ids)
        raise CheckFailed(told, hint)


def _name_some(ids: list[str]) -> str:
    more = len(ids) - MAX_NAMED
    return ", ".join(ids[:MAX_NAMED]) + (f" and {more} more" if more > 0 else "")


def print_runs(records: list["Record"], *, as_json: bool) -> None:
    from tiebench.reporting.tables import runs_table

    if as_json:
        print_json([record.model_dump(mode="json") for record in records])
    else:
        print_table(runs_table(records))


def print_counts(counts: Sequence["ArmCount"], *, title: str, caption: str, to_stderr: bool = False) -> None:
    """What was counted without training: a row for each arm."""
    from tiebench.reporting.tables import ROLES, Column, Table

    columns = [Column("arm"), *(Column(role, "count") for role in ROLES)]
    columns += [Column("MFLOP/token", "number"), Column("memory MiB", "number"), Column("steps", "count")]
    print_table(Table(title, tuple(columns), tuple(found.row() for found in counts), caption), to_stderr=to_stderr)


def print_table(table: Any, *, format: str = "text", to_stderr: bool = False) -> None:
    typer.echo(render(table, format=format, to_stderr=to_stderr), err=to_stderr)


def render(table: Any, *, format: str = "text", to_stderr: bool = False) -> str:
    """A table as it is to stand on this terminal, or in a format for programs and papers."""
    from tiebench.reporting.render import render_table

    colour = (sys.stderr if to_stderr else sys.stdout).isatty()
    return render_table(table, format=format, width=find_width(), colour=colour)


def print_line(text: str, *, to_stderr: bool = False, indent: int | None = None) -> None:
    """A sentence, or several lines of them; on a terminal no word is cut at its edge (see `wrap_line`)."""
    text = escape(text)
    if (sys.stderr if to_stderr else sys.stdout).isatty():
        text = "\n".join(wrap_line(line, indent=indent) for line in text.split("\n"))
    typer.echo(text, err=to_stderr)


def wrap_line(line: str, *, indent: int | None = None) -> str:
    """The line in pieces that fit the terminal, cut between words.

    Lines after the first are indented by two more characters than the first, or by `indent`.
    """
    if len(line) <= find_width():
        return line
    deep = len(line) - len(line.lstrip()) + 2 if indent is None else indent
    options = {"break_long_words": False, "break_on_hyphens": False, "subsequent_indent": " " * deep}
    return textwrap.fill(line, find_width(), **options)


def print_note(text: str) -> None:
    """Print something to know that is not a result."""
    print_line(text, to_stderr=True)


def print_json(content: Any) -> None:
    text = json.dumps(content, indent=2, ensure_ascii=False, default=lambda value: value.model_dump(mode="json"))
    typer.echo(escape_json(text))


def show_value(value: Any) -> str:
    """A value as YAML would have it; what is missing is a dash."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key}: {show_value(part)}" for key, part in value.items()) + "}"
    if value is None:
        return "–"
    return str(value).lower() if isinstance(value, bool) else str(value)


def find_width() -> int:
    """The terminal's width; wide enough for every table where there is none."""
    return shutil.get_terminal_size((160, 50)).columns


def format_duration(seconds: float) -> str:
    """`40 seconds`, `12 minutes`, `3.5 hours`."""
    if seconds < 90:
        return "1 second" if round(seconds) == 1 else f"{seconds:.0f} seconds"
    return f"{seconds / 60:.0f} minutes" if seconds < 5400 else f"{seconds / 3600:,.1f} hours"
