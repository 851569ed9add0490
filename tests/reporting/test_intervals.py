"""Intervals as characters: the parts stand where the figures are."""

import pytest

from tiebench.comparison.pairing import compare_arms
from tiebench.reporting.intervals import draw_intervals


def compare(arms):
    return compare_arms(arms, token_nll=lambda record: None)


def test_the_change_stands_between_the_ends_of_its_interval_and_left_of_no_change(three_seeds):
    comparison = compare(three_seeds)
    line, scale = draw_intervals(comparison, width=80)
    low, high = comparison.contrasts[0].headline.percent_interval
    start = len("tied  ")
    assert line.startswith("tied  |") and line.index(":") == start + 59 and line.count("|") == 2
    place = start + (comparison.contrasts[0].headline.percent - low) / (0 - low) * 59
    assert line.index("o") == pytest.approx(place, abs=0.5)
    assert line.rindex("|") == pytest.approx(start + (high - low) / (0 - low) * 59, abs=0.5)
    assert scale.strip() == f"{low:+.1f} % to +0.0 % test perplexity; o measured, |-| interval, : no change"


def test_arms_share_one_scale(three_seeds, make_record):
    worse = [make_record("tied-worse", seed, test=test) for seed, test in ((1, 118.0), (2, 118.9), (3, 118.1))]
    drawn = draw_intervals(compare(three_seeds | {"tied-worse": worse}), width=80)
    better, other = (line[len("tied-worse") :] for line in drawn[:2])
    assert better.index(":") == other.index(":")
    assert better.index("o") < better.index(":") < other.index("o")
    assert max(map(len, drawn)) <= 80


def test_without_an_interval_or_room_nothing_is_drawn(three_seeds):
    one = {arm: records[:1] for arm, records in three_seeds.items()}
    assert draw_intervals(compare(one), width=80) == []
    assert draw_intervals(compare(three_seeds), width=20) == []
