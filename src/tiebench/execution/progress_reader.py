"""Follows a run on another machine through the files in its folder, and tells a callback on this one."""

from contextlib import suppress
from pathlib import Path

from tiebench.errors import TiebenchError
from tiebench.experiment.run_spec import RunSpec
from tiebench.results.curve import CurvePoint, read_curve
from tiebench.results.heartbeat_file import Heartbeat, read_heartbeat
from tiebench.results.record import Record
from tiebench.results.store import REPLACEMENT_FOLDER
from tiebench.training.callbacks import Callback


class ProgressReader:
    """Each look tells what is new since the one before: stages, tokens, evaluations and messages."""

    def __init__(self, run: RunSpec, *, folder: Path, callback: Callback) -> None:
        self.run, self.folder, self.callback = run, folder, callback
        before = self._read_points()
        self.last_step = before[-1].step if before else 0
        self.tokens_before = before[-1].tokens if before else 0
        self.has_begun = False
        self.last: Heartbeat | None = None

    def look(self) -> None:
        """Tell what is new; nothing where there is no heartbeat, not yet or not any more."""
        heartbeat = read_heartbeat(self.folder)
        if heartbeat is None or heartbeat.run != self.run.name:
            return
        last = self.last if self.last and self.last.started_at == heartbeat.started_at else None
        self._tell_messages(heartbeat, last)
        if heartbeat.parameters is not None:
            if not self.has_begun:
                self.callback.start_run(self.run, parameters=heartbeat.parameters)
                self.has_begun = True
            self._tell_stage(heartbeat, last)
            self._tell_evaluations(self._read_points())
        self.last = heartbeat

    def finish(self, record: Record) -> None:
        """Tell what was not told yet: all of it, for a run that ended between two looks."""
        if not self.has_begun:
            self.callback.start_run(self.run, parameters=record.parameters)
            self.callback.start_stage("train", total_tokens=record.usage.tokens, done_tokens=self.tokens_before)
        self._tell_evaluations(self._read_points())
        self.callback.finish_run(record, reused=False)

    def _tell_messages(self, heartbeat: Heartbeat, last: Heartbeat | None) -> None:
        num_new = heartbeat.num_messages - (last.num_messages if last else 0)
        for message in heartbeat.messages[-num_new:] if num_new > 0 else ():
            self.callback.say(message)

    def _tell_stage(self, heartbeat: Heartbeat, last: Heartbeat | None) -> None:
        """`preparing` is no stage of training, so nothing is told of it."""
        known = last is not None and last.parameters is not None and last.stage == heartbeat.stage
        done = last.done_tokens if last is not None and known else 0
        if heartbeat.stage == "preparing":
            return
        if not known or heartbeat.done_tokens < done:
            self.callback.start_stage(
                heartbeat.stage, total_tokens=heartbeat.total_tokens, done_tokens=heartbeat.done_tokens
            )
        elif heartbeat.done_tokens > done:
            self.callback.advance(heartbeat.done_tokens - done, nll_per_token=heartbeat.nll_per_token)

    def _tell_evaluations(self, points: list[CurvePoint]) -> None:
        for point in points:
            if point.step > self.last_step:
                self.last_step = point.step
                self.callback.report_evaluation(point)

    def _read_points(self) -> list[CurvePoint]:
        aside = self.folder / REPLACEMENT_FOLDER
        with suppress(TiebenchError, OSError):
            return read_curve(aside if aside.exists() else self.folder)
        return []
