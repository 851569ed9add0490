import csv
import io
import json

import pytest

from tiebench.comparison.pairing import compare_arms
from tiebench.errors import UsageError
from tiebench.reporting.glossary import explain_column
from tiebench.reporting.render import FORMATS, format_cell, format_number, render_table
from tiebench.reporting.tables import Column, Table, comparison_table, runs_table, stack_comparisons


@pytest.fixture
def table(three_seeds):
    return comparison_table(compare_arms(three_seeds, token_nll=lambda record: None))


@pytest.fixture
def awkward():
    columns = (Column("arm"), Column("cost in $", "number"), Column("p", "p"))
    rows = (("50% | a_b & <c>", 1.5, None), ("plain", None, 0.25))
    return Table("R&D_1", columns, rows, caption="100 % of #1", notes=("a_b < c",))


def test_the_verdict_stands_near_the_name_and_roles_that_differ_below(table):
    names = [column.name for column in table.columns]
    assert names == ["arm", "test change", "p", "test", "valid", "parameters", "epoch"]
    roles = "untied 2,000,000 input, 2,000,000 output; tied 2,000,000 shared"
    assert f"Parameters in the roles that differ: {roles}." in table.notes
    assert "Train perplexity: untied 38.0, tied 38.0." in table.notes
    assert table.notes[-1].startswith("tied lowers test perplexity by 3.6 % (")


def test_the_epoch_of_the_scored_checkpoint_is_shown(three_seeds, make_record):
    early = make_record("tied", 3, test=110.9, changes=[("checkpoint.epoch", 6.0)])
    mixed = three_seeds | {"tied": [*three_seeds["tied"][:2], early]}
    table = comparison_table(compare_arms(mixed, token_nll=lambda record: None))
    assert [row[-1] for row in table.rows] == ["13", "6 to 13"]
    runs = runs_table([record for found in mixed.values() for record in found])
    place = [column.name for column in runs.columns].index("epoch")
    assert [row[place] for row in runs.rows] == ["13", "6 to 13"]


def test_several_experiments_stand_under_one_heading_each_named(three_seeds, make_record):
    other = {arm: [make_record(arm, seed, changes=[("experiment", "other")]) for seed in (1, 2)] for arm in three_seeds}
    comparisons = [compare_arms(arms, token_nll=lambda record: None) for arms in (three_seeds, other)]
    rows = list(csv.DictReader(io.StringIO(render_table(stack_comparisons(comparisons), format="csv"))))
    names = ["ptb-lstm-small", "other"]
    assert [(row["experiment"], row["arm"]) for row in rows] == [
        (name, arm) for name in names for arm in ("untied", "tied")
    ]
    assert float(rows[1]["test_change_percent"]) == comparisons[0].contrasts[0].headline.percent


def test_text_is_what_a_person_reads(table):
    text = render_table(table, width=200)
    row = next(line for line in text.splitlines() if line.startswith("tied"))
    assert row.split("  ")[0] == "tied"
    assert "2,653,200" in row and "110.4 ± 0.5 (3)" in row and "-3.6 % [-4.5, -2.6]" in row and "< 0.001" in row
    untied = next(line for line in text.splitlines() if line.startswith("untied"))
    assert untied.split()[1:3] == ["–", "–"], "what is missing is a dash"
    assert "\x1b" not in text
    assert "\x1b" in render_table(table, colour=True)


@pytest.mark.parametrize("width", [60, 80, 120])
def test_a_narrow_terminal_cuts_no_cell(table, width):
    lines = render_table(table, width=width).splitlines()
    assert max(map(len, lines)) <= width
    for row in table.rows:
        for cell, column in zip(row, table.columns, strict=True):
            assert any(format_cell(cell, column) in line for line in lines)


