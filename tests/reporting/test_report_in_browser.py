"""The page as a reader has it: in Debian's Chromium, without network."""

import os
import re
import shutil

import pytest
from test_report import HOSTILE, keep_run
from test_report import store as store  # a fixture

from tiebench.reporting.report import render_report
from tiebench.results.store import Store

pytestmark = pytest.mark.services
CHROMIUM = "/usr/bin/chromium"
OPTIONS = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"]
OPTIONS += ["--disable-background-networking", "--disable-component-update", "--disable-sync"]
OPTIONS += ["--disable-dev-shm-usage"]  # /dev/shm of a container is small
PATIENCE_MS = 180_000  # a machine that does more is slow
CONTRAST = """(element) => {
  const read = (text) => text.match(/[\\d.]+/g).slice(0, 3).map(Number);
  const light = (colour) => read(colour)
    .map((part) => part / 255)
    .map((part) => (part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4))
    .reduce((sum, part, place) => sum + part * [0.2126, 0.7152, 0.0722][place], 0);
  const pair = [light(getComputedStyle(element).color), light(getComputedStyle(document.body).backgroundColor)];
  return (Math.max(...pair) + 0.05) / (Math.min(...pair) + 0.05);
}"""


def find_missing():
    if shutil.which(CHROMIUM) is None:
        return f"needs {CHROMIUM} (apt-get install chromium)"
    try:
        import playwright.sync_api  # noqa: F401
        import vl_convert  # noqa: F401
    except ImportError as error:
        return f"needs {error.name} (make test-services installs it)"
    return None


@pytest.fixture(scope="module")
def chromium(tmp_path_factory):
    """A browser with a profile of its own. Where the tests are required (`make test-services`), its absence fails."""
    missing = find_missing()
    if missing and os.environ.get("TIEBENCH_SERVICES") != "required":
        pytest.skip(missing)
    assert not missing, missing
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=OPTIONS, timeout=PATIENCE_MS)
        yield browser
        browser.close()


@pytest.fixture
def show(chromium, tmp_path):
    """Open a page; at the end nothing was asked of the network and the console has no word of error."""
    contexts, said, asked = [], [], []

    def open_page(text, *, width=1280, scheme="light"):
        file = tmp_path / "report.html"
        file.write_text(text, "utf-8")
        context = chromium.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme)
        context.set_default_timeout(PATIENCE_MS)
        contexts.append(context)
        page = context.new_page()
        page.on("console", lambda message: said.append(message.text))
        page.on("pageerror", lambda error: said.append(str(error)))
        page.on("dialog", lambda dialog: (said.append("a dialog"), dialog.dismiss()))
        page.on("request", lambda request: asked.append(request.url))
        page.route(re.compile("^(?!file:|data:)"), lambda route: route.abort())
        page.goto(file.as_uri())
        page.wait_for_selector("html[data-drawn=all]")
        return page

    yield open_page
    own = (tmp_path / "report.html").as_uri()
    for context in contexts:
        context.close()
    assert said == []
    assert [url for url in asked if url != own and not url.startswith("data:")] == []


@pytest.fixture
def text(store):
    return render_report(store.records(), store=store)


def test_every_chart_is_drawn_with_its_marks_and_a_name(show, text):
    page = show(text)
    charts = page.locator("figure.with-chart svg")
    assert charts.count() == page.locator("figure.with-chart").count() == 4
    for place in range(4):
        chart = charts.nth(place)
        assert chart.locator(".mark-symbol path, .mark-rect path").count() > 0
        assert "tied" in page.locator("figure.with-chart .chart").nth(place).get_attribute("aria-label")
        assert chart.bounding_box()["width"] > 500
    seeds = charts.nth(1).locator("g[role=graphics-object] > path[aria-roledescription=point]")
    assert seeds.count() == 6, "a dot for every seed"


