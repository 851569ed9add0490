"""What every cluster has in common, on one in this process: a job is done at once, or is lost."""

import pytest

from tiebench.errors import TiebenchError
from tiebench.execution import remote
from tiebench.execution.run import execute_run
from tiebench.execution.settings import Settings
from tiebench.experiment.loading import load_experiment
from tiebench.results.store import Store
from tiebench.training.callbacks import Callback


class Job(remote.RemoteJob):
    def __init__(self, run, settings):
        self.run, self.settings = run, settings

    def find_outcome(self):
        if self.run.arm == "untied":
            return remote.JobOutcome("lost")
        execute_run(self.run, settings=self.settings)
        return remote.JobOutcome("done")

    def cancel(self):
        raise AssertionError(f"{self.run.name} was cancelled")


class Cluster(remote.RemoteEngine):
    def submit(self, run, *, settings):
        if settings.wait:
            raise TiebenchError("the queue is full", "wait")
        return Job(run, settings)

    def close(self):
        pass


def test_a_lost_run_that_the_cluster_refuses_to_take_again_stops_no_other(write_experiment, tmp_path, monkeypatch):
    monkeypatch.setattr(remote, "REMOTE_POLL_SECONDS", 0.0)
    runs, records = load_experiment(write_experiment()).list_runs(), []
    settings = Settings(store=Store(tmp_path), device="cpu")
    cluster = Cluster(settings, lambda run, index: Callback(), cpus=1, most=None, on_record=records.append)
    with pytest.raises(TiebenchError, match="the queue is full"):
        cluster.execute(list(enumerate(runs)))
    assert [record.arm for record in records] == ["tied"]
