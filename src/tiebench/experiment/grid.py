"""One experiment at every combination of values: what the `grid:` block of an experiment file asks for.

`grid: {architecture.width: [64, 128]}` is two experiments, the cells; each is what the file would be with that value
written in it. A value is a number or a word, or any block under a label: `architecture: {small: {type: lstm, ...}}`.
"""

import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tiebench.errors import UsageError, did_you_mean
from tiebench.experiment.bundled import find_config, list_configs
from tiebench.experiment.loading import Experiment, lay_overrides, resolve_document
from tiebench.experiment.merging import find_arm_that_sets, is_set, lay_value, parse_override
from tiebench.experiment.problems import CHECK, FileProblems, Problem, raise_problems, shorten
from tiebench.experiment.schema import NAME
from tiebench.experiment.top_level import ARM_BLOCKS, GRID
from tiebench.experiment.yaml_file import Document, KeyPath, read_document

MOST_CELLS = 10_000


@dataclass(frozen=True)
class GridValue:
    """One value of an axis: `label` is its part of a cell's name, `shown` is what a person reads."""

    label: str
    shown: str
    value: Any
    place: KeyPath


@dataclass(frozen=True)
class Axis:
    """A dotted key and the values that it takes, in the order of the file."""

    key: str
    values: tuple[GridValue, ...]

    @property
    def path(self) -> tuple[str, ...]:
        return tuple(self.key.split("."))

    @property
    def name(self) -> str:
        """The last part of the key, as the heading of a column: `width`."""
        return _find_name(self.key)


@dataclass(frozen=True)
class Cell:
    """The experiment at one value of every axis; `values` are in the order of the axes."""

    values: tuple[GridValue, ...]
    experiment: Experiment


@dataclass(frozen=True)
class Grid:
    """Cells in the order of the file; from one to the next, the last axis changes first."""

    name: str
    description: str
    source: str
    axes: tuple[Axis, ...]
    cells: tuple[Cell, ...]


def is_grid(name: str | Path) -> bool:
    """Whether a file has a `grid:` block. Raises UsageError for a file that cannot be read."""
    return GRID in read_document(find_config(str(name))).data


def load_grid(name: str | Path, *, overrides: tuple[str, ...] | list[str] = ()) -> Grid:
    """Read a file with a `grid:` block and resolve every cell.

    `--set grid.KEY=[...]` gives an axis other values; its cells do not count as altered. Raises UsageError that lists
    everything that is wrong in any cell, with file and line; where there are not two arms; and for an override that the
    grid undoes.
    """
    document = read_document(find_config(str(name)))
    if GRID not in document.data:
        hint = "give the keys and their values, such as grid: {architecture.width: [64, 128]}"
        raise UsageError(f"{document.source} has no `grid:` block", hint)
    altered = [text for text in overrides if not _replace_axis(document, text)]
    lay_overrides(document, altered)
    axes = _read_axes(document)
    for text in altered:
        _check_override(text, axes)
    cells = _resolve_cells(document, axes, altered=tuple(altered))
    num_arms = len(cells[0].experiment.arms)
    if num_arms != 2:
        hint = "write both under `arms:`, such as untied: {tie: false} and tied: {tie: true}"
        raise UsageError(f"{document.source}: a grid compares two arms, and there are {num_arms}", hint)
    data = document.data
    return Grid(_name_grid(document), data.get("description") or "", document.source, axes, tuple(cells))


def list_bundled_grids() -> dict[str, Grid]:
    """Name to grid of every bundled experiment file that has one."""
    return {name: load_grid(file) for name, file in list_configs().items() if is_grid(file)}


def _replace_axis(document: Document, text: str) -> bool:
    """Give an axis other values, where an override is about one."""
    path, values = parse_override(text)
    block = document.data[GRID]
    if path[0] != GRID or len(path) < 2 or not isinstance(block, dict):
        return False
    key = ".".join(path[1:])
    document.data = {**document.data, GRID: {**block, key: values}}
    document.lines = {known: line for known, line in document.lines.items() if known[:2] != (GRID, key)}
    document.overridden[GRID, key] = f"--set {shorten(text)}"
    return True


def _check_override(text: str, axes: tuple[Axis, ...]) -> None:
    """Raises UsageError for an override of what the grid itself sets."""
    path, _ = parse_override(text)
    for axis in axes:
        below = path[len(axis.path) :]
        if path[: len(axis.path)] == axis.path and any(is_set(value.value, below) for value in axis.values):
            dotted = ".".join(path)
            hint = f"give the axis other values: --set grid.{axis.key}=[...]"
            raise UsageError(f"--set {dotted}: the grid sets {dotted} itself, so it would not change", hint)


def _name_grid(document: Document) -> str:
    return str(document.data.get("name") or Path(document.source).stem.lower())


def _read_axes(document: Document) -> tuple[Axis, ...]:
    """Raises UsageError that lists everything that is wrong with the block itself."""
    block = document.data[GRID]
    if not (isinstance(block, dict) and block):
        found = Problem((GRID,), block, "keys and their values, such as {architecture.width: [64, 128]}")
        raise_problems([found], document)
    axes, problems = [], []
    for key, written in block.items():
        values, found = _read_values(key, written)
        axes.append(Axis(key, tuple(values)))
        problems += found or _check_key(axes[-1], document)
    problems += _check_overlaps(axes)
    num_cells = math.prod(len(axis.values) for axis in axes)
    if num_cells > MOST_CELLS:
        problems.append(Problem((GRID,), None, f"{num_cells:,} cells; at most {MOST_CELLS:,}"))
    raise_problems(problems, document)
    return tuple(axes)


