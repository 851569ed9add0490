"""Weights & Biases, and Trackio, which has the same interface: one run of theirs for each seed."""

import os
import sys
from collections.abc import Mapping
from contextlib import redirect_stdout
from typing import Any

from tiebench.tracking.tracker import Tracker

PROJECT = "tiebench"


class WandbTracker(Tracker):
    """A run named after its seed, grouped by experiment and arm. Files go to `<results>/wandb/`.

    WANDB_PROJECT, WANDB_MODE=offline and the other variables of wandb have their effect. A run that goes on has the
    same id.
    """

    def open(self, config: Mapping[str, Any], *, resumed: bool) -> None:
        import wandb  # pyright: ignore[reportMissingImports]

        self.results.mkdir(parents=True, exist_ok=True)
        self.tracked = wandb.init(
            project=os.environ.get("WANDB_PROJECT", PROJECT),
            group=self.name.rpartition("/")[0],
            job_type=self.run.arm,
            tags=self.tags,
            name=self.name,
            id=f"{self.run.signature}-{self.run.arm}-{self.run.seed}",
            resume="allow" if resumed else None,
            reinit="create_new",  # several runs are followed at once
            dir=str(self.results),
            config=dict(config),
        )

    def log(self, values: Mapping[str, float], *, step: int) -> None:
        self.tracked.log(dict(values), step=step)

    def close(self, *, finished: bool) -> None:
        self.tracked.finish(exit_code=0 if finished else 1)


class TrackioTracker(Tracker):
    """As with Weights & Biases, on this machine: `trackio show --project tiebench`.

    Trackio prints on stdout, which is for results here, so its output goes to stderr.
    """

    def open(self, config: Mapping[str, Any], *, resumed: bool) -> None:
        import trackio  # pyright: ignore[reportMissingImports]

        with redirect_stdout(sys.stderr):
            self.tracked = trackio.init(
                project=PROJECT,
                group=self.name.rpartition("/")[0],
                name=self.name,
                config=dict(config),
                resume="allow" if resumed else "never",
                embed=False,
                auto_log_cpu=False,
                auto_log_gpu=False,
            )

    def log(self, values: Mapping[str, float], *, step: int) -> None:
        self.tracked.log(dict(values), step=step)

    def close(self, *, finished: bool) -> None:
        from trackio import context_vars, finish  # pyright: ignore[reportMissingImports]

        with redirect_stdout(sys.stderr):
            if context_vars.current_run.get() is self.tracked:
                finish()  # otherwise Trackio ends this run once more when Python ends
            else:
                self.tracked.finish()
