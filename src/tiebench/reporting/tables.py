"""A table is typed cells in named columns; how it looks is decided elsewhere, in `render`.

A column's kind says what its cells are: `text` (str), `count` (int), `number` (float), `p` (float), `spread`
(Spread) or `change` (Difference). A cell that is missing is None in every kind.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from tiebench.comparison.pairing import ArmSummary, Comparison, group_by_arm, has_train_pass, measure_spread
from tiebench.results.record import SPLITS, Record

Kind = Literal["text", "count", "number", "p", "spread", "change"]
ROLES = ("input", "output", "shared", "other", "architecture", "total")


@dataclass(frozen=True)
class Column:
    """A column; `name` is its heading and, in snake case, its name in CSV and JSON."""

    name: str
    kind: Kind = "text"


@dataclass(frozen=True)
class Table:
    """A title, columns, rows of cells of the columns' kinds, and notes to stand below."""

    title: str
    columns: tuple[Column, ...]
    rows: tuple[tuple[Any, ...], ...]
    caption: str = ""
    notes: tuple[str, ...] = ()


def comparison_table(comparison: Comparison) -> Table:
    """One row per arm: parameters (the roles that differ), perplexities, and the difference from the first arm."""
    roles = _roles_that_differ(comparison.arms)
    parameters = [Column("parameters" if role == "total" else role, "count") for role in roles]
    perplexities = [Column(split, "spread") for split in SPLITS]
    headlines = {contrast.arm: contrast.headline for contrast in comparison.contrasts}
    scored = next((headline.split for headline in headlines.values() if headline), "test")
    columns = [Column("arm"), *parameters, *perplexities, Column(f"{scored} change", "change"), Column("p", "p")]
    rows = []
    for summary in comparison.arms:
        difference = headlines.get(summary.arm)
        counts = [getattr(summary.parameters, role) for role in roles]
        spreads = [summary.perplexity.get(split) for split in SPLITS]
        p = difference.adjusted_p if difference else None
        rows.append((summary.arm, *counts, *spreads, difference, p))
    return _without_empty_columns(
        Table(
            title=f"{comparison.experiment}: perplexity by arm",
            columns=tuple(columns),
            rows=tuple(rows),
            caption=comparison.caption,
            notes=(*(contrast.sentence + "." for contrast in comparison.contrasts), *comparison.notes),
        )
    )


def runs_table(records: Sequence[Record]) -> Table:
    """One row per arm of each experiment: parameters by role, perplexities, bits per byte, tokens per second."""
    experiments = dict.fromkeys(record.experiment for record in records)
    rows = []
    for experiment in experiments:
        arms = group_by_arm(record for record in records if record.experiment == experiment)
        rows += [_arm_row(experiment, arm, found) for arm, found in arms.items()]
    columns = [Column("experiment"), Column("arm"), Column("seeds", "count")]
    columns += [Column(role, "count") for role in ROLES]
    columns += [Column(split, "spread") for split in SPLITS]
    columns += [Column("test by word", "spread"), Column("bits per byte", "spread"), Column("tokens/s", "spread")]
    running = "Train is a full pass where there was one, else the running perplexity, dropout included."
    notes = (running,) if records and not has_train_pass(records) else ()
    return Table(title="runs", columns=tuple(columns), rows=tuple(rows), notes=notes)


def _arm_row(experiment: str, arm: str, records: list[Record]) -> tuple[Any, ...]:
    tests = [record.evaluations.get("test") for record in records]
    valids = [record.evaluations.get("valid") for record in records]
    trains = [_train_perplexity(record) for record in records]
    return (
        experiment,
        arm,
        len(records),
        *(_agreed([getattr(record.parameters, role) for record in records]) for role in ROLES),
        measure_spread(trains),
        measure_spread(valid and valid.perplexity for valid in valids),
        measure_spread(test and test.perplexity for test in tests),
        measure_spread(test and test.word_perplexity for test in tests),
        measure_spread(test and test.bits_per_byte for test in tests),
        measure_spread(record.cost.tokens_per_second for record in records),
    )


def _train_perplexity(record: Record) -> float | None:
    full_pass = record.evaluations.get("train")
    return full_pass.perplexity if full_pass else record.training_perplexity


def _agreed(values: list[int]) -> int | None:
    """The value that all runs share; None where they do not."""
    return values[0] if len(set(values)) == 1 else None


def _roles_that_differ(arms: list[ArmSummary]) -> list[str]:
    differing = [role for role in ROLES[:-1] if len({getattr(arm.parameters, role) for arm in arms}) > 1]
    return [*differing, "total"]


def _without_empty_columns(table: Table) -> Table:
    kept = [place for place, _ in enumerate(table.columns) if any(row[place] is not None for row in table.rows)]
    columns = tuple(table.columns[place] for place in kept)
    rows = tuple(tuple(row[place] for place in kept) for row in table.rows)
    return Table(table.title, columns, rows, table.caption, table.notes)
