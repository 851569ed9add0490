"""The `tuning:` block: what is tried, in which order, and what an experiment file may not ask for."""

import pytest

from tiebench.errors import UsageError
from tiebench.experiment.candidates import shorten_paths, write_plainly
from tiebench.experiment.loading import load_experiment

RATE = "training.optimizer.learning_rate"
DECAY = "training.optimizer.weight_decay"


@pytest.fixture
def load(write_experiment):
    def load_tuned(overrides=(), arms=None, **tuning):
        blocks = {"arms": arms} if arms else {}
        tuning = {"grid": {RATE: [2, 0.5]}, "seeds": [101]} | tuning
        return load_experiment(write_experiment(tuning=tuning, **blocks), overrides=overrides)

    return load_tuned


def test_small_values_come_first_and_all_combinations_are_tried(load):
    tuning = load(grid={RATE: [2, 0.5], DECAY: [0.1, 0]}).tuning
    values = [(candidate.values[RATE], candidate.values[DECAY]) for candidate in tuning.candidates["tied"]]
    assert values == [(0.5, 0), (0.5, 0.1), (2, 0), (2, 0.1)]
    for candidate in tuning.candidates["tied"]:
        optimizer = candidate.spec.training.optimizer
        assert (optimizer.learning_rate, optimizer.weight_decay) == (candidate.values[RATE], candidate.values[DECAY])
        assert candidate.trial == candidate.spec, "without a budget of its own, a trial has that of a run"


def test_a_budget_of_their_own_replaces_that_of_the_runs(load):
    candidate = load(steps=7).tuning.candidates["untied"][0]
    assert (candidate.trial.training.steps, candidate.trial.training.epochs) == (7, None)
    assert (candidate.spec.training.steps, candidate.spec.training.epochs) == (None, 2)


def test_a_tuned_value_need_not_be_written(write_experiment):
    training = {"epochs": 1, "batch_size": 4, "window": 10, "optimizer": {"type": "sgd"}}
    file = write_experiment(training=training, tuning={"grid": {RATE: [2, 0.5]}, "seeds": [101]})
    experiment = load_experiment(file)
    assert experiment.arms["tied"].training.optimizer.learning_rate == 0.5
    assert experiment.untuned == ["untied", "tied"] and all(run.is_untuned for run in experiment.list_runs())


def test_tuned_values_are_declared_and_only_named_arms_are_tuned(load):
    experiment = load(arms={"untied": {"tie": False}, "tied": {"tie": True}})
    assert RATE in experiment.declared
    assert load(**{"grid": {RATE: [1, 2]}}).untuned == ["untied", "tied"]


def test_arms_may_be_chosen(write_experiment):
    tuning = {"grid": {RATE: [2, 0.5]}, "seeds": [101], "arms": ["tied"]}
    experiment = load_experiment(write_experiment(tuning=tuning))
    assert experiment.untuned == ["tied"]
    assert [run.is_untuned for run in experiment.list_runs()] == [False, True]


def test_tuning_can_be_left_out_and_changed_on_the_command_line(load):
    experiment = load(overrides=["tuning=null", f"{RATE}=3"])
    assert experiment.tuning is None and experiment.arms["tied"].training.optimizer.learning_rate == 3
    changed = load(overrides=[f"tuning.grid={{{RATE}: [4]}}", "tuning.epochs=1"])
    assert [candidate.values for candidate in changed.tuning.candidates["tied"]] == [{RATE: 4}]
    assert changed.tuning.config.budget == {"epochs": 1}


@pytest.mark.parametrize(
    ("tuning", "says"),
    [
        (
            {"seeds": [1, 101]},
            "tuning.seeds: found [1, 101]; seeds that serve nothing else; the experiment trains",
        ),
        ({"seeds": [101, 101]}, "each seed once"),
        ({"seeds": []}, "tuning.seeds"),
        ({"grid": {}}, "tuning.grid"),
        ({"grid": {"learning_rate": [1]}}, "write the path of a training value"),
        ({"grid": {"architecture.width": [16]}}, "write the path of a training value"),
        ({"grid": {"training.epochs": [1, 2]}}, "the budget is not tuned"),
        ({"grid": {RATE: []}}, f"tuning.grid.{RATE}"),
        ({"grid": {RATE: 3}}, "expected a list"),
        ({"grid": {RATE: [1, 1.0]}}, f"tuning.grid.{RATE}: found [1, 1.0]; each value once"),
        ({"grid": {RATE: [1, -1]}}, f"tuning.grid.{RATE}: found -1; must be greater than 0"),
        ({"grid": {"training.optimizer.lerning_rate": [1]}}, "unknown key; did you mean 'learning_rate'?"),
        ({"grid": {"training.accumulate": [1, 3]}}, "accumulate (3) must divide batch_size (4)"),
        ({"grid": {RATE: [*range(1, 1002)]}}, "1,001 trials for each arm; at most 1,000"),
        ({"arms": ["tide"]}, "tuning.arms: found 'tide'; did you mean 'tied'?"),
        ({"epochs": 1, "steps": 3}, "give at most one budget, found epochs and steps"),
        ({"epoch": 1}, "did you mean 'epochs'?"),
    ],
)
def test_what_is_wrong_is_said_with_its_line(tuning, says, write_experiment):
    block = {"grid": {RATE: [2, 0.5]}, "seeds": [101]} | tuning
    with pytest.raises(UsageError) as error:
        load_experiment(write_experiment(tuning=block))
    assert says in error.value.message and "tiny.yaml:" in error.value.message


def test_a_value_that_would_be_replaced_without_a_word_is_refused(load):
    arms = {"untied": {"tie": False}, "tied": {"tie": True, "training": {"optimizer": {"learning_rate": 2}}}}
    with pytest.raises(UsageError, match=f"arms.tied.{RATE}: tuning.grid chooses it for every arm"):
        load(arms=arms)
    with pytest.raises(UsageError, match="leave tuning out: --set tuning=null"):
        load(overrides=[f"{RATE}=3"])


def test_names_are_as_short_as_they_can_be_told_apart():
    assert shorten_paths([RATE, DECAY]) == {RATE: "learning_rate", DECAY: "weight_decay"}
    roles = [f"training.optimizer.roles.{role}.learning_rate" for role in ("input", "output")]
    assert list(shorten_paths(roles).values()) == ["input.learning_rate", "output.learning_rate"]
    assert [write_plainly(value) for value in (1, 1.0, 3e-4, True, [0.9, 0.95], None)] == [
        "1", "1", "0.0003", "true", "0.9_0.95", "none",
    ]  # fmt: skip
