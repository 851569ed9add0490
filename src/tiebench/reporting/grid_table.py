"""The cells of a grid as tables: a row for each, and what they say together about each value of each axis."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

from tiebench.comparison.captions import count_seeds, format_percent
from tiebench.comparison.cells import CellResult
from tiebench.comparison.difference import Difference
from tiebench.experiment.candidates import shorten_paths
from tiebench.experiment.grid import Grid
from tiebench.experiment.tuning_config import TunedValues
from tiebench.reporting.tables import Column, Table

OUTCOMES = ("better", "worse", "undecided", None)


def grid_table(grid: Grid, results: Sequence[CellResult], *, brief: bool = False) -> Table:
    """One row per cell: its values, the change of bits per byte and what is decided.

    Then follow the bits per byte of both arms, p, parameters and tuned values, unless `brief`, for a terminal.
    The last note is the finding.
    """
    arms = next(([summary.arm for summary in result.arms] for result in results if result.arms), [])
    columns = [*(Column(name) for name in name_axes(grid)), Column("change", "change"), Column("outcome")]
    columns += [*(Column(f"{arm} bits/byte", "spread") for arm in arms), Column("p", "p"), Column("parameters")]
    tuned = dict.fromkeys(
        (arm, path) for result in results for arm, each in result.tuned.items() for path in each.chosen
    )
    names = shorten_paths(list(dict.fromkeys(path for _, path in tuned)))
    columns += [Column(f"{arm} {names[path]}") for arm, path in tuned]
    table = Table(
        title=f"{grid.name}: bits per byte by cell",
        columns=tuple(columns),
        rows=tuple(
            (*result.values.values(), *_list_figures(result, arms), *(_show_tuned(result, *each) for each in tuned))
            for result in results
        ),
        notes=(*describe_figures(results), describe_finding(grid, results)),
        num_keys=len(grid.axes),
    )
    return keep_first_columns(table, len(grid.axes) + 2) if brief else table


def keep_first_columns(table: Table, number: int) -> Table:
    return replace(table, columns=table.columns[:number], rows=tuple(row[:number] for row in table.rows))


def axes_table(grid: Grid, results: Sequence[CellResult]) -> Table:
    """One row per value of an axis: how many of its cells came out how, and the mean of their changes.

    Axes with one value are left out.
    """
    rows = []
    for place, (name, axis) in enumerate(zip(name_axes(grid), grid.axes, strict=True)):
        for value in axis.values if len(axis.values) > 1 else ():
            found = [result for result in results if list(result.values.values())[place] == value.shown]
            counts = Counter(result.outcome for result in found)
            changes = [result.headline.percent for result in found if result.headline]
            mean = f"{sum(changes) / len(changes):+.1f} %" if changes else None
            rows.append((name, value.shown, mean, *(counts[outcome] for outcome in OUTCOMES)))
    columns = (
        Column("axis"),
        Column("value"),
        Column("mean change"),
        *(Column(_name(each), "count") for each in OUTCOMES),
    )
    return Table(f"{grid.name}: cells by value", columns, tuple(rows), num_keys=2)


def name_axes(grid: Grid) -> list[str]:
    """The headings of the axes: short names where these are distinct, else the whole keys."""
    counts = Counter(axis.name for axis in grid.axes)
    return [axis.name if counts[axis.name] == 1 else axis.key for axis in grid.axes]


def tell_values(values: Iterable[tuple[str, str]]) -> str:
    """`gpt2, width 64` for pairs of an axis's name and a value: a word stands for itself."""
    return ", ".join(f"{name} {value}" if value[:1].isdigit() else value for name, value in values)


def describe_finding(grid: Grid, results: Sequence[CellResult]) -> str:
    """What all cells together say: how many came out how, and the ends of the range of changes."""
    found = next((result.contrast for result in results if result.contrast), None)
    if found is None:
        return f"None of {_count_cells(len(results))} can be compared yet."
    by_outcome = {outcome: [result for result in results if result.outcome == outcome] for outcome in OUTCOMES}
    compared = len(results) - len(by_outcome[None])
    lower, higher = (f"{len(by_outcome[each])}{_show_range(by_outcome[each])}" for each in ("better", "worse"))
    num_missing = len(by_outcome[None])
    missing = f" {num_missing} more {'is' if num_missing == 1 else 'are'} not run." if num_missing else ""
    ranked = sorted((result for result in results if result.headline), key=_read_percent)
    ends = [
        f"{_read_percent(result):+.1f} % ({tell_values(zip(name_axes(grid), result.values.values(), strict=True))})"
        for result in (ranked[0], ranked[-1])
    ]
    return (
        f"Of {_count_cells(compared)}, {found.arm} has lower bits per byte than {found.baseline} in {lower} and higher "
        f"ones in {higher}; {_count(len(by_outcome['undecided']))} not decided.{missing}"
        + (f" Changes run from {ends[0]} to {ends[1]}." if compared > 1 else "")
    )


