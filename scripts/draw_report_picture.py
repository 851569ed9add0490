"""Draw results/report.png, the picture of the report in README.md, from results/report.html.

Needs what `make test-services` installs: Debian's Chromium and playwright.
"""

import io
from pathlib import Path

from PIL import Image
from playwright.sync_api import sync_playwright

RESULTS = Path(__file__).parents[1] / "results"
SECTION = "press-wolf-2017-small"
SIZE = {"width": 1000, "height": 980}
OPTIONS = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking"]

if __name__ == "__main__":
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path="/usr/bin/chromium", args=OPTIONS)
        page = browser.new_page(viewport=SIZE, reduced_motion="reduce")  # nothing moves while it is drawn
        page.goto((RESULTS / "report.html").as_uri())
        page.wait_for_selector("html[data-drawn=all]")
        page.locator(f'[id="{SECTION}"]').evaluate("(section) => section.scrollIntoView()")
        picture = page.screenshot()
        browser.close()
    drawn = Image.open(io.BytesIO(picture)).convert("P", palette=Image.Palette.ADAPTIVE, colors=64)
    drawn.save(RESULTS / "report.png", optimize=True)
