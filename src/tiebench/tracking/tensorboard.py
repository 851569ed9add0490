"""TensorBoard: event files below `<results>/tensorboard/<experiment>/<arm>/seed-<n>/`.

Trials have the same place as among the results: `<experiment>/tuning/<arm>+<values>+<budget>/seed-<n>/`.
"""

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tiebench.experiment.run_spec import RunSpec
from tiebench.tracking.tracker import Tracker

FOLDER = "tensorboard"


class TensorBoardTracker(Tracker):
    """One folder of event files for a run; `tensorboard --logdir results/tensorboard` shows all of them."""

    def __init__(self, run: RunSpec, *, results: Path) -> None:
        super().__init__(run, results=results)
        self.folder = results / FOLDER / self.name

    def open(self, config: Mapping[str, Any], *, resumed: bool) -> None:
        from torch.utils.tensorboard import SummaryWriter

        if not resumed:
            shutil.rmtree(self.folder, ignore_errors=True)  # the curve of a run that this one replaces
        self.writer = SummaryWriter(str(self.folder))
        self.writer.add_text("spec", f"```json\n{json.dumps(config, indent=2)}\n```")

    def log(self, values: Mapping[str, float], *, step: int) -> None:
        for name, value in values.items():
            self.writer.add_scalar(name, value, step)
        self.writer.flush()

    def close(self, *, finished: bool) -> None:
        self.writer.close()
