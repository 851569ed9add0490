"""The cells of a grid, each compared by itself: the tool's own comparison, told in bits per byte.

Both arms of a cell have one vocabulary, so a difference per token and one per byte are the same difference in two
units. Per byte, cells with different vocabularies can stand beside one another.
"""

from collections.abc import Callable, Sequence

from tiebench.comparison.contrast import Contrast
from tiebench.comparison.difference import Difference, TokenNLL
from tiebench.comparison.pairing import ArmSummary, compare_arms
from tiebench.comparison.sequential import Outcome
from tiebench.errors import UsageError
from tiebench.experiment.block import Block
from tiebench.experiment.grid import Cell, Grid
from tiebench.experiment.tuning_config import TunedValues
from tiebench.results.curve import CurvePoint
from tiebench.results.record import Record
from tiebench.results.selection import put_baseline_first


class CellResult(Block):
    """What was found in a cell, `values` as a person reads them; no `contrast` where an arm has no finished run.

    `num_runs` are those that the file asks for, of which `num_finished` are there. `tuned` is what trials chose for
    each arm, and from what; empty where the values were written.
    """

    experiment: str
    values: dict[str, str]
    num_runs: int
    num_finished: int
    arms: list[ArmSummary] = []
    tuned: dict[str, TunedValues] = {}
    contrast: Contrast | None = None

    @property
    def outcome(self) -> Outcome | None:
        """None where nothing could be compared."""
        return self.contrast.outcome if self.contrast else None

    @property
    def headline(self) -> Difference | None:
        return self.contrast.headline if self.contrast else None


def compare_cells(
    grid: Grid,
    records: Sequence[Sequence[Record]],
    *,
    token_nll: TokenNLL,
    curve: Callable[[Record], Sequence[CurvePoint]] = lambda record: (),
    seeds: Sequence[int] = (),
) -> list[CellResult]:
    """Compare the two arms of every cell over its finished runs.

    `seeds` are those that were asked for; none: those of the file. Raises UsageError, naming cell and field, for runs
    that may not be compared.
    """
    results = []
    for cell, found in zip(grid.cells, records, strict=True):
        keys = [axis.key for axis in grid.axes]
        result = CellResult(
            experiment=cell.experiment.name,
            values={key: value.shown for key, value in zip(keys, cell.values, strict=True)},
            num_runs=len(cell.experiment.list_runs(seeds=list(seeds))),
            num_finished=len(found),
        )
        results.append(_compare_cell(result, cell, found, token_nll=token_nll, curve=curve))
    return results


def _compare_cell(
    result: CellResult,
    cell: Cell,
    records: Sequence[Record],
    *,
    token_nll: TokenNLL,
    curve: Callable[[Record], Sequence[CurvePoint]],
) -> CellResult:
    """The result with its contrast, where both arms have a finished run."""
    by_arm = {arm: [record for record in records if record.arm == arm] for arm in cell.experiment.arms}
    if not all(by_arm.values()):
        return result
    try:
        comparison = compare_arms(put_baseline_first(by_arm), token_nll=token_nll, curve=curve)
    except UsageError as error:
        raise UsageError(f"{result.experiment}: {error.message}", error.hint) from error
    (contrast,) = comparison.contrasts
    lengths = {split: count_tokens_per_byte(records[0], split) for split in contrast.differences}
    differences = {split: scale_to_bytes(each, lengths[split]) for split, each in contrast.differences.items()}
    contrast = contrast.model_copy(update={"differences": differences})
    choices = {arm: found[0].tuned for arm, found in by_arm.items()}
    tuned = {arm: found for arm, found in choices.items() if found is not None}
    return result.model_copy(update={"arms": comparison.arms, "tuned": tuned, "contrast": contrast})


def count_tokens_per_byte(record: Record, split: str) -> float:
    """The tokens per byte of a split, with the vocabulary of this run."""
    evaluation = record.evaluations[split]
    return evaluation.tokens / evaluation.bytes


def scale_to_bytes(difference: Difference, tokens_per_byte: float) -> Difference:
    """A difference in nats per token as the same one in nats per byte; its test and its p stay as they are."""
    scaled = {name: _scale(getattr(difference, name), tokens_per_byte) for name in _NATS}
    for source in ("seeds", "text"):
        found = getattr(difference, source)
        if found is not None:
            scaled[source] = found.model_copy(
                update={name: _scale(getattr(found, name), tokens_per_byte) for name in _NATS_OF_SOURCE}
            )
    return difference.model_copy(update={"unit": "byte", **scaled})


def _scale(nats: float | None, factor: float) -> float | None:
    return None if nats is None else nats * factor


_NATS = ("ln_ratio", "reference", "low", "high", "error", "deviation")
_NATS_OF_SOURCE = ("low", "high", "error")
