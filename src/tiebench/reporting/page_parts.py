"""Parts of an HTML page: text, tables that sort, figures with their chart. Whatever comes from records is escaped."""

import html
import json
import re
from collections.abc import Iterable, Mapping
from typing import Any

from tiebench.reporting.escaping import escape
from tiebench.reporting.render import cell_figures, format_cell
from tiebench.reporting.tables import Column, Table, drop_empty_columns

LEADING_NUMBER = re.compile(r"[<>\[]?\s*([-+]?\d[\d,]*(?:\.\d+)?)")
LONG_CELL = 40  # characters, from which a column gets room to break its lines
ZOOM_HINT = "Hover for figures; drag to move, Alt and the wheel to zoom, double-click to go back."


def escape_html(text: str) -> str:
    """Text for between tags and for quoted attributes; control characters are written out."""
    return html.escape(escape(text), quote=True)


def embed_json(content: Any) -> str:
    """JSON for a script element: nothing in it ends the element. Raises ValueError for NaN."""
    text = json.dumps(content, sort_keys=True, allow_nan=False, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def make_anchor(name: str) -> str:
    """An id out of any name: letters, digits and dashes; other characters by their number, so that none collide."""
    return re.sub(r"[^A-Za-z0-9-]", lambda sign: f"_{ord(sign[0]):x}", name)


def build_table(table: Table) -> str:
    """The table in a region that scrolls sideways, its title as caption and its notes below; every heading sorts."""
    table = drop_empty_columns(table) if table.rows else table
    rows = "\n".join(_build_row(row, table) for row in table.rows)
    headings = "".join(_build_heading(column, place, table) for place, column in enumerate(table.columns))
    caption = escape_html(table.title)
    return (
        f'<div class="scroll" tabindex="0" role="region" aria-label="{caption}">\n'
        f'<table class="sortable"><caption>{caption}</caption>\n<thead><tr>{headings}</tr></thead>\n'
        f"<tbody>\n{rows}\n</tbody></table></div>\n{build_notes(table.notes)}"
    )


def build_notes(notes: Iterable[str]) -> str:
    """A list of remarks; nothing where there are none."""
    items = "".join(f"<li>{escape_html(note)}</li>" for note in notes)
    return f'<ul class="notes">{items}</ul>' if items else ""


def build_figure(chart: Mapping[str, Any], *, title: str, caption: str, has_zoom: bool = False) -> str:
    """A figure with its chart, a Vega-Lite specification that the page's program draws.

    The specification's `description` is what a screen reader says of the chart.
    """
    hint = f' <span class="hint">{ZOOM_HINT}</span>' if has_zoom else ""
    return (
        f'<h3>{escape_html(title)}</h3>\n<figure class="with-chart" aria-label="{escape_html(title)}">\n'
        f"<figcaption>{escape_html(caption)}{hint}</figcaption>\n"
        f'<div class="chart"></div>\n<script type="application/json">{embed_json(chart)}</script>\n</figure>'
    )


def build_details(summary: str, content: str) -> str:
    """What is read on demand."""
    return f"<details><summary>{escape_html(summary)}</summary>\n{content}\n</details>"


def _build_heading(column: Column, place: int, table: Table) -> str:
    kind = "" if column.kind == "text" else ' class="number"'
    if column.kind == "text" and any(len(str(row[place])) > LONG_CELL for row in table.rows):
        kind = ' class="wide"'
    return f'<th scope="col"{kind}><button type="button">{escape_html(column.name)}</button></th>'


def _build_row(row: tuple[Any, ...], table: Table) -> str:
    cells = []
    for place, (cell, column) in enumerate(zip(row, table.columns, strict=True)):
        tag = 'th scope="row"' if place < table.num_keys else "td"
        kind = "" if column.kind == "text" else ' class="number"'
        value, text = escape_html(_find_sort_value(cell, column)), escape_html(format_cell(cell, column))
        cells.append(f'<{tag}{kind} data-value="{value}">{text}</{tag[:2]}>')
    return f"<tr>{''.join(cells)}</tr>"


def _find_sort_value(cell: Any, column: Column) -> str:
    """What a row is sorted by: a number in full precision, or the one that a text begins with; empty where missing."""
    if cell is None:
        return ""
    if column.kind != "text":
        value = next(iter(cell_figures(cell, column).values()))
        return "" if value is None else repr(value)
    number = LEADING_NUMBER.match(str(cell))
    return number[1].replace(",", "") if number else str(cell)
