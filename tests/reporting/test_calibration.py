"""One arm against itself: whatever is found is a mistake, and the page counts it."""

import math

import numpy as np
import pytest

from tiebench.reporting.calibration import calibration_table, compare_same_arms
from tiebench.reporting.pages import render_results_readme

LEVEL = math.log(110.0)


@pytest.fixture
def runs(make_record):
    """Five seeds of two arms without any difference, seeds that vary by 0.008, and their nats on one text."""
    random = np.random.default_rng(5)
    text = random.exponential(4.7, size=82_430)
    records, nats = [], {}
    for arm in ("untied", "tied"):
        for seed in range(1, 6):
            own = text + random.normal(0, 0.3, size=text.size)
            own += LEVEL + random.normal(0, 0.008) - own.mean()
            record = make_record(arm, seed, test=math.exp(own.mean()))
            records.append(record)
            nats[arm, seed] = own.astype(np.float32)
    return records, lambda record: nats[record.arm, record.seed]


def test_the_text_alone_calls_one_arm_different_from_itself_and_a_known_deviation_does_not(runs):
    records, token_nll = runs
    pairs = compare_same_arms(records, token_nll=token_nll)
    assert len(pairs) == 20 and {pair.arm for pair in pairs} == {"tied", "untied"}
    assert sum(pair.text_p < 0.05 for pair in pairs) >= 10
    assert sum(pair.p < 0.05 for pair in pairs) <= 4, "four of twenty pairs, of only ten free ones"


def test_without_another_arm_no_p_is_given(runs):
    records, token_nll = runs
    pairs = compare_same_arms([record for record in records if record.arm == "tied"], token_nll=token_nll)
    assert len(pairs) == 10 and {pair.p for pair in pairs} == {None}


def test_the_table_counts(runs):
    records, token_nll = runs
    pairs = compare_same_arms(records, token_nll=token_nll)
    table = calibration_table(pairs)
    *_, total = table.rows
    assert total[2] == 20 and total[3] == sum(pair.text_p < 0.05 for pair in pairs)
    assert total[5] == 20 and total[6] == sum(pair.p < 0.05 for pair in pairs)
    assert f"{total[3]} of 20 do" in table.caption


def test_the_results_page_has_it_where_an_arm_has_two_seeds(runs):
    records, token_nll = runs
    assert "## One arm against itself" in render_results_readme(records, token_nll=token_nll)
    assert "against itself" not in render_results_readme(records[:1], token_nll=token_nll)
    assert "against itself" not in render_results_readme(records), "without nats there is nothing to count"
