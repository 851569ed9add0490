"""The page without a browser: what it says, that it is whole and safe, and that the same records make the same page."""

import json
import re
import runpy
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest
from test_tuning_plot import RESULT
from typer.testing import CliRunner

from tiebench.cli.app import app
from tiebench.reporting import report
from tiebench.reporting.glossary import explain_column
from tiebench.reporting.page_parts import build_table, embed_json, make_anchor
from tiebench.reporting.report import render_report
from tiebench.reporting.tables import Column, Table
from tiebench.results.curve import CurvePoint, write_curve
from tiebench.results.record import write_record
from tiebench.results.store import Store
from tiebench.results.trials import write_tuning

ROOT = Path(__file__).parents[2]
HOSTILE = "<script>alert(1)</script>"
VOID = {"meta", "br", "img", "link", "hr", "input"}


class Elements(HTMLParser):
    """Every element with its attributes, the texts of cells, and whether all that was opened is closed in order."""

    def __init__(self, page):
        super().__init__()
        self.found, self.open, self.cells = [], [], []
        self.feed(page)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.found.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] in ("td", "th"):
            self.cells.append(data)

    def list_tags(self, name):
        return [attributes for tag, attributes in self.found if tag == name]


def keep_run(store, record):
    folder = store.folder_of(record)
    folder.mkdir(parents=True)
    last = record.evaluations["valid"].perplexity + record.seed
    usage = {"epoch": 1.0, "seconds": 1.0, "learning_rate": 1.0}
    points = [(1000, 4.6), (5000, 1.5), (9000, 1.0)]
    curve = [CurvePoint(step=n, tokens=n * 400, valid_perplexity=last * factor, **usage) for n, factor in points]
    write_curve(curve, folder)
    write_record(record, folder)


@pytest.fixture
def store(three_seeds, tmp_path):
    store = Store(tmp_path / "results")
    for records in three_seeds.values():
        for record in records:
            keep_run(store, record)
    return store


@pytest.fixture
def light_bundle(monkeypatch):
    """The page's own parts, without Vega's program: quick, and there where the extra is not installed."""
    monkeypatch.setattr(report, "load_bundle", lambda: "var vegaEmbed = () => Promise.resolve();")


def list_charts(page):
    return [json.loads(text) for text in re.findall(r'<script type="application/json">(.*?)</script>', page)]


def test_the_page_says_the_answer_in_the_words_of_the_comparison(store, light_bundle):
    page = render_report(store.records(), store=store)
    assert "tied lowers test perplexity by 3.6 % (between 4.5 % lower and 2.6 % lower; p &lt; 0.001, 3 seeds)" in page
    assert "ptb (929,589 train" in page and "tiebench train ptb-lstm-small" in page
    assert '<th scope="row" data-value="tie.type">tie.type</th>' in page


def test_charts_show_each_source_each_seed_each_curve_and_each_role(store, light_bundle):
    records = store.records()
    intervals, seeds, curves, parameters = list_charts(render_report(records, store=store))
    assert {row["covers"] for row in intervals["data"]["values"]} == {"seeds alone"}
    shown = {(row["arm"], row["seed"]): row["value"] for row in seeds["data"]["values"]}
    assert shown.keys() == {(record.arm, record.seed) for record in records}
    for record in records:
        assert shown[record.arm, record.seed] == pytest.approx(record.evaluations["test"].perplexity)
    assert [(row["arm"], row["tokens"]) for row in curves["data"]["values"]][:2] == [("untied", 4e5), ("untied", 2e6)]
    assert all(row["low"] < row["mean"] < row["high"] for row in curves["data"]["values"])
    total = sum(row["parameters"] for row in parameters["data"]["values"] if row["arm"] == "tied")
    assert total == next(record for record in records if record.arm == "tied").parameters.total
    assert all("tied" in chart["description"] for chart in (intervals, seeds, curves, parameters))


