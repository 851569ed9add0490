"""What comes from files, made harmless where it is shown: on a terminal, on a Markdown page, in a spreadsheet."""

import re
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tiebench.reporting.tables import Table

# All control characters but tab and newline, the marks that turn the direction of writing, and halves of characters.
COMMANDS = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
TAG = re.compile(r"<(?=[A-Za-z/!?])")
FORMULA = ("=", "+", "-", "@", "\t", "\r")
NUMBER = re.compile(r"[-+]?[\d.,]+(?:[eE][-+]?\d+)?")


def escape(text: str) -> str:
    r"""Text for a terminal: control characters are written out, such as `\x1b`; tabs and newlines stay."""
    return COMMANDS.sub(_write_out, text)


def escape_json(text: str) -> str:
    r"""A JSON text that says the same, but with `\u001b` where it had a control character."""
    return COMMANDS.sub(lambda match: f"\\u{ord(match[0]):04x}", text)


def escape_markdown(text: str) -> str:
    """Text for a Markdown page or a cell of its tables: no HTML, no new column, no new line."""
    return TAG.sub("&lt;", escape(text)).replace("|", r"\|").replace("\n", " ")


def escape_csv(row: Mapping[str, Any]) -> dict[str, Any]:
    """A row whose texts no spreadsheet takes for a formula: `=` and its like get an apostrophe before them."""
    return {name: _quote_formula(escape(cell)) if isinstance(cell, str) else cell for name, cell in row.items()}


def escape_table(table: "Table") -> "Table":
    """The table with every text in it escaped as for a terminal."""
    return replace(
        table,
        title=escape(table.title),
        columns=tuple(replace(column, name=escape(column.name)) for column in table.columns),
        rows=tuple(tuple(escape(cell) if isinstance(cell, str) else cell for cell in row) for row in table.rows),
        caption=escape(table.caption),
        notes=tuple(map(escape, table.notes)),
    )


def _quote_formula(text: str) -> str:
    return f"'{text}" if text.startswith(FORMULA) and not NUMBER.fullmatch(text) else text


def _write_out(match: re.Match[str]) -> str:
    number = ord(match[0])
    return f"\\x{number:02x}" if number < 0x100 else f"\\u{number:04x}"
