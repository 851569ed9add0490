"""How many runs `compare --until-decided` saves over a fixed number of seeds, replayed on published records.

    python benchmarks/replay_decisions.py press-wolf-2017-small untied tied

Trains nothing. Writes decisions.json and performance.md into --results.
"""

import argparse
import itertools
import json
import random
import statistics
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from tiebench.comparison.difference import read_nll
from tiebench.comparison.planning import compute_power
from tiebench.comparison.sequential import Decision, Look, decide, replay_looks, take_look
from tiebench.files import write_text
from tiebench.reporting.render import render_table
from tiebench.reporting.tables import Column, Table
from tiebench.results.record import Record
from tiebench.results.store import Store

FIXED_SEEDS = 10
NUM_DRAWS = 2000
MARGIN = 0.00995  # nats: 1 % of the perplexity, ln(1.01)
Draw = Callable[[], tuple[list[float], list[float]]]


def replay_records(baseline: Sequence[Record], ours: Sequence[Record]) -> dict[str, Any]:
    """Seeds per arm until the decision: in the order of the seeds, in all orders, and of drawn comparisons."""
    figures = [[read_nll(record.evaluations["test"], unit="token") for record in arm] for arm in (ours, baseline)]
    last = replay_looks(*figures)[-1]
    settings = {"deviation": last.deviation, "num_draws": NUM_DRAWS}
    seconds = [record.usage.train_seconds + record.usage.evaluation_seconds for record in (*baseline, *ours)]
    fixed = compute_power(last.difference, num_seeds=FIXED_SEEDS, deviation=last.deviation, rule="fixed")
    return {
        "num_seeds": len(ours),
        "difference": last.difference,
        "deviation": last.deviation,
        "hours_per_run": statistics.median(seconds) / 3600,
        "fixed_power": fixed,
        "rows": {
            "the runs, in the order of their seeds": summarise([decide(replay_looks(*figures))]),
            "the runs, in every order": summarise(map(decide, replay_orders(*figures))),
            "drawn, with this difference": summarise(draw_decisions(difference=last.difference, **settings)),
            "drawn, without a difference": summarise(draw_decisions(difference=0.0, **settings)),
            "drawn, without a difference, --margin 1%": summarise(
                draw_decisions(difference=0.0, margin=MARGIN, **settings)
            ),
        },
    }


def replay_orders(ours: Sequence[float], baseline: Sequence[float]) -> list[list[Look]]:
    """The looks at the same pairs of runs in each order in which they could have been trained."""
    orders = itertools.permutations(range(len(ours)))
    return [replay_looks(*([arm[place] for place in order] for arm in (ours, baseline))) for order in orders]


def draw_decisions(
    *, difference: float, deviation: float, num_draws: int, margin: float | None = None, most_seeds: int = FIXED_SEEDS
) -> list[Decision]:
    """The decisions on drawn comparisons, each looked at after every pair until it is decided."""
    generator = random.Random(0)
    decisions = []
    for _ in range(num_draws):
        ours, baseline, looks = [], [], []
        for num_pairs in range(1, most_seeds + 1):
            ours.append(generator.gauss(difference, deviation))
            baseline.append(generator.gauss(0.0, deviation))
            if num_pairs < 2:
                continue
            looks.append(take_look(ours, baseline, earlier=looks))
            if decide(looks[-1:], margin=margin).outcome != "undecided":
                break
        decisions.append(decide(looks, margin=margin))
    return decisions


def summarise(decisions: Iterable[Decision]) -> dict[str, Any]:
    """Median, 90th percentile and maximum of the seeds per arm (for the undecided: all they had), and the outcomes."""
    decisions = list(decisions)
    seeds = sorted(decision.num_ours for decision in decisions)
    outcomes = [decision.outcome for decision in decisions]
    return {
        "num_comparisons": len(seeds),
        "median": statistics.median(seeds),
        "ninetieth": seeds[-(-9 * len(seeds) // 10) - 1],
        "most": seeds[-1],
        "outcomes": {name: outcomes.count(name) / len(outcomes) for name in dict.fromkeys(sorted(outcomes))},
    }


def render_decisions(content: list[dict[str, Any]]) -> str:
    """A table for each pair of arms."""
    return "\n".join(render_table(_tabulate(found), format="markdown") for found in content)


def _tabulate(found: dict[str, Any]) -> Table:
    columns = (
        Column("comparisons"),
        Column("number", "count"),
        Column("seeds per arm, median (90 %, most)"),
        Column("runs saved of 20", "number"),
        Column("hours saved", "number"),
        Column("ended"),
    )
    rows = []
    for name, row in found["rows"].items():
        saved = 2 * (FIXED_SEEDS - row["median"])
        ended = ", ".join(f"{outcome} {share:.1%}" for outcome, share in row["outcomes"].items())
        seeds = f"{row['median']:g} ({row['ninetieth']}, {row['most']})"
        rows.append((name, row["num_comparisons"], seeds, saved, saved * found["hours_per_run"], ended))
    caption = (
        f"`compare --until-decided` at 5 % error against {FIXED_SEEDS} seeds per arm, fixed beforehand. The runs saved "
        f"are those of the median comparison. A run took {found['hours_per_run']:.2f} hours of these machines (the "
        f"median of the records; some trained beside other work). There are {found['num_seeds']} seeds per arm, with a "
        f"difference of {found['difference']:+.4f} nats per token and a deviation between seeds of "
        f"{found['deviation']:.4f}. More seeds than there are cannot be replayed, so the rows `drawn` have figures "
        "from normal distributions with this difference (or none) and this deviation, as if it were known, although "
        f"few seeds estimated it. They are looked at after every pair, up to {FIXED_SEEDS}; an undecided comparison "
        f"saves nothing. A t test that looks once, at {FIXED_SEEDS} seeds, would find this difference in "
        f"{found['fixed_power']:.1%} of such comparisons. Decisions are about this test text."
    )
    return Table(f"Less work per answer: {found['experiment']}, {' and '.join(found['arms'])}", columns, rows, caption)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("experiment")
    parser.add_argument("arms", nargs=2, metavar="BASELINE ARM")
    parser.add_argument("--results", type=Path, default=Path("results"))
    asked = parser.parse_args()
    from performance_page import refresh_page

    records = [record for record in Store(asked.results).records() if record.experiment == asked.experiment]
    by_arm = [{record.seed: record for record in records if record.arm == arm} for arm in asked.arms]
    seeds = sorted(by_arm[0].keys() & by_arm[1].keys())
    if len(seeds) < 2:
        raise SystemExit(f"{asked.results} has {len(seeds)} pairs of {asked.experiment}: a replay needs two or more")
    found = replay_records(*([arm[seed] for seed in seeds] for arm in by_arm))
    content = [{"experiment": asked.experiment, "arms": asked.arms, **found}]
    write_text(json.dumps(content, indent=1) + "\n", file=asked.results / "decisions.json")
    refresh_page(asked.results)


if __name__ == "__main__":
    main()
