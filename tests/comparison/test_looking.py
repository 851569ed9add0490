"""Looks at pairs of runs: what is decided follows from the runs in the order of looking, and comes back as written."""

import math

import pytest

from tiebench.comparison.looking import (
    describe_look,
    find_looks_below,
    find_looks_file,
    look_at_pairs,
    read_looks,
    write_looks,
)
from tiebench.comparison.pairing import compare_arms
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


@pytest.fixture
def compare_later(make_pairs, tmp_path):
    """Compare as anybody does, long after `num_looked` of the pairs were added while looking."""

    def compare(num_looked, *, more=(), **options):
        pairs = make_pairs(UNTIED, TIED)
        folder = tmp_path / pairs[0][0].experiment
        folder.mkdir(exist_ok=True)
        write_looks(look_at_pairs(pairs[:num_looked], margin=None), folder)
        arms = {"untied": [one for one, _ in pairs], "tied": [other for _, other in pairs], **dict(more)}
        return compare_arms(arms, token_nll=lambda record: None, looks=find_looks_below(tmp_path), **options)

    return compare


def test_runs_that_were_added_while_looking_never_get_the_p_of_looking_once(compare_later, make_pairs):
    found = compare_later(4)
    (contrast,) = found.contrasts
    assert contrast.decision == look_at_pairs(make_pairs(UNTIED, TIED), margin=None).decision
    assert contrast.decision.p > contrast.headline.p
    assert "however often one looks, 4 seeds per arm" in contrast.sentence
    assert any("hold however often one looks" in note for note in found.notes)


@pytest.mark.parametrize("options", [{}, {"seed_rule": "paired"}])
def test_where_only_some_runs_were_looked_at_a_note_says_what_their_p_is_worth(compare_later, options):
    found = compare_later(3 if not options else 4, **options)
    assert found.contrasts[0].decision is None
    assert any("added while looking at" in note and "too small" in note for note in found.notes)


def test_of_three_arms_the_one_that_was_looked_at_is_named(compare_later, make_record):
    third = [make_record("tied-scaled", seed, test=111.0 + seed / 9) for seed in (1, 2, 3)]
    found = compare_later(4, more={"tied-scaled": third})
    assert [contrast.decision for contrast in found.contrasts] == [None, None]
    (note,) = (note for note in found.notes if "while looking" in note)
    assert note.startswith("Seeds of tied were added while looking at 4 pairs with untied")


def test_runs_that_were_trained_again_were_not_looked_at(make_pairs, tmp_path):
    pairs = make_pairs(UNTIED, TIED)
    (tmp_path / pairs[0][0].experiment).mkdir()
    write_looks(look_at_pairs(pairs, margin=None), tmp_path / pairs[0][0].experiment)
    arms = {name: [pair[place] for pair in pairs] for place, name in enumerate(("untied", "tied"))}
    later = {"finished": "2030-01-01T00:00:00+00:00"}
    again = {
        name: [each.model_copy(update={"provenance": each.provenance.model_copy(update=later)}) for each in records]
        for name, records in arms.items()
    }
    found = compare_arms(again, token_nll=lambda record: None, looks=find_looks_below(tmp_path))
    assert found.contrasts[0].decision is None and not any("while looking" in note for note in found.notes)
