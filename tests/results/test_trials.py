"""What is chosen from trials, and how it is told."""

import math

import pytest

from tiebench.errors import TiebenchError
from tiebench.experiment.tuning_config import TuningConfig
from tiebench.results.trials import (
    TUNING_FILE,
    ArmTuning,
    TrialResult,
    TuningResult,
    choose_values,
    describe_choice,
    read_tuning,
    write_tuning,
)

RATE, DECAY = "training.optimizer.learning_rate", "training.optimizer.weight_decay"


def choose(grid, perplexities, *, seeds=(101,)):
    """`perplexities`: by point of the grid, in order, one for each seed."""
    config = TuningConfig.model_validate({"grid": grid, "seeds": list(seeds), "epochs": 2})
    trials = [
        TrialResult(values=values, seed=seed, signature="0badcafe", corpus="12ab", numerics=1, valid_perplexity=found)
        for place, seed in enumerate(seeds)
        for values, found in zip(config.list_points(), (each[place] for each in perplexities), strict=True)
    ]
    return choose_values(config, trials), trials


def test_the_lowest_is_chosen_and_of_equal_ones_the_smallest():
    tuned, _ = choose({RATE: [4, 1, 2]}, [(130.0,), (120.0,), (125.0,)])
    assert tuned.chosen == {RATE: 2} and tuned.valid_perplexity == pytest.approx(120.0) and tuned.edges == []
    tuned, _ = choose({RATE: [4, 2, 1]}, [(130.0,), (120.0,), (120.0,)])
    assert tuned.chosen == {RATE: 2}
    tuned, _ = choose({RATE: [2, 1], DECAY: [0.1, 0]}, [(120.0,)] * 4)
    assert tuned.chosen == {RATE: 1, DECAY: 0}


def test_over_seeds_the_mean_of_ln_perplexity_decides():
    tuned, _ = choose({RATE: [1, 2]}, [(100.0, 400.0), (201.0, 201.0)], seeds=(101, 102))
    assert tuned.chosen == {RATE: 1} and tuned.valid_perplexity == pytest.approx(math.sqrt(100 * 400))
    assert tuned.num_trials == 4


def test_what_diverged_at_one_seed_comes_last():
    tuned, _ = choose({RATE: [1, 2]}, [(9_000.0, 9_000.0), (10.0, None)], seeds=(101, 102))
    assert tuned.chosen == {RATE: 1}
    assert choose({RATE: [1, 2]}, [(None,), (None,)])[0] is None


def test_an_edge_is_one_of_several_numbers():
    tuned, _ = choose({RATE: [1, 2, 4], DECAY: [0.1]}, [(130.0,), (125.0,), (120.0,)])
    assert tuned.edges == [RATE]
    tuned, _ = choose({"training.reduction": ["token_mean", "window_sum"]}, [(130.0,), (120.0,)])
    assert tuned.edges == [] and tuned.chosen == {"training.reduction": "window_sum"}


def test_a_choice_is_told_with_its_grid_and_a_warning_at_an_edge():
    tuned, _ = choose({RATE: [0.5, 1, 2]}, [(130.0,), (125.0,), (120.3,)])
    assert describe_choice("tied", tuned) == (
        "tied: learning_rate 2 of 0.5, 1, 2: valid perplexity 120.3; at the edge of its grid: widen it"
    )
    tuned, _ = choose({RATE: [1, 2, 4], DECAY: [0, 0.1]}, [(9.0,), (8.0,), (8.5,), (7.0,), (8.0,), (9.0,)])
    assert describe_choice("tied", tuned) == (
        "tied: learning_rate 2 of 1, 2, 4, weight_decay 0.1 of 0, 0.1: valid perplexity 7.0; "
        "at the edge of the grid of weight_decay: widen it"
    )


def test_the_whole_grid_is_kept_and_a_damaged_file_is_named(tmp_path):
    tuned, trials = choose({RATE: [1, 2]}, [(130.0,), (None,)])
    result = TuningResult(experiment="tiny", arms={"tied": ArmTuning(tuned=tuned, trials=trials)})
    write_tuning(result, tmp_path)
    assert read_tuning(tmp_path) == result and read_tuning(tmp_path / "nowhere") is None
    (tmp_path / TUNING_FILE).write_text("{}")
    with pytest.raises(TiebenchError, match="tuning.json is damaged"):
        read_tuning(tmp_path)
