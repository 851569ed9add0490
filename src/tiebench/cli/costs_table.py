"""The table of what runs will cost on this machine."""

from collections.abc import Sequence
from typing import Any

from tiebench.execution.costs import HOUR, CostEstimate, list_uncountable
from tiebench.execution.environment import choose_device
from tiebench.reporting.tables import Column, Table


def costs_table(costs: Sequence[CostEstimate], *, device: str) -> Table:
    """A row per arm; the caption adds up what is still to do."""
    counts, amounts = ("runs to do", "tokens a run"), ("TFLOP a run", "hours a run", "hours")
    columns = [Column("experiment"), Column("arm"), *(Column(name, "count") for name in counts)]
    columns += [*(Column(name, "number") for name in amounts), Column("speed")]
    on_cpu = choose_device(device).type == "cpu"
    unit = "one core (--jobs auto, the default, takes all)" if on_cpu else f"the device ({device})"
    missing = list_uncountable(costs)
    notes = [f"{name}: its text is not here, so it cannot be counted and is not run." for name in missing]
    return Table(
        title="What it will cost on this machine",
        columns=tuple(columns),
        rows=tuple(_describe_cost(cost) for cost in costs),
        caption=f"{_add_up(costs)} of {unit}.",
        notes=(f"Hours are of {unit}, estimated from a few steps of training on synthetic ids.", *notes),
    )


def _add_up(costs: Sequence[CostEstimate]) -> str:
    """All that is still to do and could be counted."""
    num_runs = sum(cost.num_runs for cost in costs)
    known = [cost for cost in costs if cost.flops is not None]
    tokens = sum(cost.tokens * cost.num_runs for cost in known)
    teraflops = sum((cost.flops or 0.0) * cost.num_runs for cost in known) / 1e12
    hours = sum(cost.total_seconds or 0.0 for cost in known) / HOUR
    runs = "1 run" if num_runs == 1 else f"{num_runs} runs"
    return f"{runs} to do: {tokens:,} tokens, {teraflops:,.0f} TFLOP, about {hours:,.1f} hours"


def _describe_cost(cost: CostEstimate) -> tuple[Any, ...]:
    hours = None if cost.seconds is None else cost.seconds / HOUR
    total = None if hours is None else hours * cost.num_runs
    speed = "timed" if cost.timed else None if hours is None else "scaled"
    flops = None if cost.flops is None else cost.flops / 1e12
    return cost.run.experiment, cost.run.arm, cost.num_runs, cost.tokens or None, flops, hours, total, speed
