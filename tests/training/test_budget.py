"""How often a run is evaluated, by the length of its budget."""

import pytest

from tiebench.experiment.training_config import TrainingConfig
from tiebench.training.budget import plan_evaluations

SHARED = {"batch_size": 4, "window": 10, "optimizer": {"type": "sgd", "learning_rate": 1.0}}


@pytest.mark.parametrize(
    ("num_steps", "every"),
    [(300, 100), (100, 100), (99, 9), (50, 5), (7, 1)],  # of 100 steps in an epoch
)
def test_a_budget_below_an_epoch_is_evaluated_about_ten_times(num_steps, every):
    training = TrainingConfig.model_validate({**SHARED, "steps": num_steps})
    assert plan_evaluations(training, num_steps=num_steps, steps_per_epoch=100) == every


def test_what_the_file_says_comes_first():
    training = TrainingConfig.model_validate({**SHARED, "steps": 50, "evaluate_every": 40})
    assert plan_evaluations(training, num_steps=50, steps_per_epoch=100) == 40