def test_learning_curves_have_their_figures_in_a_table_for_who_cannot_see_them(store, light_bundle):
    page = render_report(store.records(), store=store)
    *_, curves, _ = list_charts(page)
    table = page.split("<caption>Learning curves: validation perplexity</caption>")[1].split("</table>")[0]
    for row in curves["data"]["values"]:
        cells = [f'data-value="{row[name]!r}"' for name in ("mean", "low", "high")]
        assert any(all(cell in line for cell in cells) for line in table.splitlines()), row
    assert table.count("<tr>") == 1 + len(curves["data"]["values"])


def test_what_was_tried_for_each_arm_is_drawn(store, light_bundle):
    records = store.records()
    assert "Trials:" not in render_report(records, store=store)
    write_tuning(RESULT, store.root / records[0].experiment)
    page = render_report(records, store=store)
    assert "Trials: learning_rate" in page and "Trials: weight_decay" in page
    rates = next(chart for chart in list_charts(page) if chart["description"].startswith("Trials over learning_rate"))
    points = {(row["arm"], row["value"]): (row["perplexity"], row["chosen"]) for row in rates["data"]["values"]}
    assert points == {(arm, rate): found for arm in ("untied", "tied") for rate, found in
                      {1: (125.0, False), 2: (119.0, True)}.items()}  # fmt: skip


def test_the_same_records_make_the_same_page(store, light_bundle):
    records = store.records()
    assert render_report(records, store=store) == render_report(records[::-1], store=store)


def test_every_element_is_closed_and_nothing_points_outside(store, light_bundle):
    elements = Elements(render_report(store.records(), store=store))
    links = [link["href"] for link in elements.list_tags("a")]
    anchors = {attributes["id"] for _, attributes in elements.found if "id" in attributes}
    assert links and {link.removeprefix("#") for link in links} <= anchors
    assert not any({"src", "srcset", "action"} & attributes.keys() for _, attributes in elements.found)
    assert not elements.list_tags("link")


def test_text_from_records_stays_text(make_record, tmp_path, light_bundle):
    store = Store(tmp_path)
    changes = [("corpus.name", HOSTILE), ("corpus.facts", {"license": HOSTILE}), ("provenance.command", HOSTILE)]
    changes += [("provenance.hardware", {"cpu": f"\x1b[31m{HOSTILE}"}), ("spec.corpus.type", "ptb")]
    for arm in ("untied", "tied"):
        for seed in (1, 2):
            keep_run(store, make_record(arm, seed, changes=changes))
    page = render_report(store.records(), store=store)
    assert page.count(HOSTILE) == 0 and page.count("&lt;script&gt;alert(1)") >= 4
    assert "\x1b" not in page
    own = [script for script in Elements(page).list_tags("script") if script.get("type") != "application/json"]
    assert len(own) == 2


def test_names_in_tables_charts_and_anchors_stay_text():
    table = Table(
        HOSTILE, (Column(HOSTILE), Column("p", "p")), ((HOSTILE, 0.01), ('" onclick="x', None)), notes=(HOSTILE,)
    )
    text = build_table(table)
    assert "<script" not in text and HOSTILE in "".join(Elements(text).cells)
    assert "onclick" not in {name for _, attributes in Elements(text).found for name in attributes}
    assert "<" not in embed_json({"arm": HOSTILE}) and json.loads(embed_json({"arm": HOSTILE})) == {"arm": HOSTILE}
    assert make_anchor("a b") != make_anchor("a.b") and re.fullmatch(r"[\w-]+", make_anchor(HOSTILE))


def test_the_policy_knows_the_two_scripts_and_allows_nothing_else(store, light_bundle):
    elements = Elements(render_report(store.records(), store=store))
    policy = next(each["content"] for each in elements.list_tags("meta") if "http-equiv" in each)
    assert policy.startswith("default-src 'none'; script-src 'sha256-") and policy.count("'sha256-") == 2
    assert "unsafe-eval" not in policy and "http" not in policy


