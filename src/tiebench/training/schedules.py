"""The learning rate at each step, as a multiple of the configured one."""

import math

from tiebench.experiment import training_config as schema


def scale_learning_rate(
    schedule: schema.ScheduleConfig,
    *,
    step: int,
    num_steps: int,
    steps_per_epoch: int,
    num_plateaus: int,
) -> float:
    """The factor for a step (counted from 0) out of `num_steps`, after `num_plateaus` evaluations without gain."""
    if isinstance(schedule, schema.StepConfig):
        epoch = step // steps_per_epoch
        return schedule.factor ** max(0, epoch + 1 - schedule.hold_epochs)
    if isinstance(schedule, schema.PlateauConfig):
        return schedule.factor**num_plateaus
    if isinstance(schedule, schema.CosineConfig):
        return _follow_cosine(schedule, step=step, num_steps=num_steps)
    if isinstance(schedule, schema.InverseSqrtConfig):
        return min((step + 1) / schedule.warmup_steps, math.sqrt(schedule.warmup_steps / (step + 1)))
    return 1.0


def _follow_cosine(schedule: schema.CosineConfig, *, step: int, num_steps: int) -> float:
    if step < schedule.warmup_steps:
        return (step + 1) / schedule.warmup_steps
    done = (step - schedule.warmup_steps) / max(1, num_steps - schedule.warmup_steps)
    return schedule.final + (1 - schedule.final) * 0.5 * (1 + math.cos(math.pi * min(1.0, done)))
