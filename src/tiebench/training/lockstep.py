"""Runs that are alike, from their specs to their records, with one step for all of them.

All that lies between two steps (evaluations, checkpoints, the last scores) is each run's own and is done in turn.
A run that is behind the others after an interruption catches up first; one that ends, well or not, leaves the pack.
"""

import time
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from tiebench.errors import TiebenchError, forget_frames
from tiebench.experiment.run_spec import RunSpec
from tiebench.results.record import Record
from tiebench.training.environment import keeping_threads
from tiebench.training.interruption import Interrupted, noticing_signals
from tiebench.training.observer import Observer
from tiebench.training.packing import Pack
from tiebench.training.reuse import Settings
from tiebench.training.runner import live_run
from tiebench.training.trainer import Trainer

Outcome = Record | TiebenchError


def execute_pack(
    watched: list[tuple[RunSpec, Observer]], *, settings: Settings
) -> Iterator[tuple[RunSpec, Observer, Outcome]]:
    """Each run and its observer, when it ends, with its record or with the error that ended it and no other.

    The runs must be alike (`packing.group_alike`). Raises Interrupted on Ctrl-C or SIGTERM, all runs checkpointed.
    """
    members = [_Member(run, observer, live_run(run, settings=settings, observer=observer)) for run, observer in watched]
    lockstep = _Lockstep(members)
    with keeping_threads():
        try:
            for member in members:
                member.prepare()
            with noticing_signals(lockstep.interrupt):
                for member in lockstep.train():
                    yield member.run, member.observer, member.outcome
            if lockstep.interrupted:
                raise Interrupted("the runs that were at work are finished")
        finally:
            for member in members:
                member.life.close()


@dataclass(eq=False)
class _Member:
    """A run of a pack. Whatever it does may give it its `outcome`; then it does nothing more, and holds no memory."""

    run: RunSpec
    observer: Observer
    life: Generator[Trainer, None, Record]
    trainer: Trainer | None = None
    steps: Iterator[int] = field(default_factory=lambda: iter(()))
    outcome: Outcome | None = None

    def prepare(self) -> None:
        """Hold the folder, build the model, find the checkpoint."""
        with self._ending_alone():
            self.trainer = next(self.life)
            self.steps = self.trainer.list_steps()

    def advance(self) -> None:
        """Do what lies before the next step; where no step is left, score the run and write its record."""
        with self._ending_alone():
            if next(self.steps, None) is None:
                next(self.life)

    def step(self) -> None:
        """An update of this run alone."""
        with self._ending_alone():
            self.trainer._step()

    def save(self) -> None:
        with self._ending_alone():
            self.trainer.save()

    def end(self, outcome: Outcome) -> None:
        self.outcome = forget_frames(outcome) if isinstance(outcome, TiebenchError) else outcome
        self.life.close()
        self.trainer, self.steps = None, iter(())

    @contextmanager
    def _ending_alone(self) -> Iterator[None]:
        try:
            yield
        except StopIteration as end:
            self.end(end.value)
        except TiebenchError as error:
            self.end(error)


class _Lockstep:
    """The members that are still at work, and the pack of those that make the next step."""

    def __init__(self, members: list[_Member]) -> None:
        self.members = list(members)
        self.pack: Pack | None = None
        self.interrupted = False

    def train(self) -> Iterator[_Member]:
        """Train to everybody's end; each member when it has its outcome."""
        moved = list(self.members)
        while True:
            for member in moved:
                self._advance(member)
                if member.outcome is not None:
                    self.members.remove(member)
                    self._regroup(None)
                    yield member
            if not self.members:
                return
            moved = self._step()

    def interrupt(self) -> None:
        self.interrupted = True
        for member in self.members:
            if member.trainer is not None:
                member.trainer.interrupt()

    def _advance(self, member: _Member) -> None:
        """A signal is noticed by one member; then all the others are checkpointed too."""
        if member.outcome is not None:
            return
        try:
            member.advance()
        except Interrupted:
            for other in self.members:
                if other is not member and other.outcome is None:
                    other.save()
            raise Interrupted("all runs were checkpointed") from None

    def _step(self) -> list[_Member]:
        """One update of the members that are furthest behind, at first all; returns them."""
        behind = min(member.trainer.progress.step for member in self.members)
        due = [member for member in self.members if member.trainer.progress.step == behind]
        started = time.perf_counter()
        if len(due) == 1:
            self._regroup(None)
            due[0].step()
        else:
            self._step_together(due)
        for member in due:
            if member.outcome is None:
                member.trainer.progress.train_seconds += (time.perf_counter() - started) / len(due)
        return due

    def _step_together(self, due: list[_Member]) -> None:
        trainers = [member.trainer for member in due]
        if self.pack is None or self.pack.trainers != trainers:
            self._regroup(trainers)
        for member, error in zip(due, self.pack.step(), strict=True):
            if error is not None:
                member.end(error)

    def _regroup(self, trainers: list[Trainer] | None) -> None:
        """Another pack, or none; the memory of the one before is free first."""
        if self.pack is not None:
            self.pack.dissolve()
            self.pack = None
        if trainers is not None:
            self.pack = Pack(trainers)
            for trainer in trainers:
                trainer.progress.num_packed = max(len(trainers), trainer.progress.num_packed or 0)
