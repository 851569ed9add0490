"""The page of a grid: every cell in the table and in the picture, and none that says more than is decided."""

import csv
import io
import re
from xml.etree import ElementTree

import pytest

from tiebench.comparison.cells import compare_cells
from tiebench.experiment.grid import load_grid
from tiebench.reporting.grid_page import write_grid_page
from tiebench.reporting.grid_table import axes_table, describe_finding, grid_table
from tiebench.reporting.heat_map import BETTER, WORSE, choose_colour, choose_limit, draw_heat_map
from tiebench.reporting.render import render_table

TEXT = """\
name: ptb-grid
description: A grid <b>of</b> two by two.
corpus: ptb
training: {epochs: 13, batch_size: 20, window: 20, optimizer: {type: sgd, learning_rate: 1.0}}
seeds: [1, 2, 3]
arms:
  untied: {tie: false}
  tied: {tie: true}
grid:
  architecture:
    small: {type: lstm, layers: 1}
    large: {type: lstm, layers: 2}
  architecture.width: [200, 1_500]
"""
BETTER_BY = ((114.0, 115.0, 114.6), (110.0, 110.4, 110.9))
UNDECIDED = ((114.0, 112.0, 113.1), (112.0, 112.9, 112.3))


@pytest.fixture
def build(tmp_path, make_record):
    """A grid, its records and results: a cell that is better, one that is worse, one undecided, one not run."""

    def build(text=TEXT):
        (tmp_path / "ptb-grid.yaml").write_text(text, "utf-8")
        grid = load_grid(tmp_path / "ptb-grid.yaml")
        cells = [BETTER_BY, BETTER_BY[::-1], UNDECIDED, ((), ())]
        records = [
            [
                make_record(arm, seed, test=test)
                for arm, tests in zip(("untied", "tied"), cell, strict=True)
                for seed, test in enumerate(tests, start=1)
            ]
            for cell in cells
        ]
        return grid, compare_cells(grid, records, token_nll=lambda record: None), records

    return build


def test_the_finding_counts_what_is_decided_and_what_is_not(build):
    grid, results, _ = build()
    assert describe_finding(grid, results) == (
        "Of 3 cells, tied has lower bits per byte than untied in 1 (by 0.8 %) and higher ones in 1 (by 0.8 %); "
        "1 is not decided. 1 more is not run. "
        "Changes run from -0.8 % (small, width 200) to +0.8 % (small, width 1,500)."
    )
    assert describe_finding(grid, results[3:]) == "None of 1 cell can be compared yet."


def test_every_cell_has_a_row_that_fits_80_columns(build):
    grid, results, _ = build()
    text = render_table(grid_table(grid, results, brief=True), width=80)
    assert all(len(line) <= 80 for line in text.splitlines())
    rows = [line for line in text.splitlines() if line.startswith(("small", "large"))]
    patterns = (
        "small +200 .*% .* better",
        "small +1,500 .* worse",
        "large +200 .* undecided",
        "large +1,500 +– +0 of 6",
    )
    assert all(re.match(pattern, row) for pattern, row in zip(patterns, rows, strict=True)), rows
    notes = re.sub(r"\s+", " ", text)
    assert "not adjusted over the cells" in notes
    assert "cover how training varies (3 seeds per arm), not how the test text varies." in notes


def test_the_whole_table_has_every_figure(build):
    grid, results, _ = build()
    rows = list(csv.DictReader(io.StringIO(render_table(grid_table(grid, results), format="csv"))))
    assert [row["outcome"] for row in rows] == ["better", "worse", "undecided", "0 of 6 runs"]
    for row, result in zip(rows, results, strict=True):
        found = result.headline
        assert row["change_percent"] == (str(found.percent) if found else "")
        assert row["p"] == (str(found.adjusted_p) if found else "")
        means = [str(summary.bits_per_byte["test"].mean) for summary in result.arms] or ["", ""]
        assert [row["untied_bits_per_byte"], row["tied_bits_per_byte"]] == means


def test_each_value_counts_its_cells(build):
    grid, results, _ = build()
    assert [row[:2] + row[3:] for row in axes_table(grid, results).rows] == [
        ("architecture", "small", 1, 1, 0, 0),
        ("architecture", "large", 0, 0, 1, 1),
        ("width", "200", 1, 0, 1, 0),
        ("width", "1,500", 0, 1, 0, 1),
    ]


def list_texts(picture: str) -> list[str]:
    return [element.text or "" for element in ElementTree.fromstring(picture).iter("{http://www.w3.org/2000/svg}text")]


def test_the_picture_writes_each_change_and_marks_what_is_not_decided(build):
    grid, results, _ = build()
    picture = draw_heat_map(grid, results)
    texts = list_texts(picture)
    changes = [text for text in texts if text.endswith(" %") and len(text) < 8][:3]
    assert [float(text.removesuffix(" %").replace("\N{MINUS SIGN}", "-")) for text in changes] == [
        round(result.headline.percent, 1) for result in results[:3]
    ]
    assert [text for text in texts if text in ("better", "worse", "undecided", "not run")] == [
        "better",
        "worse",
        "undecided",
        "not run",
    ]
    assert picture.count('fill="url(#undecided)"') == 2, "one cell and the legend"
    assert {"small", "large", "200", "1,500", "width", "architecture"} <= set(texts)


@pytest.mark.parametrize("num_axes", [1, 2, 3, 4, 5])
def test_grids_of_any_number_of_axes_are_drawn(num_axes, tmp_path):
    keys = ["training.tokens", "architecture.layers", "architecture.width", "training.window", "training.batch_size"]
    lines = "".join(f"  {key}: [2, 4]\n" for key in keys[:num_axes])
    shared = "architecture: {type: lstm, layers: 1, width: 8}\n"
    (tmp_path / "any.yaml").write_text(TEXT[: TEXT.index("grid:")] + shared + "grid:\n" + lines, "utf-8")
    grid = load_grid(tmp_path / "any.yaml")
    results = compare_cells(grid, [[] for _ in grid.cells], token_nll=lambda record: None)
    assert list_texts(draw_heat_map(grid, results)).count("not run") == 2**num_axes


def test_colours_go_from_blue_over_white_to_red():
    assert choose_colour(0.0, limit=5.0) == "#f7f7f7"
    assert choose_colour(-5.0, limit=5.0) == "#{:02x}{:02x}{:02x}".format(*BETTER)
    assert choose_colour(50.0, limit=5.0) == "#{:02x}{:02x}{:02x}".format(*WORSE)


def test_the_scale_has_both_signs_alike_and_round_ends(build):
    _, results, _ = build()
    assert choose_limit(results) == 1.0 and choose_limit([]) == 0.5


def test_page_and_picture_are_written_and_escaped(build, tmp_path):
    grid, results, records = build()
    page, picture = write_grid_page(grid, results, records, folder=tmp_path)
    text = page.read_text("utf-8")
    assert page.name == "ptb-grid.md" and f"]({picture.name})" in text
    assert "A grid &lt;b>of&lt;/b> two by two." in text
    assert f"**{describe_finding(grid, results)}**" in text and text.count("| undecided") == 1
    assert "tiebench grid ptb-grid" in text and "commit `0123456789ab`" in text
    before = text, picture.read_bytes()
    write_grid_page(grid, results, records, folder=tmp_path)
    assert (page.read_text("utf-8"), picture.read_bytes()) == before
