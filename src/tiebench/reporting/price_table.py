"""Perplexity paid for parameters saved: a table, and a point for each arm in a plot."""

from typing import TYPE_CHECKING

from tiebench.comparison.prices import MILLION
from tiebench.reporting.tables import Column, Table

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from tiebench.comparison.pairing import Comparison


def has_prices(comparison: "Comparison") -> bool:
    """Whether a table is needed: for one arm alone, its sentence says what it saves and what it costs."""
    return len(comparison.prices) > 1


def price_table(comparison: "Comparison") -> Table:
    """One row per arm that saves parameters: how many, where, the change in nats, and per cent per million saved."""
    metric = _name_metric(comparison)
    unit = "token" if comparison.unit == "token" else "byte"
    columns = (
        Column("arm"),
        Column("saved", "count"),
        Column("in embeddings", "count"),
        Column("in layers", "count"),
        Column(f"nats/{unit}", "number"),
        Column("per million", "change"),
    )
    rows = [
        (each.arm, each.saved, each.saved_in_embeddings, each.saved_in_layers, each.ln_ratio, each)
        for each in comparison.prices
    ]
    notes = (
        f"Per million: change of {metric} for each million parameters saved against {comparison.baseline}, with its "
        "95 % interval; below zero nothing is paid. Saved in embeddings: both ends and what belongs to them.",
    )
    title = f"{comparison.experiment}: {metric} paid for parameters saved"
    return Table(title, columns, tuple(rows), notes=notes)


def draw_prices(axes: "Axes", colours: dict[str, str], *, comparison: "Comparison") -> None:
    """A point per arm, with the interval of its change from the baseline, over its parameters in millions."""
    changes = {contrast.arm: contrast for contrast in comparison.contrasts if contrast.headline}
    for arm in comparison.arms:
        across, colour = arm.parameters.total / MILLION, colours.get(arm.arm, "#000000")
        contrast = changes.get(arm.arm)
        change = contrast.headline.percent if contrast and contrast.headline else 0.0
        if contrast and contrast.interval_percent:
            axes.plot([across, across], contrast.interval_percent, color=colour, linewidth=1.4)
        if contrast or arm.arm == comparison.baseline:
            axes.plot([across], [change], marker="o", color=colour, linestyle="")
    axes.axhline(0, color="#999999", linewidth=0.8, linestyle=":")
    axes.set_xlabel("parameters (millions)")
    axes.set_ylabel(f"change of {_name_metric(comparison)} from {comparison.baseline} (%)")


def _name_metric(comparison: "Comparison") -> str:
    return "perplexity" if comparison.unit == "token" else "bits per byte"
