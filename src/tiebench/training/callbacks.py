"""What a run reports while it trains; the command line turns it into progress bars, a tracker into curves."""

from collections.abc import Sequence

from tiebench.experiment.run_spec import RunSpec
from tiebench.results.curve import CurvePoint
from tiebench.results.record import Parameters, Record


class Callback:
    """Ignores all that it is told. Subclass it to show, count or forward."""

    def start_run(self, spec: RunSpec, *, parameters: Parameters) -> None:
        """A run begins or goes on."""

    def start_stage(self, name: str, *, total_tokens: int, done_tokens: int = 0) -> None:
        """A stage of the run begins: "train", or the name of the split that is scored."""

    def advance(self, num_tokens: int, *, nll_per_token: float | None = None) -> None:
        """`num_tokens` more tokens of the stage are done."""

    def report_evaluation(self, point: CurvePoint) -> None:
        """The validation split was scored."""

    def finish_run(self, record: Record, *, reused: bool) -> None:
        """The run's record is there; `reused` when it was there before."""

    def say(self, message: str) -> None:
        """Something a person should know now."""


class CallbackList(Callback):
    """Tells each of several callbacks, in their order."""

    def __init__(self, callbacks: Sequence[Callback]) -> None:
        self.callbacks = list(callbacks)

    def start_run(self, spec: RunSpec, *, parameters: Parameters) -> None:
        for callback in self.callbacks:
            callback.start_run(spec, parameters=parameters)

    def start_stage(self, name: str, *, total_tokens: int, done_tokens: int = 0) -> None:
        for callback in self.callbacks:
            callback.start_stage(name, total_tokens=total_tokens, done_tokens=done_tokens)

    def advance(self, num_tokens: int, *, nll_per_token: float | None = None) -> None:
        for callback in self.callbacks:
            callback.advance(num_tokens, nll_per_token=nll_per_token)

    def report_evaluation(self, point: CurvePoint) -> None:
        for callback in self.callbacks:
            callback.report_evaluation(point)

    def finish_run(self, record: Record, *, reused: bool) -> None:
        for callback in self.callbacks:
            callback.finish_run(record, reused=reused)

    def say(self, message: str) -> None:
        for callback in self.callbacks:
            callback.say(message)
