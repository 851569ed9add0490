"""Intervals drawn in characters, a line for each arm, on one scale that shows where no change is."""

import textwrap

from tiebench.comparison.captions import name_metric
from tiebench.comparison.pairing import Comparison

MOST_COLUMNS = 60


def draw_intervals(comparison: Comparison, *, width: int) -> list[str]:
    """`tied  |-----o---|     :` for each arm against the baseline: its change `o`, the ends of its interval, and `:` at
    no change; left is the lower perplexity. No lines where no arm has an interval or the terminal is too narrow.
    """
    found = {contrast.arm: contrast for contrast in comparison.contrasts if contrast.interval_percent}
    names = max(map(len, found), default=0)
    columns = min(MOST_COLUMNS, width - names - 2)
    if not found or columns < 20:
        return []
    ends = [end for contrast in found.values() for end in contrast.interval_percent or ()]
    low, high = min(0.0, *ends), max(0.0, *ends)
    lines = []
    for arm, contrast in found.items():
        headline, interval = contrast.headline, contrast.interval_percent
        if headline is None or interval is None:
            continue
        first, middle, last, zero = (
            _place(value, low=low, high=high, columns=columns)
            for value in (interval[0], headline.percent, interval[1], 0)
        )
        cells = [" "] * columns
        cells[first : last + 1] = "-" * (last + 1 - first)
        cells[zero] = ":"
        cells[first] = cells[last] = "|"
        cells[middle] = "o"
        lines.append(f"{arm:<{names}}  {''.join(cells)}".rstrip())
    metric = next(name_metric(contrast.headline) for contrast in found.values() if contrast.headline)
    scale = f"{low:+.1f} % to {high:+.1f} % {metric}; o measured, |-| interval, : no change"
    return [*lines, *textwrap.wrap(scale, width, initial_indent=" " * (names + 2), subsequent_indent=" " * (names + 2))]


def _place(value: float, *, low: float, high: float, columns: int) -> int:
    """The column of a value on the scale from low to high."""
    return round((value - low) / (high - low) * (columns - 1)) if high > low else 0
