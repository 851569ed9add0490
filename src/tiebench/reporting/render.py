"""One table in six formats: text, Markdown, LaTeX and HTML for people; CSV and JSON, with every digit, for programs."""

import csv
import html
import io
import json
from collections.abc import Callable
from typing import Any, Literal

from tiebench.comparison.captions import format_p
from tiebench.errors import UsageError, did_you_mean
from tiebench.reporting.escaping import escape_csv, escape_json, escape_markdown, escape_table
from tiebench.reporting.tables import Column, Table, drop_empty_columns

MISSING = "–"
WIDTH = 120
_GAP = 2


def render_table(table: Table, *, format: str = "text", width: int = WIDTH, colour: bool = False) -> str:
    """The table as a string that ends in one newline. `width` and `colour` are for text; the caller knows them.

    Raises UsageError for an unknown format.
    """
    check_format(format)
    if format == "text" and table.rows:
        table = drop_empty_columns(table)
    table = table if format == "json" else escape_table(table)
    text = _render_text(table, width=width, colour=colour) if format == "text" else _RENDERERS[format](table)
    return text.rstrip("\n") + "\n"


def check_format(format: str) -> None:
    """Raises UsageError for an unknown format; worth knowing before anything is trained."""
    if format not in FORMATS:
        raise UsageError(f"unknown table format '{format}'", did_you_mean(format, FORMATS))


def format_cell(cell: Any, column: Column) -> str:
    """A cell as a person reads it: `4,653,200`, `138.7 ± 2.1 (3)`, `-4.1 % [-5.0, -3.2]`, a dash when missing."""
    return MISSING if cell is None else _CELL_TEXTS[column.kind](cell)


def format_number(value: float) -> str:
    """More decimals for smaller numbers: 52,310; 138.7; 45.21; 1.437."""
    size = abs(value)
    decimals = 0 if size >= 10_000 else 1 if size >= 100 else 2 if size >= 10 else 3
    return f"{value:,.{decimals}f}"


def cell_figures(cell: Any, column: Column) -> dict[str, Any]:
    """A cell as a program reads it: column name to plain value, in full precision; missing is None."""
    name = column.name.lower().replace("/", "_per_").replace(" ", "_")
    if column.kind == "spread":
        return {name: cell and cell.mean, f"{name}_sd": cell and cell.deviation, f"{name}_n": cell and cell.num_seeds}
    if column.kind == "change":
        low, high = (cell and cell.percent_interval) or (None, None)
        percent = f"{name}_percent"
        return {percent: cell and cell.percent, f"{percent}_low": low, f"{percent}_high": high}
    if column.kind in ("nats", "points"):
        return {name: cell and cell.difference, f"{name}_low": cell and cell.low, f"{name}_high": cell and cell.high}
    return {name: cell}


def _render_text(table: Table, *, width: int, colour: bool) -> str:
    """Drawn by rich; a table that is too wide is cut into pieces, one below the other, and no cell is cut."""
    from rich.console import Console

    drawn = io.StringIO()
    console = Console(file=drawn, width=width, force_terminal=colour, no_color=not colour, highlight=False)
    console.print(table.title, style="bold", markup=False, end="\n\n")
    cells = [_texts(row, table) for row in table.rows]
    for places in _fit_columns(table, cells, width=width):
        console.print(_draw_piece(table, cells, places))
        console.print()
    for line in (table.caption, *table.notes):
        if line:
            console.print(line, markup=False)
    lines = drawn.getvalue().splitlines()
    return "\n".join(line.rstrip() for line in lines)


def _fit_columns(table: Table, cells: list[list[str]], *, width: int) -> list[list[int]]:
    """The places of the columns of each piece; the key columns stand in every one, and no cell is cut."""
    widths = [max(map(measure_cell, column)) + _GAP for column in zip(_headings(table), *cells, strict=True)]
    num_keys = table.num_keys
    keys = list(range(num_keys))
    pieces = [list(keys)]
    for place in range(num_keys, len(widths)):
        if len(pieces[-1]) > num_keys and sum(widths[i] for i in (*pieces[-1], place)) - _GAP > width:
            pieces.append(list(keys))
        pieces[-1].append(place)
    return pieces


def measure_cell(text: str) -> int:
    """The width of a cell in characters; it may have several lines."""
    return max(map(len, text.split("\n")))


def _draw_piece(table: Table, cells: list[list[str]], places: list[int]) -> Any:
    from rich import box
    from rich.table import Table as RichTable
    from rich.text import Text

    drawn = RichTable(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, _GAP - 1, 0, 0), show_edge=False)
    for place in places:
        column = table.columns[place]
        is_key = place < table.num_keys
        drawn.add_column(Text(column.name), justify=_side(column), overflow="fold", no_wrap=is_key)
    for row in cells:
        drawn.add_row(*(Text(row[place]) for place in places))
    return drawn