def describe_figures(results: Sequence[CellResult]) -> list[str]:
    """What the figures mean."""
    headlines = [result.headline for result in results if result.headline]
    if not headlines:
        return []
    notes = [
        "Changes are in bits per byte of the test text as it was scored, below 0 where the arm is better. A cell is "
        "decided where its own comparison is at p < 0.05; p is not adjusted over the cells, so that without any "
        "difference about one cell in twenty would still be called decided.",
        *dict.fromkeys(_describe_coverage(headline) for headline in headlines),
    ]
    if tuned := [found for result in results for found in result.tuned.values()]:
        notes.append(_describe_tuning(tuned))
    if partly := [result for result in results if result.contrast and result.num_finished < result.num_runs]:
        notes.append(f"Not all runs are finished of {len(partly)} of the cells that are compared.")
    return notes


def _read_percent(result: CellResult) -> float:
    return result.headline.percent if result.headline else 0.0


def _list_figures(result: CellResult, arms: list[str]) -> list[Any]:
    if result.contrast is None:
        return [None, f"{result.num_finished} of {result.num_runs} runs", *(None for _ in arms), None, None]
    headline = result.headline
    split = headline.split if headline else "test"
    spreads = [summary.bits_per_byte.get(split) for summary in result.arms]
    parameters = f"{result.contrast.parameters_percent:+.0f} %"
    return [headline, result.outcome, *spreads, headline.adjusted_p if headline else None, parameters]


def _describe_coverage(headline: Difference) -> str:
    """What the interval of a cell covers."""
    seeds = f"how training varies ({count_seeds(headline.num_seeds)} per arm)"
    if headline.covers == ("seeds", "text"):
        return f"Intervals (95 %) cover {seeds} and how the test text varies (blocks of at least 1,000 tokens)."
    if headline.covers == ("seeds",):
        return f"Intervals (95 %) cover {seeds}, not how the test text varies."
    if headline.covers:
        return (
            "Cells with one seed per arm have intervals (95 %) that cover how the test text varies, and decide nothing."
        )
    return "Cells with one seed per arm and without per-token nats have no interval, and decide nothing."


def _show_tuned(result: CellResult, arm: str, path: str) -> str | None:
    """What was chosen for an arm; with a star where it is the lowest or the highest that was tried."""
    tuned = result.tuned.get(arm)
    if tuned is None or path not in tuned.chosen:
        return None
    return f"{_write_value(tuned.chosen[path])}{' *' if path in tuned.edges else ''}"


def _describe_tuning(tuned: Sequence[TunedValues]) -> str:
    names = shorten_paths(list(dict.fromkeys(path for found in tuned for path in found.grid)))
    grids = dict.fromkeys(
        f"{names[path]} out of {', '.join(map(_write_value, tried))}"
        for found in tuned
        for path, tried in found.grid.items()
    )
    trials = " or ".join(map(str, sorted({found.num_trials for found in tuned})))
    seeds = ", ".join(map(str, sorted({seed for found in tuned for seed in found.seeds})))
    at_edge = sum(bool(found.edges) for found in tuned)
    edge = (
        f" * marks a value at an end of the tried ones ({at_edge} of {len(tuned)}): a better one may lie beyond."
        if at_edge
        else ""
    )
    return (
        f"Each arm of each cell was trained with its best of {trials} trials on the validation split "
        f"({'; '.join(grids)}; seed {seeds}, used for nothing else).{edge}"
    )


def _show_range(results: Sequence[CellResult]) -> str:
    """` (by 1.2 %)`, ` (by 1.2 to 3.4 %)`; nothing where there is none."""
    amounts = sorted(abs(result.headline.percent) for result in results if result.headline)
    if not amounts:
        return ""
    low, high = format_percent(amounts[0]), format_percent(amounts[-1])
    return f" (by {low} %)" if low == high else f" (by {low} to {high} %)"


def _count_cells(number: int) -> str:
    return f"{number} cell{'' if number == 1 else 's'}"


def _count(number: int) -> str:
    return f"{number} {'is' if number == 1 else 'are'}"


def _name(outcome: str | None) -> str:
    return outcome or "not run"


def _write_value(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)
