"""A comparison says what was tuned, and warns where arms had unequal trials."""

import pytest

from tiebench.comparison.tuning_notes import describe_tuning
from tiebench.experiment.tuning_config import TunedValues
from tiebench.results.trials import describe_trials

RATE = "training.optimizer.learning_rate"


@pytest.fixture
def tune(make_record):
    def make_tuned(arm, *, seeds=(101,), chosen=2):
        tuned = TunedValues(
            chosen={RATE: chosen},
            grid={RATE: [0.5, 1, 2]},
            seeds=list(seeds),
            budget={"epochs": 2},
            num_trials=3 * len(seeds),
            valid_perplexity=120.3,
            edges=[RATE] if chosen == 2 else [],
        )
        return make_record(arm).model_copy(update={"tuned": tuned})

    return make_tuned


def test_nothing_is_said_where_nothing_was_tuned(make_record):
    assert describe_tuning({"untied": [make_record("untied")], "tied": [make_record("tied")]}) == []


def test_equal_trials_are_said_once_and_each_arm_with_its_choice(tune):
    (note,) = describe_tuning({"untied": [tune("untied", chosen=1)], "tied": [tune("tied")]})
    assert note == (
        "Tuned by 3 trials for each arm on the validation split, at seed 101 for 2 epochs; the test split was not "
        "looked at. untied: learning_rate 1 of 0.5, 1, 2: valid perplexity 120.3. tied: learning_rate 2 of 0.5, 1, 2: "
        "valid perplexity 120.3; at the edge of its grid: widen it."
    )


def test_an_arm_without_trials_is_warned_of(tune, make_record):
    notes = describe_tuning({"untied": [make_record("untied")], "tied": [tune("tied")]})
    assert len(notes) == 2 and "Arms did not have equal trials (untied had none)" in notes[1]


def test_arms_with_other_trials_are_warned_of(tune):
    notes = describe_tuning({"untied": [tune("untied", seeds=(101, 102))], "tied": [tune("tied")]})
    assert len(notes) == 3 and "their trials differ" in notes[2]


def test_one_epoch_is_no_epochs(tune):
    tuned = tune("tied").tuned
    told = describe_trials(tuned.model_copy(update={"budget": {"epochs": 1}}))
    assert "at seed 101 for 1 epoch; the test split" in told
