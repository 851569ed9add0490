"""A table is typed cells in named columns; how it looks is decided elsewhere, in `render`.

A column's kind says what its cells are: `text` (str), `count` (int), `number` (float), `signed` (float), `p` (float),
`spread` (Spread), `change` (Difference), `nats` (a `difference` from `low` to `high`, such as FrequencyBin) or `points`
(the same in points of 100, such as BleuDifference). A cell that is missing is None in every kind.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from tiebench.comparison.contrast import Contrast
from tiebench.comparison.pairing import ArmSummary, Comparison, group_by_arm, has_train_pass
from tiebench.comparison.spread import measure_spread
from tiebench.results.record import Record

CellKind = Literal["text", "count", "number", "signed", "p", "spread", "change", "nats", "points"]
ROLES = ("input", "output", "shared", "other", "architecture", "total")


@dataclass(frozen=True)
class Column:
    """A column; `name` is its heading and, in snake case, its name in CSV and JSON."""

    name: str
    kind: CellKind = "text"


@dataclass(frozen=True)
class Table:
    """A title, columns, rows with cells of the columns' kinds, and notes that stand below.

    The first `num_keys` columns name a row: where a table is too wide, they stand in every piece of it.
    """

    title: str
    columns: tuple[Column, ...]
    rows: tuple[tuple[Any, ...], ...]
    caption: str = ""
    notes: tuple[str, ...] = ()
    num_keys: int = 1


def comparison_table(comparison: Comparison) -> Table:
    """One row per arm: the change from the first arm, its p and that of an equivalence (`p within`), perplexities (bits
    per byte where vocabularies differ), parameters, and the epoch of the scored checkpoint. Below stand what the
    figures mean, and last what was decided.
    """
    headlines = {contrast.arm: contrast.headline for contrast in comparison.contrasts}
    p_values = {contrast.arm: (_find_p(contrast), _find_p_within(contrast)) for contrast in comparison.contrasts}
    splits = ("test", "valid")
    suffix = "" if comparison.unit == "token" else " bits/byte"
    columns = [Column("arm"), Column(f"{_find_split(comparison)} change", "change")]
    columns += [Column("p", "p"), Column("p within", "p")]
    columns += [Column(f"{split}{suffix}", "spread") for split in splits]
    columns += [Column("parameters", "count"), Column("epoch")]
    rows = []
    for summary in comparison.arms:
        measured = summary.perplexity if comparison.unit == "token" else summary.bits_per_byte
        spreads = [measured.get(split) for split in splits]
        total, epoch = summary.parameters.total, describe_epochs(summary.epochs)
        p, p_within = p_values.get(summary.arm, (None, None))
        rows.append((summary.arm, headlines.get(summary.arm), p, p_within, *spreads, total, epoch))
    metric = "perplexity" if comparison.unit == "token" else "bits per byte"
    return drop_empty_columns(
        Table(
            title=f"{comparison.experiment}: {metric} by arm",
            columns=tuple(columns),
            rows=tuple(rows),
            caption=comparison.caption,
            notes=(
                *_describe_arms(comparison.arms),
                *_explain_spreads(comparison.arms),
                *comparison.notes,
                *list_answers(comparison),
            ),
        )
    )


def list_answers(comparison: Comparison) -> list[str]:
    """The sentence in which each arm's comparison ends."""
    return [f"{contrast.sentence}." for contrast in comparison.contrasts]


def stack_comparisons(comparisons: Sequence[Comparison]) -> Table:
    """The rows of several comparisons under one heading, with a column that names the experiment of each.

    For programs, which read one heading; the columns are those of the first comparison, and a figure that another has
    in another unit or from another split stands in a column of its own.
    """
    tables = {comparison.experiment: comparison_table(comparison) for comparison in comparisons}
    columns = list(dict.fromkeys(column for table in tables.values() for column in table.columns))
    rows = []
    for experiment, table in tables.items():
        places = {column: place for place, column in enumerate(table.columns)}
        for row in table.rows:
            rows.append((experiment, *(row[places[column]] if column in places else None for column in columns)))
    notes = tuple(dict.fromkeys(note for table in tables.values() for note in table.notes))
    return Table("comparisons", (Column("experiment"), *columns), tuple(rows), notes=notes)


def describe_epochs(epochs: Sequence[float]) -> str | None:
    """The epochs of the scored checkpoints: `13`, or `6 to 13` where the runs differ; None where there are none."""
    if not epochs:
        return None
    low, high = (f"{round(end, 2):g}" for end in (min(epochs), max(epochs)))
    return low if low == high else f"{low} to {high}"