def _render_markdown(table: Table) -> str:
    grid = _grid(table, "pipe", [escape_markdown(cell) for cell in _headings(table)], escape=escape_markdown)
    notes = "\n".join(f"- {escape_markdown(note)}" for note in table.notes)
    paragraphs = [table.title and f"**{escape_markdown(table.title)}**", escape_markdown(table.caption), grid, notes]
    return "\n\n".join(part for part in paragraphs if part)


def _render_latex(table: Table) -> str:
    """A float for a document that loads booktabs; tabulate escapes the cells, `_escape_latex` the rest."""
    grid = _grid(table, "latex_booktabs", _headings(table), escape=str)
    caption = _escape_latex(f"{table.title}. {table.caption}".strip())
    notes = [r"\par\footnotesize " + _escape_latex(note) for note in table.notes]
    opening = [r"% needs \usepackage{booktabs}", r"\begin{table}", r"\centering", rf"\caption{{{caption}}}"]
    return "\n".join([*opening, _typeset(grid), *notes, r"\end{table}"])


def _render_html(table: Table) -> str:
    grid = _grid(table, "html", _headings(table), escape=str)
    caption = f"<caption>{html.escape(f'{table.title}. {table.caption}'.strip())}</caption>"
    notes = [f"<p>{html.escape(note)}</p>" for note in table.notes]
    return "\n".join([grid.replace("<table>", f"<table>\n{caption}", 1), *notes])


def _render_csv(table: Table) -> str:
    figures = _figures(table)
    names = [name for column in table.columns for name in cell_figures(None, column)]
    stream = io.StringIO()
    writer = csv.DictWriter(stream, names, lineterminator="\n")
    writer.writeheader()
    writer.writerows(map(escape_csv, figures))
    return stream.getvalue()


def _render_json(table: Table) -> str:
    content = {"title": table.title, "caption": table.caption, "rows": _figures(table), "notes": list(table.notes)}
    return escape_json(json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False))


def _grid(table: Table, style: str, headings: list[str], *, escape: Callable[[str], str]) -> str:
    from tabulate import tabulate

    rows = [[escape(text) for text in _texts(row, table)] for row in table.rows]
    sides = [_side(column) for column in table.columns]
    return tabulate(rows, headings, tablefmt=style, colalign=sides if rows else None, disable_numparse=True)


def _headings(table: Table) -> list[str]:
    return [column.name for column in table.columns]


def _texts(row: tuple[Any, ...], table: Table) -> list[str]:
    return [format_cell(cell, column) for cell, column in zip(row, table.columns, strict=True)]


def _figures(table: Table) -> list[dict[str, Any]]:
    """One dict per row; cells that spread over several figures are merged in."""
    found = []
    for row in table.rows:
        cells = [cell_figures(cell, column) for cell, column in zip(row, table.columns, strict=True)]
        found.append({name: value for figures in cells for name, value in figures.items()})
    return found


def _side(column: Column) -> Literal["left", "right"]:
    return "left" if column.kind == "text" else "right"


def _escape_latex(text: str) -> str:
    return _typeset(text.translate(_LATEX))


def _typeset(text: str) -> str:
    return text.replace("±", r"$\pm$").replace(MISSING, "--")


_LATEX = str.maketrans(
    {sign: "\\" + sign for sign in "&%$#_{}"}
    | {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "<": "$<$", ">": "$>$"}
)


def _spread_text(spread: Any) -> str:
    mean = format_number(spread.mean)
    if spread.deviation is None:
        return mean
    decimals = len(mean.partition(".")[2])
    return f"{mean} ± {spread.deviation:,.{decimals}f} ({spread.num_seeds})"


def _change_text(difference: Any) -> str:
    decimals = 1 if abs(difference.percent) >= 0.1 else 2
    text = f"{difference.percent:+.{decimals}f} %"
    if difference.percent_interval is None:
        return text
    low, high = difference.percent_interval
    return f"{text} [{low:+.{decimals}f}, {high:+.{decimals}f}]"


def _nats_text(found: Any) -> str:
    """A difference in nats and its interval."""
    text = f"{found.difference:+.4f}"
    return text if found.low is None else f"{text} [{found.low:+.4f}, {found.high:+.4f}]"


def _points_text(found: Any) -> str:
    """A difference in points of 100 and its interval."""
    return f"{found.difference:+.2f} [{found.low:+.2f}, {found.high:+.2f}]"


_CELL_TEXTS: dict[str, Callable[[Any], str]] = {
    "text": str,
    "count": "{:,}".format,
    "number": format_number,
    "signed": "{:+.4f}".format,
    "p": lambda p: format_p(p).removeprefix("p ").removeprefix("= "),
    "spread": _spread_text,
    "change": _change_text,
    "nats": _nats_text,
    "points": _points_text,
}

_RENDERERS: dict[str, Callable[[Table], str]] = {
    "markdown": _render_markdown,
    "latex": _render_latex,
    "html": _render_html,
    "csv": _render_csv,
    "json": _render_json,
}

FORMATS = ("text", *_RENDERERS)
