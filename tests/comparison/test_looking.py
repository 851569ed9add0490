"""Looks at pairs of runs: what is decided follows from the runs in the order of looking, and comes back as written."""

import math

import pytest

from tiebench.comparison.looking import describe_look, find_looks_file, look_at_pairs, read_looks, write_looks
from tiebench.comparison.sequential import decide, replay_looks
from tiebench.errors import TiebenchError, UsageError


@pytest.fixture
def make_pairs(make_record):
    def make(untied, tied, **changes):
        return [
            (make_record("untied", seed, test=one), make_record("tied", seed, test=other, **changes))
            for seed, (one, other) in enumerate(zip(untied, tied, strict=True), start=1)
        ]

    return make


UNTIED, TIED = (114.0, 115.0, 114.6, 114.3), (110.0, 110.4, 110.9, 110.2)


def test_the_decision_is_that_of_the_looks_in_this_order(make_pairs):
    looks = look_at_pairs(make_pairs(UNTIED, TIED), margin=1.0)
    ours, baseline = ([math.log(value) for value in arm] for arm in (TIED, UNTIED))
    expected = decide(replay_looks(ours, baseline), margin=math.log(1.01))
    assert looks.decision.outcome == expected.outcome == "better"
    assert looks.decision.difference == pytest.approx(expected.difference)
    assert len(looks.decision.looks) == 3 and looks.seeds == [1, 2, 3, 4] and looks.arms == ("untied", "tied")


def test_an_equivalence_takes_a_margin(make_pairs):
    close = (112.0, 112.1, 112.05, 112.02, 112.08), (112.03, 112.12, 112.0, 112.06, 112.04)
    assert look_at_pairs(make_pairs(*close), margin=None).decision.outcome == "undecided"
    assert look_at_pairs(make_pairs(*close), margin=1.0).decision.outcome == "equivalent"


def test_looks_come_back_as_they_were_written(make_pairs, tmp_path):
    looks = look_at_pairs(make_pairs(UNTIED, TIED), margin=1.0)
    assert read_looks(tmp_path, arms=("untied", "tied")) is None
    file = write_looks(looks, tmp_path)
    assert file.name == "comparison-untied-tied.json"
    assert read_looks(tmp_path, arms=("untied", "tied")) == looks


def test_a_damaged_file_is_named(make_pairs, tmp_path):
    find_looks_file(tmp_path, arms=("untied", "tied")).write_text("{", "utf-8")
    with pytest.raises(TiebenchError, match=r"comparison-untied-tied\.json is damaged"):
        read_looks(tmp_path, arms=("untied", "tied"))


def test_runs_that_may_not_be_compared_are_not_looked_at(make_pairs):
    with pytest.raises(UsageError, match="training.epochs differs"):
        look_at_pairs(make_pairs(UNTIED, TIED, changes=[("spec.training.epochs", 14)]), margin=None)


def test_a_look_is_a_line(make_pairs):
    first, *_, last = look_at_pairs(make_pairs(UNTIED, TIED), margin=None).decision.looks
    assert describe_look(first, unit="token").startswith("after 2 seeds per arm: change -3.8 % (no bound yet), p ")
    assert describe_look(last, unit="token").startswith("after 4 seeds per arm: change -3.6 % [-")
