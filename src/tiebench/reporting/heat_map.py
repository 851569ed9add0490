"""A grid as a picture: a square for each cell, blue where the arm is better and red where it is worse.

Of the axes, in the order of the file, the last two are rows and columns, and the first is the panels from left to
right; each combination of those between them is a row of panels. The SVG is written as text, so that the same records
make the same file with any version of anything. A cell that is not decided is hatched and says so; one that is not run
is empty and says so.
"""

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape as escape_xml

from tiebench.comparison.cells import CellResult
from tiebench.experiment.grid import Grid
from tiebench.reporting.escaping import escape
from tiebench.reporting.grid_table import name_axes, tell_values

CELL = 88, 48  # width and height, in pixels as all below
LABEL, GAP, HEAD, TOP, FOOT = 84, 28, 58, 44, 64
LETTER = 7.2  # of 12 px, about
BETTER, EQUAL, WORSE = (67, 147, 195), (247, 247, 247), (214, 96, 77)
LEAST_LIMIT = 0.5  # percent: a map of nothing but noise stays pale

DrawnAxis = tuple[str, tuple[str, ...]]
NOTHING: DrawnAxis = ("", ("",))


@dataclass(frozen=True)
class _Layout:
    """Which axis lies where, each as its name and its values."""

    panels: DrawnAxis
    groups: tuple[DrawnAxis, ...]
    rows: DrawnAxis
    columns: DrawnAxis

    @property
    def panel_width(self) -> int:
        longest = max(len(self.name_panel(panel, group)) for panel in self.panels[1] for group in self.list_groups())
        return max(LABEL + CELL[0] * len(self.columns[1]), round(longest * LETTER)) + GAP

    @property
    def panel_height(self) -> int:
        return HEAD + CELL[1] * len(self.rows[1]) + GAP

    def list_groups(self) -> list[tuple[str, ...]]:
        """The values of the axes between the first and the last two, a row of panels for each."""
        return list(itertools.product(*(values for _, values in self.groups)))

    def name_panel(self, panel: str, group: tuple[str, ...]) -> str:
        """`gpt2, tokens 300,000`: a word stands for itself."""
        found = [*zip((name for name, _ in self.groups), group, strict=True), (self.panels[0], panel)]
        return tell_values(pair for pair in found if pair[0])


def draw_heat_map(grid: Grid, results: Sequence[CellResult]) -> str:
    """The SVG of a grid; `results` are of its cells, in their order."""
    layout = _lay_out(grid)
    axes = (layout.panels, *layout.groups, layout.rows, layout.columns)
    places = dict(zip(itertools.product(*(values for _, values in axes)), results, strict=True))
    limit = choose_limit(results)
    groups = layout.list_groups()
    width = max(GAP + layout.panel_width * len(layout.panels[1]), 460)
    height = TOP + layout.panel_height * len(groups) + FOOT
    parts = [_write_svg_text(GAP, 28, _name_map(grid, results), size=15, weight="bold")]
    for row, group in enumerate(groups):
        for column, panel in enumerate(layout.panels[1]):
            found = [result for place, result in places.items() if place[:-2] == (panel, *group)]
            left, top = GAP + column * layout.panel_width, TOP + row * layout.panel_height
            title = layout.name_panel(panel, group)
            parts += _draw_panel(layout, found, title=title, left=left, top=top, limit=limit)
    parts += _draw_legend(GAP, height - FOOT + 8, limit=limit)
    opening = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}" '
        'font-family="Helvetica, Arial, sans-serif" role="img">'
    )
    hatch = (
        '<defs><pattern id="undecided" width="7" height="7" patternUnits="userSpaceOnUse" '
        'patternTransform="rotate(45)"><line x1="0" y1="0" x2="0" y2="7" stroke="#000" stroke-opacity="0.16" '
        'stroke-width="2"/></pattern></defs>'
    )
    title = f"<title>{_clean(_name_map(grid, results))}</title>"
    background = f'<rect width="{width}" height="{height}" fill="#fff"/>'
    return "\n".join([opening, title, hatch, background, *parts, "</svg>"]) + "\n"


def choose_limit(results: Sequence[CellResult]) -> float:
    """The change in percent at which the colour is full: the largest there is, rounded up to 1, 2 or 5 of a size."""
    largest = max([abs(result.headline.percent) for result in results if result.headline] + [LEAST_LIMIT])
    size = 10.0 ** math.floor(math.log10(largest))
    return next(step * size for step in (1, 2, 5, 10) if step * size >= largest * (1 - 1e-9))


def choose_colour(percent: float, *, limit: float) -> str:
    """White at no change, blue towards `-limit`, red towards `limit`."""
    share = min(1.0, abs(percent) / limit)
    end = BETTER if percent < 0 else WORSE
    mixed = (round(zero + (full - zero) * share) for zero, full in zip(EQUAL, end, strict=True))
    return "#" + "".join(f"{part:02x}" for part in mixed)