def test_every_column_is_explained(store, light_bundle, monkeypatch):
    columns = set()
    build = report.build_table

    def watch(table):
        if not table.title.endswith("what differs between arms"):  # its columns are the arms
            columns.update(column.name for column in table.columns)
        return build(table)

    monkeypatch.setattr(report, "build_table", watch)
    page = render_report(store.records(), store=store)
    assert {"arm", "p", "test change", "parameters", "shared", "command", "machine"} <= columns
    assert [name for name in columns if explain_column(name) is None] == []
    assert "<dt>test change</dt>" in page
    assert explain_column("no such column") is None


def test_arms_that_may_not_be_compared_are_shown_with_the_reason(make_record, tmp_path, light_bundle):
    store = Store(tmp_path)
    keep_run(store, make_record("untied"))
    keep_run(store, make_record("tied", changes=[("spec.training.epochs", 14)]))
    page = render_report(store.records(), store=store)
    assert "These runs were not compared: not comparable: training.epochs differs (untied: 13; tied: 14)." in page
    assert len(list_charts(page)) == 1, "the curves can be shown, differences cannot"


def test_the_whole_page_is_below_three_megabytes_and_holds_the_drawing_program(store):
    pytest.importorskip("vl_convert", reason="needs the extra: pip install 'tiebench[report]'")
    page = render_report(store.records(), store=store)
    assert 500_000 < len(page.encode()) < 3_000_000
    assert "vegaEmbed" in page
    Elements(page)


def test_the_command_writes_the_page_of_the_experiments_that_are_named(store, tmp_path, light_bundle, make_record):
    keep_run(store, make_record("tied", changes=[("experiment", "another")]))
    page = tmp_path / "page.html"
    command = ["report", "ptb-lstm-small", "-o", str(page), "--results", str(store.root)]
    answer = CliRunner().invoke(app, command)
    assert answer.exit_code == 0 and f"wrote {page}" in answer.stderr and answer.stdout == ""
    text = page.read_text("utf-8")
    assert "ptb-lstm-small: perplexity by arm" in text and "another" not in text


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["ptb-lstm-smal"], "did you mean 'ptb-lstm-small'"),
        (["-o", "page.pdf"], "name it such as report.html"),
        (["--results", "nothing"], "tiebench train CONFIG"),
    ],
)
def test_what_cannot_be_reported_is_said_with_what_to_type(store, light_bundle, arguments, message, monkeypatch):
    monkeypatch.chdir(store.root.parent)
    answer = CliRunner().invoke(app, ["report", *arguments])
    assert answer.exit_code == 2 and message in " ".join(answer.stderr.split())
    assert not list(store.root.parent.glob("*.html")) and not list(store.root.parent.glob("*.pdf"))


def test_without_the_extra_the_install_line_is_given(store, monkeypatch):
    monkeypatch.setitem(sys.modules, "vl_convert", None)
    answer = CliRunner().invoke(app, ["report", "--results", str(store.root)])
    assert answer.exit_code == 2 and "pip install 'tiebench[report]'" in " ".join(answer.stderr.split())


def test_the_published_report_is_that_of_the_published_records(tmp_path, light_bundle):
    scripts = runpy.run_path(str(ROOT / "scripts" / "refresh_pages.py"))
    made = scripts["render_published_report"](scripts["copy_published"](ROOT, tmp_path))
    kept = (ROOT / "results" / "report.html").read_text("utf-8")
    assert strip_bundle(kept) == strip_bundle(made), "make results writes it anew"
    assert len(kept.encode()) < 3_000_000


def strip_bundle(page):
    """The page without Vega's program and without what its policy says of it."""
    return re.sub(r"script-src [^;]*;|<script>.*?</script>", "", page, count=2, flags=re.DOTALL)


def test_the_report_needs_no_torch():
    program = "import sys, tiebench.reporting.report, tiebench.claims.judging; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0
