"""Who gains, as a table and as a picture: the change of each arm by how often the target stood in the training text."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from tiebench.comparison.frequency import FrequencyBin, name_decade
from tiebench.comparison.pairing import Comparison
from tiebench.errors import UsageError
from tiebench.reporting.plots import COLOURS, check_suffix, draw_panels, save_figure
from tiebench.reporting.tables import Column, Table

SOURCE_WORDS = {"seeds": "seeds", "text": "test text"}


def frequency_table(comparison: Comparison) -> Table | None:
    """A row for each decade of training counts: how many test tokens, the baseline's nats, and by arm the change and
    its part in the whole. None where no arm has bins.
    """
    known = {contrast.arm: contrast.by_frequency for contrast in comparison.contrasts if contrast.by_frequency}
    if not known:
        return None
    columns = [Column("in training"), Column("targets", "count"), Column(f"{comparison.baseline} nats", "number")]
    for arm in known:
        columns += [Column(f"{arm} change", "nats"), Column(f"{arm} part", "signed")]
    rows = []
    for same in zip(*known.values(), strict=True):  # all arms are scored on one text
        cells = [cell for each in same for cell in (each, each.part)]
        rows.append((same[0].seen, same[0].num_tokens, same[0].baseline, *cells))
    return Table(
        title=f"{comparison.experiment}: who gains, by training frequency of the target",
        columns=tuple(columns),
        rows=tuple(rows),
        caption=_describe_bins([each for bins in known.values() for each in bins], baseline=comparison.baseline),
        notes=(_add_parts(known),),
    )


def plot_by_frequency(comparison: Comparison, *, file: Path) -> Path:
    """Draw the change of each arm over training counts, with its intervals, as SVG, PNG or PDF. Returns the file.

    Raises UsageError for another suffix and where no arm has bins.
    """
    check_suffix(file)
    known = {contrast.arm: contrast.by_frequency for contrast in comparison.contrasts if contrast.by_frequency}
    if not known:
        raise UsageError("no change by training frequency to draw", "the runs kept no nats of their test tokens")
    figure, (axes,) = draw_panels(title=f"{comparison.experiment}: who gains")
    for place, (arm, bins) in enumerate(known.items()):
        across = [each.decade + 0.12 * (place - (len(known) - 1) / 2) for each in bins]
        reach = [_measure_reach(each) for each in bins]
        changes, colour = [each.difference for each in bins], COLOURS[place % len(COLOURS)]
        axes.errorbar(across, changes, list(zip(*reach, strict=True)), fmt="o-", color=colour, capsize=3, label=arm)
    decades = [each.decade for each in next(iter(known.values()))]
    axes.set_xticks(decades, [name_decade(decade) for decade in decades])
    axes.axhline(0, color="#888888", linewidth=0.8)
    axes.set_xlabel("times that the target stands in the training text")
    axes.set_ylabel(f"change in nats per token against {comparison.baseline}")
    axes.legend(frameon=False)
    return save_figure(figure, file=file)


def _measure_reach(found: FrequencyBin) -> tuple[float, float]:
    """How far the interval reaches below and above the change."""
    if found.low is None or found.high is None:
        return 0.0, 0.0
    return found.difference - found.low, found.high - found.difference


def _describe_bins(bins: Sequence[FrequencyBin], *, baseline: str) -> str:
    covered = dict.fromkeys(source for each in bins for source in each.covers)
    over = " and ".join(SOURCE_WORDS[source] for source in covered)
    intervals = f", with 95 % intervals over {over}, each bin by itself" if over else ""
    return (
        f"Change in nats per token of these targets against {baseline}, paired token by token{intervals}; below 0 the "
        "arm predicts them better. The parts of the bins add up to the change over the whole text."
    )


def _add_parts(known: Mapping[str, Sequence[FrequencyBin]]) -> str:
    told = [f"{arm} {sum(each.part for each in bins):+.4f}" for arm, bins in known.items()]
    return f"Over the whole test text, in nats per token: {', '.join(told)}."
