"""What specs foretell is what the models do."""

import pytest

from tiebench.comparison.checks import RECURRENT
from tiebench.experiment.schema import ARCHITECTURES
from tiebench.models.language_model import build_model


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_the_architectures_that_carry_a_state_are_known(name, make_arm):
    model = build_model(make_arm(architecture=name), vocabulary_size=30)
    assert model.architecture.recurrent == (name in RECURRENT)
