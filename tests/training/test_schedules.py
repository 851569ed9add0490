"""Learning rates worked out by hand."""

import itertools

import pytest

from tiebench.experiment.training_config import (
    ConstantConfig,
    CosineConfig,
    InverseSqrtConfig,
    PlateauConfig,
    StepConfig,
)
from tiebench.training.schedules import scale_learning_rate


def list_factors(schedule, *, num_steps: int, steps_per_epoch: int = 1, num_plateaus: int = 0) -> list[float]:
    return [
        scale_learning_rate(
            schedule, step=step, num_steps=num_steps, steps_per_epoch=steps_per_epoch, num_plateaus=num_plateaus
        )
        for step in range(num_steps)
    ]


def test_zaremba_holds_for_four_epochs_and_then_halves_before_every_epoch():
    schedule = StepConfig(type="step", hold_epochs=4, factor=0.5)
    factors = list_factors(schedule, num_steps=21, steps_per_epoch=3)
    assert factors[:12] == [1.0] * 12
    assert factors[12:] == [0.5] * 3 + [0.25] * 3 + [0.125] * 3


def test_nothing_is_held_where_nothing_is_to_be_held():
    assert list_factors(StepConfig(type="step", hold_epochs=0, factor=0.5), num_steps=3) == [0.5, 0.25, 0.125]


def test_a_plateau_divides_once_for_each_evaluation_without_gain():
    schedule = PlateauConfig(type="plateau", factor=0.25)
    found = [list_factors(schedule, num_steps=1, num_plateaus=number)[0] for number in range(3)]
    assert found == [1.0, 0.25, 0.0625]


def test_cosine_warms_up_passes_the_middle_and_ends():
    schedule = CosineConfig(type="cosine", warmup_steps=4, final=0.1)
    factors = list_factors(schedule, num_steps=14)
    assert factors[:5] == [0.25, 0.5, 0.75, 1.0, 1.0]
    assert factors[9] == pytest.approx(0.55)  # half way between 1 and 0.1
    assert all(earlier > later for earlier, later in itertools.pairwise(factors[4:]))
    beyond = scale_learning_rate(schedule, step=14, num_steps=14, steps_per_epoch=1, num_plateaus=0)
    assert beyond == pytest.approx(0.1)


def test_a_warm_up_longer_than_training_only_rises():
    assert list_factors(CosineConfig(type="cosine", warmup_steps=10), num_steps=3) == [0.1, 0.2, 0.3]


def test_the_inverse_square_root_is_vaswanis_over_its_top():
    """Equation 3: width^-0.5 * min(step^-0.5, step * warmup^-1.5), with steps from 1."""
    factors = list_factors(InverseSqrtConfig(type="inverse_sqrt", warmup_steps=4), num_steps=16)
    width, top = 64, (64 * 4) ** -0.5
    theirs = [width**-0.5 * min(step**-0.5, step * 4**-1.5) for step in range(1, 17)]
    assert [top * factor for factor in factors] == pytest.approx(theirs)
    assert factors[3] == 1.0 and factors[15] == 0.5


def test_constant_is_constant():
    assert list_factors(ConstantConfig(type="constant"), num_steps=3, num_plateaus=2) == [1.0] * 3
