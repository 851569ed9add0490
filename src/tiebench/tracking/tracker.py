"""What every tracker does: it follows one run and shows its learning curve elsewhere."""

import logging
from abc import abstractmethod
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from tiebench.experiment.run_spec import RunSpec
from tiebench.results.curve import CurvePoint
from tiebench.results.record import Parameters, Record
from tiebench.training.callbacks import Callback

TRIAL_TAG = "trial"
_logger = logging.getLogger(__name__)


class Tracker(Callback):
    """Follows one run: begins with its training, logs every evaluation, ends with its figures.

    `results` is the folder of runs, beside which a tracker keeps its own files. A run that goes on is followed
    in the same place. A trial of `tuning:` has the tag `trial`. A tracker that fails is left out with a warning; the
    training goes on.
    """

    def __init__(self, run: RunSpec, *, results: Path) -> None:
        self.run, self.results = run, results
        self.name, self.tags = run.full_name, [TRIAL_TAG] if run.is_trial else []
        self.parameters: Parameters | None = None
        self.is_open = self.has_failed = False

    @abstractmethod
    def open(self, config: Mapping[str, Any], *, resumed: bool) -> None:
        """Begin, or go on where the run was interrupted. `config` holds the run's spec, seed and parameter counts."""

    @abstractmethod
    def log(self, values: Mapping[str, float], *, step: int) -> None:
        """Write values that belong to a step of the optimizer."""

    @abstractmethod
    def close(self, *, finished: bool) -> None:
        """End; `finished` when the run has its record."""

    def start_run(self, spec: RunSpec, *, parameters: Parameters) -> None:
        self.parameters = parameters

    def start_stage(self, name: str, *, total_tokens: int, done_tokens: int = 0) -> None:
        if name == "train" and not self.is_open:
            counts = self.parameters.model_dump() if self.parameters is not None else {}
            config = {
                "experiment": self.run.trial_of or self.run.experiment,
                "arm": self.run.arm,
                "seed": self.run.seed,
                "signature": self.run.signature,
                "tags": self.tags,
                **self.run.resolved,
                "parameters": counts,
            }
            self._attempt(lambda: self.open(config, resumed=done_tokens > 0))
            self.is_open = not self.has_failed

    def report_evaluation(self, point: CurvePoint) -> None:
        values = {
            "valid/perplexity": point.valid_perplexity,
            "train/nll_per_token": point.train_nll_per_token,
            "learning_rate": point.learning_rate,
            "epoch": point.epoch,
            "tokens": float(point.tokens),
            "tokens_per_second": point.tokens / point.seconds if point.seconds else None,
        }
        self._log(values, step=point.step)

    def finish_run(self, record: Record, *, reused: bool) -> None:
        values = {f"scored/{split}_perplexity": each.perplexity for split, each in record.evaluations.items()}
        self._log(values, step=record.usage.steps)
        self.end(finished=True)

    def end(self, *, finished: bool = False) -> None:
        """Close what is open."""
        if self.is_open:
            self.is_open = False
            self._attempt(lambda: self.close(finished=finished))

    def _log(self, values: Mapping[str, float | None], *, step: int) -> None:
        known = {name: value for name, value in values.items() if value is not None}
        if self.is_open and not self.has_failed:
            self._attempt(lambda: self.log(known, step=step))

    def _attempt(self, act: Callable[[], None]) -> None:
        try:
            act()
        except Exception as error:
            if not self.has_failed:
                _logger.warning("%s does not follow %s any more: %s", type(self).__name__, self.name, error)
            self.has_failed = True
