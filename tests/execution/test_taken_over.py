"""Without flock, a run whose process falls silent is taken over; the old process ends when it wakes."""

import signal

import pytest
from engine_command import LONG, has_points, read_found, wait_for
from engine_command import start as start  # a fixture

from tiebench.results.curve import read_curve

OWNER_FILE = {"TIEBENCH_LOCKS": "owner-file:3"}


@pytest.mark.slow
def test_a_silent_run_goes_on_in_another_process_and_the_first_writes_nothing_more(start, write_experiment, tmp_path):
    config = write_experiment(training={**LONG, "epochs": 20}, arms={"tied": {"tie": True}})
    assert start(config, tmp_path / "whole", environment={}).wait()[0] == 0
    folder = tmp_path / "shared" / "tiny" / "tied" / "seed-1"
    first = start(config, tmp_path / "shared", environment=OWNER_FILE)
    wait_for(has_points(folder, 2))
    first.process.send_signal(signal.SIGSTOP)
    second = start(config, tmp_path / "shared", "--wait", environment=OWNER_FILE)
    points = len(read_curve(folder))
    wait_for(has_points(folder, points + 2))
    first.process.send_signal(signal.SIGCONT)
    code, said = first.wait()
    assert code == 1 and "tiny/tied/seed-1 was taken over by another process" in said, said
    code, said = second.wait()
    assert code == 0 and "going on from step" in said, said
    assert read_found(tmp_path / "shared") == read_found(tmp_path / "whole")
    assert not list(tmp_path.rglob("*.owner"))