def _lay_out(grid: Grid) -> _Layout:
    axes: list[DrawnAxis] = [
        (name, tuple(value.shown for value in axis.values))
        for name, axis in zip(name_axes(grid), grid.axes, strict=True)
    ]
    if len(axes) == 1:
        return _Layout(NOTHING, (), NOTHING, axes[0])
    if len(axes) == 2:
        return _Layout(NOTHING, (), *axes)
    return _Layout(axes[0], tuple(axes[1:-2]), *axes[-2:])


def _name_map(grid: Grid, results: Sequence[CellResult]) -> str:
    contrast = next((result.contrast for result in results if result.contrast), None)
    about = f"{contrast.arm} against {contrast.baseline}, change of test bits per byte" if contrast else "not run"
    return f"{grid.name}: {about}"


def _draw_panel(
    layout: _Layout, results: list[CellResult], *, title: str, left: int, top: int, limit: float
) -> list[str]:
    """`results` row by row."""
    parts = [_write_svg_text(left, top + 16, title, weight="bold")]
    parts.append(_write_svg_text(left + LABEL, top + 34, layout.columns[0], fill="#555"))
    parts.append(_write_svg_text(left + LABEL - 8, top + 50, layout.rows[0], anchor="end", fill="#555"))
    for column, value in enumerate(layout.columns[1]):
        centre = left + LABEL + CELL[0] * column + CELL[0] // 2
        parts.append(_write_svg_text(centre, top + 50, value, anchor="middle"))
    for row, value in enumerate(layout.rows[1]):
        middle = top + HEAD + CELL[1] * row + CELL[1] // 2 + 4
        parts.append(_write_svg_text(left + LABEL - 8, middle, value, anchor="end"))
    for place, result in enumerate(results):
        row, column = divmod(place, len(layout.columns[1]))
        parts += _draw_cell(result, x=left + LABEL + CELL[0] * column, y=top + HEAD + CELL[1] * row, limit=limit)
    return parts


def _draw_cell(result: CellResult, *, x: int, y: int, limit: float) -> list[str]:
    """The change, and below it what is decided."""
    box = f'x="{x + 1}" y="{y + 1}" width="{CELL[0] - 2}" height="{CELL[1] - 2}"'
    centre, headline, outcome = x + CELL[0] // 2, result.headline, result.outcome
    if headline is None or outcome is None:
        dashed = f'<rect {box} fill="#fff" stroke="#aaa" stroke-dasharray="3 3"/>'
        return [dashed, _write_svg_text(centre, y + 28, "not run", size=11, anchor="middle", fill="#555")]
    parts = [f'<rect {box} fill="{choose_colour(headline.percent, limit=limit)}"/>']
    if outcome == "undecided":
        parts.append(f'<rect {box} fill="url(#undecided)"/>')
    weight = "normal" if outcome == "undecided" else "bold"
    change = f"{headline.percent:+.{1 if abs(headline.percent) >= 0.1 else 2}f} %".replace("-", "\N{MINUS SIGN}")
    parts.append(_write_svg_text(centre, y + 22, change, size=13, weight=weight, anchor="middle"))
    parts.append(_write_svg_text(centre, y + 38, outcome, size=10, anchor="middle"))
    return parts


def _draw_legend(x: int, y: int, *, limit: float) -> list[str]:
    """The scale of colours with its ends, and what the hatch is."""
    steps = 20
    parts = [
        f'<rect x="{x + 10 * step}" y="{y}" width="10" height="12" fill="{choose_colour(share * limit, limit=limit)}"/>'
        for step, share in enumerate((2 * step + 1) / steps - 1 for step in range(steps))
    ]
    ends = (0, f"\N{MINUS SIGN}{limit:g} %", "start"), (100, "0", "middle"), (200, f"+{limit:g} %", "end")
    for place, text, anchor in ends:
        parts.append(_write_svg_text(x + place, y + 28, text, size=11, anchor=anchor))
    parts.append(_write_svg_text(x, y + 44, "below 0: fewer bits, so better", size=11, fill="#555"))
    parts.append(f'<rect x="{x + 230}" y="{y}" width="24" height="12" fill="#f7f7f7" stroke="#aaa"/>')
    parts.append(f'<rect x="{x + 230}" y="{y}" width="24" height="12" fill="url(#undecided)"/>')
    return [*parts, _write_svg_text(x + 262, y + 11, "the sign is not decided", size=11)]


def _write_svg_text(
    x: float, y: float, text: str, *, size: int = 12, weight: str = "normal", anchor: str = "start", fill: str = "#111"
) -> str:
    if not text:
        return ""
    options = f'font-size="{size}" font-weight="{weight}" text-anchor="{anchor}" fill="{fill}"'
    return f'<text x="{x}" y="{y}" {options}>{_clean(text)}</text>'


def _clean(text: str) -> str:
    return escape_xml(escape(text))
