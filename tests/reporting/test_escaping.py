"""What comes from files is harmless where it is shown."""

import csv
import io
import json

import pytest

from tiebench.reporting.escaping import escape, escape_csv, escape_json, escape_markdown
from tiebench.reporting.render import FORMATS, render_table
from tiebench.reporting.tables import Column, Table

HOSTILE = "\x1b[31m<script>alert(1)</script>|\x9b\u202e\x07"


def test_what_commands_a_terminal_is_written_out():
    assert escape("a\x1b[31mb\x07\x9b\x7f") == r"a\x1b[31mb\x07\x9b\x7f"
    assert escape("\u202eevil\u2066") == r"\u202eevil\u2066"
    assert escape("tab\tline\nêµ–≈ 👩\u200d🔬") == "tab\tline\nêµ–≈ 👩\u200d🔬", "what is only text stays"
    assert escape("\ud800").encode("utf-8") == b"\\ud800"


def test_json_says_the_same_without_control_characters():
    text = json.dumps({"a": HOSTILE}, ensure_ascii=False)
    escaped = escape_json(text)
    assert json.loads(escaped) == {"a": HOSTILE} and "\x9b" not in escaped and "\x1b" not in escaped


def test_markdown_has_no_html_and_no_new_column():
    assert escape_markdown("<script>x</script> <!-- a | b\nc") == r"&lt;script>x&lt;/script> &lt;!-- a \| b c"
    assert escape_markdown("tied < untied, 3 > 2") == "tied < untied, 3 > 2"


@pytest.mark.parametrize("text", ["=cmd|'/c calc'!A0", "+1+cmd", "-cmd", "@SUM(1)", "\t=1"])
def test_a_formula_becomes_text(text):
    assert escape_csv({"a": text})["a"].startswith("'")


@pytest.mark.parametrize("cell", ["-3.2", "+1e-5", "word", "", 3, -2.5, None])
def test_numbers_and_words_stay(cell):
    assert escape_csv({"a": cell}) == {"a": cell}


@pytest.mark.parametrize("format", FORMATS)
def test_no_format_lets_it_through(format):
    table = Table(HOSTILE, (Column(HOSTILE), Column("b")), ((HOSTILE, "=1+1"),), caption=HOSTILE, notes=(HOSTILE,))
    text = render_table(table, format=format)
    assert not [sign for sign in text if (ord(sign) < 32 and sign not in "\n\t") or 0x7F <= ord(sign) < 0xA0]
    if format in ("markdown", "html"):
        assert "<script>" not in text
    if format == "csv":
        assert not [cell for row in csv.reader(io.StringIO(text)) for cell in row if cell.startswith("=")]