def runs_table(records: Sequence[Record]) -> Table:
    """One row per arm of each experiment: perplexities, parameters by role, speed.

    Perplexity by word stands where the tokens are words; over bytes or byte pairs it would mean something else.
    """
    experiments = dict.fromkeys(record.experiment for record in records)
    rows = []
    for experiment in experiments:
        arms = group_by_arm(record for record in records if record.experiment == experiment)
        rows += [_arm_row(experiment, arm, found) for arm, found in arms.items()]
    columns = [Column("experiment"), Column("arm"), Column("test", "spread"), Column("valid", "spread")]
    columns += [Column("parameters", "count"), Column("tokens/s", "spread"), Column("seeds", "count"), Column("epoch")]
    columns += [Column("train", "spread"), Column("test by word", "spread"), Column("bits per byte", "spread")]
    columns += [Column(role, "count") for role in ROLES[:-1]]
    notes = (
        "Test, valid and train are perplexities; over several seeds, means ± standard deviations. Test by word spreads "
        "the same nats over the words alone, without the ends of lines. Seeds is how many runs there are; input to "
        "architecture count parameters.",
    )
    if records and not has_train_pass(records):
        notes += ("Train is a full pass where there was one, else the running perplexity, dropout included.",)
    return Table("runs", tuple(columns), tuple(rows), notes=notes, num_keys=2)


def _arm_row(experiment: str, arm: str, records: list[Record]) -> tuple[Any, ...]:
    tests = [record.evaluations.get("test") for record in records]
    valids = [record.evaluations.get("valid") for record in records]
    by_word = [test if record.vocabulary.type == "words" else None for test, record in zip(tests, records, strict=True)]
    return (
        experiment,
        arm,
        measure_spread(test and test.perplexity for test in tests),
        measure_spread(valid and valid.perplexity for valid in valids),
        _agreed([record.parameters.total for record in records]),
        measure_spread(record.usage.tokens_per_second for record in records),
        len(records),
        describe_epochs([record.checkpoint.epoch for record in records]),
        measure_spread(_train_perplexity(record) for record in records),
        measure_spread(test and test.word_perplexity for test in by_word),
        measure_spread(test and test.bits_per_byte for test in tests),
        *(_agreed([getattr(record.parameters, role) for record in records]) for role in ROLES[:-1]),
    )


def _train_perplexity(record: Record) -> float | None:
    full_pass = record.evaluations.get("train")
    return full_pass.perplexity if full_pass else record.training_perplexity


def _agreed(values: list[int]) -> int | None:
    """The value that all runs share; None where they do not."""
    return values[0] if len(set(values)) == 1 else None


def _find_split(comparison: Comparison) -> str:
    """The split that the headlines are about."""
    headlines = [contrast.headline for contrast in comparison.contrasts]
    return next((headline.split for headline in headlines if headline), "test")


def _find_p(contrast: Contrast) -> float | None:
    """The adjusted p; where seeds were added while looking, the p that stays valid under looking."""
    if contrast.decision is not None:
        return contrast.decision.p
    return contrast.headline.adjusted_p if contrast.headline else None


def _find_p_within(contrast: Contrast) -> float | None:
    """The adjusted p of an equivalence; None without a margin, and where the looks decided, which have none."""
    if contrast.decision is not None or contrast.headline is None:
        return None
    return contrast.headline.adjusted_p_within


def _describe_arms(arms: Sequence[ArmSummary]) -> list[str]:
    """The parameters in the roles that differ, and the training perplexity, an arm after the other."""
    roles = [role for role in ROLES[:-1] if len({getattr(arm.parameters, role) for arm in arms}) > 1]
    notes = []
    if roles:
        told = [_list_roles(arm, roles) for arm in arms]
        notes.append(f"Parameters in the roles that differ: {'; '.join(told)}.")
    trains = {arm.arm: arm.perplexity["train"] for arm in arms if "train" in arm.perplexity}
    if trains:
        told = [f"{arm} {spread.mean:.1f}" for arm, spread in trains.items()]
        notes.append(f"Train perplexity: {', '.join(told)}.")
    return notes


def _explain_spreads(arms: Sequence[ArmSummary]) -> list[str]:
    """What a cell of several runs says."""
    if all(spread.deviation is None for arm in arms for spread in arm.perplexity.values()):
        return []
    return ["Test and valid: mean ± standard deviation over seeds (how many)."]


def _list_roles(arm: ArmSummary, roles: list[str]) -> str:
    counts = [f"{getattr(arm.parameters, role):,} {role}" for role in roles if getattr(arm.parameters, role)]
    return f"{arm.arm} {', '.join(counts) or 'none'}"


def drop_empty_columns(table: Table) -> Table:
    """The table without the columns that have no figure in any row."""
    kept = [place for place, _ in enumerate(table.columns) if any(row[place] is not None for row in table.rows)]
    columns = tuple(table.columns[place] for place in kept)
    rows = tuple(tuple(row[place] for place in kept) for row in table.rows)
    return replace(table, columns=columns, rows=rows)
