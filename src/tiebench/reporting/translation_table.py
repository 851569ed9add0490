"""BLEU and chrF by arm, and the difference in BLEU from the first arm with its interval."""

from tiebench.comparison.pairing import Comparison
from tiebench.reporting.tables import Column, Table, drop_empty_columns

SOURCES = {("text",): "sentences alone (other seeds may differ by more)", ("seeds", "text"): "sentences and seeds"}


def translation_table(comparison: Comparison) -> Table | None:
    """A row per arm: the change in BLEU, in points of 100, BLEU and chrF. None where nothing was translated."""
    arms = [arm for arm in comparison.arms if arm.translation is not None]
    if not arms:
        return None
    changes = {found.arm: found for found in comparison.bleu}
    columns = (Column("arm"), Column("BLEU change", "points"), Column("p", "p"), Column("BLEU", "spread"))
    rows = [
        (
            arm.arm,
            changes.get(arm.arm),
            changes[arm.arm].p if arm.arm in changes else None,
            arm.translation.bleu,
            arm.translation.chrf,
        )
        for arm in arms
        if arm.translation is not None
    ]
    first = next(iter(changes.values()), None)
    notes = []
    if first is not None:
        over = SOURCES[first.covers]
        notes.append(
            f"Change in BLEU against {comparison.baseline}, in points of 100, with its 95 % interval over {over}: "
            f"paired bootstrap over {first.num_sentences:,} sentences. Above 0 the arm translates better."
        )
    return drop_empty_columns(
        Table(
            title=f"{comparison.experiment}: translations of the test split",
            columns=(*columns, Column("chrF", "spread")),
            rows=tuple(rows),
            notes=(*notes, *dict.fromkeys(arm.translation.scored_by for arm in arms if arm.translation is not None)),
        )
    )