def test_a_mark_that_is_hovered_tells_its_figures(show, text):
    page = show(text)
    page.locator("figure.with-chart svg").nth(1).locator("path[aria-roledescription=point]").first.hover(force=True)
    tooltip = page.locator("#vg-tooltip-element.visible")
    tooltip.wait_for()
    assert "seed" in tooltip.inner_text() and "untied" in tooltip.inner_text()


def test_a_narrow_window_scrolls_in_one_direction_only(show, text):
    page = show(text, width=400)
    for element in page.locator("details").all():
        element.evaluate("(details) => { details.open = true }")
    assert page.evaluate("document.documentElement.scrollWidth") <= 400
    assert all(box["width"] <= 400 for box in (each.bounding_box() for each in page.locator("svg").all()))


def test_the_heading_sorts_by_the_keyboard_alone(show, text):
    page = show(text)
    table = page.locator("table.sortable").first
    read_arms = lambda: table.locator("tbody th").all_inner_texts()  # noqa: E731
    assert read_arms() == ["untied", "tied"]
    heading = table.locator("thead th", has_text="parameters")
    for _ in range(200):
        page.keyboard.press("Tab")
        if heading.locator("button").evaluate("(button) => button === document.activeElement"):
            break
    page.keyboard.press("Enter")
    assert read_arms() == ["tied", "untied"] and heading.get_attribute("aria-sort") == "ascending"
    assert page.locator("#status").inner_text() == "Sorted by parameters, ascending."
    page.keyboard.press("Enter")
    assert read_arms() == ["untied", "tied"] and heading.get_attribute("aria-sort") == "descending"


def test_a_missing_figure_stays_last_whichever_way_one_sorts(show, text):
    page = show(text)
    table = page.locator("table.sortable").first
    button = table.locator("thead button", has_text="test change")
    for _ in range(2):
        button.click()
        assert table.locator("tbody th").all_inner_texts() == ["tied", "untied"], "the baseline has no change"


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_and_charts_stand_out_from_the_ground(show, text, scheme):
    page = show(text, scheme=scheme)
    ground = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert (ground == "rgb(255, 255, 255)") == (scheme == "light")
    for selector in ("h1", "main p", "figcaption", "nav a", "summary", "td", "caption", "dd", "footer p"):
        assert page.locator(selector).first.evaluate(CONTRAST) >= 4.5, selector
    label = page.locator("svg .role-axis-label text").first
    assert label.get_attribute("fill") == "currentColor"
    assert label.evaluate(CONTRAST) >= 4.5


def test_a_screen_reader_finds_sections_charts_and_tables_by_name(show, text):
    tree = show(text).locator("body").aria_snapshot()
    for name in ('heading "Tie the embeddings, or not?"', 'region "ptb-lstm-small"', "navigation", "main"):
        assert name in tree, name
    assert 'columnheader "parameters"' in tree and 'button "parameters"' in tree
    assert 'rowheader "tied"' in tree and 'figure "Learning curves"' in tree


def test_text_from_records_runs_nothing(show, make_record, tmp_path):
    store = Store(tmp_path / "hostile")
    changes = [("corpus.name", HOSTILE), ("provenance.command", f'"><img src=x onerror=alert(1)>{HOSTILE}')]
    for arm in ("untied", "tied"):
        keep_run(store, make_record(arm, changes=changes))
    page = show(render_report(store.records(), store=store))
    assert page.locator("img").count() == 0
    assert page.locator("td", has_text=HOSTILE).count() == 1


def test_on_paper_the_charts_stay_and_nothing_is_cut(show, text):
    page = show(text, scheme="dark")
    page.emulate_media(media="print", color_scheme="dark")
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert page.locator("nav").is_hidden() and page.locator("svg").first.is_visible()
    assert page.locator("h1").evaluate(CONTRAST) > 15
    page.evaluate("dispatchEvent(new Event('beforeprint'))")
    assert page.locator("details").count() == page.locator("details[open]").count() > 0
    page.evaluate("dispatchEvent(new Event('afterprint'))")
    assert page.locator("details[open]").count() == 0
