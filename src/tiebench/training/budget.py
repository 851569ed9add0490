"""How long a run trains, and how often it is evaluated meanwhile."""

from tiebench.experiment.training_config import TrainingConfig


def plan_steps(training: TrainingConfig, *, steps_per_epoch: int) -> int:
    """The budget as a number of updates."""
    if training.epochs is not None:
        return training.epochs * steps_per_epoch
    if training.steps is not None:
        return training.steps
    assert training.tokens is not None, "one of the three is given"
    return -(-training.tokens // (training.batch_size * training.window))


def plan_evaluations(training: TrainingConfig, *, num_steps: int, steps_per_epoch: int) -> int:
    """Steps from one evaluation to the next: an epoch; where the budget is below one, about a tenth of the budget."""
    if training.evaluate_every is not None:
        return training.evaluate_every
    return steps_per_epoch if num_steps >= steps_per_epoch else max(1, num_steps // 10)