def _read_values(key: str, written: Any) -> tuple[list[GridValue], list[Problem]]:
    place = (GRID, key)
    if isinstance(written, dict) and written:
        values = [GridValue(label, label, value, (*place, label)) for label, value in written.items()]
    elif isinstance(written, list) and written:
        if blocks := [index for index, value in enumerate(written) if isinstance(value, dict | list)]:
            allowed = "a number or a word; give blocks a label each: {small: {...}, large: {...}}"
            return [], [Problem((*place, index), written[index], allowed) for index in blocks]
        values = [_name_value(key, value, (*place, index)) for index, value in enumerate(written)]
    else:
        return [], [Problem(place, written, "a list of values, or blocks with a label each")]
    problems = [
        Problem(value.place, value.label, "a label of small letters, digits and . _ + -, as it becomes part of a name")
        for value in values
        if not NAME.fullmatch(value.label)
    ]
    labels = [value.label for value in values]
    twice = [value for index, value in enumerate(values) if value.label in labels[:index]]
    return values, problems + [Problem(value.place, value.shown, "each value once") for value in twice]


def _name_value(key: str, value: Any, place: KeyPath) -> GridValue:
    """A word stands for itself; a number follows the name of its key: `width64`."""
    if isinstance(value, str):
        return GridValue(value.lower(), value, value, place)
    text = "none" if value is None else str(value).lower()
    shown = f"{value:,}" if type(value) is int else text
    return GridValue(f"{_find_name(key)}{text}", shown, value, place)


def _find_name(key: str) -> str:
    """The last part of a key that says something: `vocabulary.size` is about the vocabulary."""
    *above, last = key.split(".")
    return above[-1] if last in ("type", "size") and above else last


def _check_key(axis: Axis, document: Document) -> list[Problem]:
    """A key that cannot be varied: no key of a run, or one that an arm sets by itself or that is tuned."""
    place, known = (GRID, axis.key), (*ARM_BLOCKS, "arms")
    tuned = document.find(("tuning", "grid"))
    if isinstance(tuned, dict) and axis.key in tuned:
        return [Problem(place, None, "tuning.grid chooses it for every arm; remove it here or there")]
    if axis.path[0] not in known or not all(axis.path):
        return [Problem(place, None, f"no key of an arm; {did_you_mean(axis.path[0], known)}")]
    if arm := find_arm_that_sets(document.data, axis.path):
        return [Problem(place, None, f"arm '{arm}' sets it by itself, so it would not change")]
    return []


def _check_overlaps(axes: list[Axis]) -> list[Problem]:
    """Blocks that set what another axis sets too: their value would never be used."""
    return [
        Problem(value.place, None, f"sets {inner.key} too, which the grid varies; remove it here")
        for outer, inner in itertools.permutations(axes, 2)
        if inner.path[: len(outer.path)] == outer.path
        for value in outer.values
        if inner.path == outer.path or is_set(value.value, inner.path[len(outer.path) :])
    ]


def _resolve_cells(document: Document, axes: tuple[Axis, ...], *, altered: tuple[str, ...]) -> list[Cell]:
    """Raises UsageError with what is wrong in any of the cells."""
    cells, lines = [], []
    for values in itertools.product(*(axis.values for axis in axes)):
        try:
            experiment = resolve_document(_write_cell(document, axes, values), altered=altered)
        except FileProblems as problems:
            lines += problems.lines
        else:
            cells.append(Cell(values, experiment))
    if lines:
        raise FileProblems(list(dict.fromkeys(lines)), source=document.source, hint=CHECK)
    names = [cell.experiment.name for cell in cells]
    if twice := next((name for name in names if names.count(name) > 1), None):
        raise UsageError(f"{document.source}: two cells are called {twice}", "choose other labels")
    return cells


def _write_cell(document: Document, axes: tuple[Axis, ...], values: tuple[GridValue, ...]) -> Document:
    """The file as it would be with these values written in it; what is wrong with one is found on its own line."""
    data = {key: value for key, value in document.data.items() if key != GRID}
    lines, overridden = dict(document.lines), dict(document.overridden)
    data["name"] = "-".join([_name_grid(document), *(value.label for value in values)])
    for axis, value in sorted(zip(axes, values, strict=True), key=lambda pair: len(pair[0].path)):
        data = lay_value(data, axis.path, value.value)
        lines |= dict(_move_lines(document, value.place, axis.path))
        if (GRID, axis.key) in document.overridden:
            overridden[axis.path] = document.overridden[GRID, axis.key]
    return Document(document.source, data, lines, overridden)


def _move_lines(document: Document, place: KeyPath, path: KeyPath) -> Iterator[tuple[KeyPath, int]]:
    """The lines of a value of the grid, and of what stands in it, at the path where it is laid."""
    for known, line in document.lines.items():
        if known[: len(place)] == place:
            yield (*path, *known[len(place) :]), line
