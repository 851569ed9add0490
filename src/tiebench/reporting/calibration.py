"""A/A: every pair of runs of one and the same arm, compared as if they were two arms. Any difference is a mistake.

Such pairs show what a p value of one run against another is worth: by the test text alone it says "different" far more
often than it should, since two seeds differ by more than the text explains; so no p is given from one seed unless the
deviation between seeds is known from other runs of the recipe.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

from tiebench.comparison.difference import SIGNIFICANCE, Difference, TokenNLL, estimate_differences, read_block_means
from tiebench.comparison.pairing import group_by_arm
from tiebench.comparison.student import find_t_chance
from tiebench.reporting.tables import Column, Table
from tiebench.results.record import Record


@dataclass(frozen=True)
class SamePair:
    """Two runs of one arm: p by the text alone, and the p that is given today, None where none is."""

    experiment: str
    arm: str
    text_p: float
    p: float | None


def compare_same_arms(records: Sequence[Record], *, token_nll: TokenNLL) -> list[SamePair]:
    """Every pair of seeds of every arm whose per-token nats were kept; other arms tell how much seeds vary."""
    pairs = []
    for experiment in dict.fromkeys(record.experiment for record in records):
        arms = group_by_arm(record for record in records if record.experiment == experiment)
        for arm, runs in arms.items():
            if len(runs) < 2:
                continue
            text, means = read_block_means({run.seed: [run] for run in runs}, token_nll=token_nll)
            for one, other in combinations(runs, 2):
                found = estimate_differences(
                    {"one": [one], "other": [other]},
                    split="test",
                    unit="token",
                    text=text,
                    arm_means={"one": means[one.seed], "other": means[other.seed]},
                    seed_rule="welch",
                    others=records,
                )["other"]
                if found.text is not None:
                    pairs.append(SamePair(experiment, arm, _find_text_p(found), found.p))
    return pairs


def calibration_table(pairs: Sequence[SamePair]) -> Table:
    """A row per arm: how many pairs of its runs would have been called different, then and now."""
    rows = []
    for experiment, arm in dict.fromkeys((pair.experiment, pair.arm) for pair in pairs):
        found = [pair for pair in pairs if (pair.experiment, pair.arm) == (experiment, arm)]
        rows.append((experiment, arm, *_count_pairs(found)))
    if len(rows) > 1:
        rows.append(("all", "", *_count_pairs(pairs)))
    columns = (
        Column("experiment"),
        Column("arm"),
        Column("pairs of one arm", "count"),
        Column("text alone: p < 0.05", "count"),
        Column("smallest such p", "p"),
        Column("today: with a p", "count"),
        Column("today: p < 0.05", "count"),
    )
    significant = sum(pair.text_p < SIGNIFICANCE for pair in pairs)
    caption = (
        "Two seeds of one arm are compared as if they were two arms: about one pair in twenty should have a p below "
        f"0.05. By the test text alone, {significant} of {len(pairs)} do. So a comparison of single seeds gets no p, "
        "unless other runs of the recipe tell how much seeds vary. Pairs that share a run are not independent; the "
        "tests have simulated pairs that are."
    )
    return Table("One arm against itself", columns, tuple(rows), caption=caption)


def _count_pairs(pairs: Sequence[SamePair]) -> tuple[int, int, float | None, int, int]:
    given = [pair.p for pair in pairs if pair.p is not None]
    return (
        len(pairs),
        sum(pair.text_p < SIGNIFICANCE for pair in pairs),
        min((pair.text_p for pair in pairs), default=None),
        len(given),
        sum(p < SIGNIFICANCE for p in given),
    )


def _find_text_p(difference: Difference) -> float:
    """The two-sided p that the error of the text alone would give (Student 1908)."""
    text = difference.text
    if text is None or not text.error:
        return float(not difference.ln_ratio)
    return 2 * find_t_chance(-math.fabs(difference.ln_ratio) / text.error, text.degrees_of_freedom)
