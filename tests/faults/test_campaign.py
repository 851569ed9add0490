"""The short version of every campaign; `make faults` is the long one."""

import importlib

import pytest

NUM_TRIALS = {"crashpoints": 6, "powerloss": 5, "damage": 8, "fuzz": 30, "processes": 2, "hostile": 12}


@pytest.mark.parametrize("name", NUM_TRIALS)
def test_nothing_is_lost_or_blocked_or_different_or_a_traceback(name, shell, tmp_path):
    found = importlib.import_module(name).run_campaign(shell, tmp_path, seed=7, num_trials=NUM_TRIALS[name])
    assert found.num_trials >= NUM_TRIALS[name]
    assert not found.problems, str(found)
