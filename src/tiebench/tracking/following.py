"""The trackers of a command: checked before anything is trained, opened for each run, closed at the end."""

from collections.abc import Callable, Sequence
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

from tiebench.errors import UsageError, did_you_mean
from tiebench.experiment.run_spec import RunSpec
from tiebench.tracking.tracker import Tracker
from tiebench.training.callbacks import Callback, CallbackList


class _Entry(NamedTuple):
    """Where a tracker is, and the package that it needs; the extra of pyproject.toml has the tracker's name."""

    module: str
    name: str
    package: str


TRACKERS = {
    "tensorboard": _Entry("tensorboard", "TensorBoardTracker", "tensorboard"),
    "trackio": _Entry("weights_and_biases", "TrackioTracker", "trackio"),
    "wandb": _Entry("weights_and_biases", "WandbTracker", "wandb"),
}


def check_trackers(names: Sequence[str]) -> None:
    """Raises UsageError for a tracker that does not exist, or whose package is not installed."""
    for name in names:
        if name not in TRACKERS:
            raise UsageError(f"there is no tracker '{name}'", did_you_mean(name, TRACKERS))
        if find_spec(TRACKERS[name].package) is None:
            hint = f"pip install 'tiebench[{name}]', or leave {name} out (--track, or callbacks in tiebench.toml)"
            raise UsageError(f"the tracker '{name}' needs the package {TRACKERS[name].package}", hint)


class Tracking:
    """Trackers of these names for every run that is followed; their files lie in or beside `results`."""

    def __init__(self, names: Sequence[str], *, results: Path) -> None:
        self.names, self.results = list(dict.fromkeys(names)), results
        self.trackers: list[Tracker] = []

    def follow(self, watch: Callable[[RunSpec, int], Callback]) -> Callable[[RunSpec, int], Callback]:
        """`watch`, with this command's trackers beside each callback that it gives."""
        return lambda run, index: CallbackList([watch(run, index), *self._open(run)])

    def close(self) -> None:
        """Close what runs that did not finish left open."""
        for tracker in self.trackers:
            tracker.end()

    def _open(self, run: RunSpec) -> list[Tracker]:
        found = []
        for entry in (TRACKERS[name] for name in self.names):
            tracker = getattr(import_module(f"tiebench.tracking.{entry.module}"), entry.name)
            found.append(tracker(run, results=self.results))
        self.trackers += found
        return found
