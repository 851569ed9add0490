"""The picture of trials: a line for each arm over a logarithmic axis, what was chosen, and what diverged."""

import os

from tiebench.reporting.tuning_plot import find_best, plot_tuning, refresh_tuning_plot
from tiebench.results.trials import ArmTuning, TuningResult, write_tuning

RATE, DECAY = "training.optimizer.learning_rate", "training.optimizer.weight_decay"


def make_tuning(figures, *, chosen):
    grid = {RATE: sorted({rate for rate, _ in figures}), DECAY: sorted({decay for _, decay in figures})}
    tuned = {"chosen": {RATE: chosen[0], DECAY: chosen[1]}, "grid": grid, "seeds": [101], "budget": {}}
    tuned |= {"num_trials": len(figures), "valid_perplexity": figures[chosen]}
    known = {"seed": 101, "signature": "0badcafe", "corpus": "12ab", "numerics": 1}
    trials = [
        {"values": {RATE: rate, DECAY: decay}, "valid_perplexity": found, **known}
        for (rate, decay), found in figures.items()
    ]
    return ArmTuning.model_validate({"tuned": tuned, "trials": trials})


TIED = make_tuning({(1, 0.0): 130.0, (1, 0.1): 125.0, (2, 0.0): 119.0, (2, 0.1): None, (4, 0.0): None, (4, 0.1): None},
                   chosen=(2, 0.0))  # fmt: skip
RESULT = TuningResult(experiment="tiny", arms={"untied": TIED, "tied": TIED})


def test_a_point_is_the_best_over_the_other_values_and_what_diverged_is_none():
    assert find_best(TIED, RATE) == {1: 125.0, 2: 119.0, 4: None}
    assert find_best(TIED, DECAY) == {0.0: 119.0, 0.1: 125.0}


def test_the_picture_names_arms_values_and_what_was_chosen(tmp_path):
    once, twice = (plot_tuning(RESULT, file=tmp_path / name) for name in ("once.svg", "twice.svg"))
    page = once.read_text()
    for label in ("untied  2", "tied  2", "learning_rate", "weight_decay", "validation perplexity", "tiny: trials"):
        assert f"<!-- {label}" in page, label
    assert once.read_bytes() == twice.read_bytes()


def test_it_is_drawn_anew_only_where_the_figures_are_newer(tmp_path):
    refresh_tuning_plot(tmp_path)
    assert list(tmp_path.iterdir()) == []
    figures = write_tuning(RESULT, tmp_path)
    refresh_tuning_plot(tmp_path)
    picture = tmp_path / "tuning.svg"
    picture.write_text("kept")
    refresh_tuning_plot(tmp_path)
    assert picture.read_text() == "kept"
    os.utime(figures, (picture.stat().st_mtime + 10,) * 2)
    refresh_tuning_plot(tmp_path)
    assert "tiny: trials" in picture.read_text()