def test_csv_holds_every_digit_and_parses_back(table, three_seeds):
    untied, tied = csv.DictReader(io.StringIO(render_table(table, format="csv")))
    expected = compare_arms(three_seeds, token_nll=lambda record: None)
    assert float(tied["test"]) == expected.arms[1].perplexity["test"].mean
    assert float(tied["test_change_percent_low"]) == expected.contrasts[0].differences["test"].percent_interval[0]
    assert untied["test_change_percent"] == untied["p"] == "", "what is missing is empty"


def test_json_parses_and_missing_is_null(table):
    content = json.loads(render_table(table, format="json"))
    untied, tied = content["rows"]
    assert untied["p"] is None and untied["test_change_percent_low"] is None
    assert tied["parameters"] == 2_653_200 and tied["test_n"] == 3
    assert content["caption"] == table.caption and content["notes"] == list(table.notes)


def test_latex_uses_booktabs_and_escapes(table, awkward):
    latex = render_table(awkward, format="latex")
    for part in (r"\toprule", r"\midrule", r"\bottomrule", r"\begin{tabular}{lrr}", r"\end{table}"):
        assert part in latex
    assert r"50\% | a\_b \& " in latex
    assert r"\caption{R\&D\_1. 100 \% of \#1}" in latex
    assert r"a\_b $<$ c" in latex
    assert r"cost in \$" in latex
    assert "--" in latex and "–" not in latex
    assert r"$\pm$" in render_table(table, format="latex")


def test_html_escapes(awkward):
    page = render_table(awkward, format="html")
    assert "50% | a_b &amp; &lt;c&gt;" in page
    assert "<caption>R&amp;D_1. 100 % of #1</caption>" in page


def test_a_bar_stays_inside_its_markdown_cell(awkward):
    rows = [line for line in render_table(awkward, format="markdown").splitlines() if line.startswith("|")]
    assert {line.replace(r"\|", "").count("|") for line in rows} == {4}


@pytest.mark.parametrize("format", FORMATS)
def test_every_format_draws_a_table_without_rows(format):
    text = render_table(runs_table([]), format=format)
    assert text.endswith("\n") and not text.endswith("\n\n")


def test_an_unknown_format_is_answered(table):
    with pytest.raises(UsageError, match="did you mean 'markdown'"):
        render_table(table, format="markdwon")


@pytest.mark.parametrize(
    ("value", "text"), [(52_310.4, "52,310"), (138.72, "138.7"), (45.214, "45.21"), (1.4371, "1.437")]
)
def test_smaller_numbers_have_more_decimals(value, text):
    assert format_number(value) == text


def test_runs_have_a_row_per_arm(three_seeds):
    records = [record for found in three_seeds.values() for record in found]
    untied, tied = csv.DictReader(io.StringIO(render_table(runs_table(records), format="csv")))
    assert (untied["arm"], untied["seeds"], tied["arm"]) == ("untied", "3", "tied")
    assert [tied[role] for role in ("input", "output", "shared", "parameters")] == ["0", "0", "2000000", "2653200"]
    assert float(tied["test_by_word"]) > float(tied["test"])
    assert tied["bits_per_byte"] == "", "a lossy vocabulary has none"


@pytest.mark.parametrize(("kind", "shown"), [("words", True), ("bpe", False), ("bytes", False)])
def test_perplexity_by_word_stands_only_where_tokens_are_words(kind, shown, make_record):
    records = [make_record("tied", seed, changes=[("vocabulary.type", kind)]) for seed in (1, 2)]
    assert ("test by word" in render_table(runs_table(records), width=300)) == shown


def test_a_figure_that_one_seed_lacks_is_missing(make_record):
    records = [make_record("tied", 1), make_record("tied", 2, training=None)]
    (row,) = csv.DictReader(io.StringIO(render_table(runs_table(records), format="csv")))
    assert row["train"] == ""
    assert float(row["valid"]) == pytest.approx(120.7)


def test_a_change_in_bleu_is_explained_in_points_and_not_in_nats():
    told = explain_column("BLEU change")
    assert told is not None and "points of 100" in told and "nats" not in told
    assert explain_column("tied change") != told and explain_column("chrF") is not None
