"""What a person sees while runs are at work: a bar for each, on stderr; without a terminal, a line per evaluation."""

import math
import sys
from dataclasses import dataclass, field
from typing import Any

from tqdm import tqdm

from tiebench.experiment.run_spec import RunSpec
from tiebench.reporting.escaping import escape
from tiebench.results.record import CurvePoint, Parameters, Record
from tiebench.training.callbacks import Callback


@dataclass
class Display:
    """The bars of all runs of a command. `watch` is what a fleet asks for; `quiet` shows only warnings."""

    num_runs: int
    quiet: bool = False
    slots: list["RunBar | None"] = field(default_factory=list)

    def watch(self, run: RunSpec, index: int) -> "RunBar":
        return RunBar(self, run, index)

    @property
    def animated(self) -> bool:
        return sys.stderr.isatty() and not self.quiet

    def write(self, text: str, *, important: bool = False) -> None:
        """A line above the bars."""
        if not self.quiet or important:
            tqdm.write(escape(text), file=sys.stderr)

    def close(self) -> None:
        """Take all bars off the screen."""
        for bar in self.slots:
            if bar is not None:
                bar.close_bar()

    def take_slot(self, bar: "RunBar") -> int:
        """The lowest free line on the screen."""
        for slot, owner in enumerate(self.slots):
            if owner is None:
                self.slots[slot] = bar
                return slot
        self.slots.append(bar)
        return len(self.slots) - 1

    def free_slot(self, bar: "RunBar") -> None:
        self.slots[self.slots.index(bar)] = None


class RunBar(Callback):
    """One run's line: which of how many, the stage, tokens/s, time left, loss and perplexity."""

    def __init__(self, display: Display, run: RunSpec, index: int) -> None:
        self.display = display
        self.label = f"[{index + 1}/{display.num_runs}] {run.arm} seed {run.seed}"
        self.name = run.name
        self.bar: tqdm | None = None
        self.slot: int | None = None
        self.valid: float | None = None

    def start_run(self, spec: RunSpec, *, parameters: Parameters) -> None:
        self.display.write(f"{self.label}: {parameters.total:,} parameters")
        self.slot = self.display.take_slot(self)

    def start_stage(self, name: str, *, total_tokens: int, done_tokens: int = 0) -> None:
        self.close_bar()
        if self.display.animated:
            self.bar = tqdm(
                total=total_tokens,
                initial=done_tokens,
                desc=f"{self.label} {name}",
                unit="tok",
                unit_scale=True,
                leave=False,
                position=self.slot or 0,
                dynamic_ncols=True,
                file=sys.stderr,
            )
            self._show(valid=self.valid)

    def advance(self, num_tokens: int, *, nll_per_token: float | None = None) -> None:
        if self.bar is None:
            return
        if nll_per_token is not None:
            self._show(loss=nll_per_token, valid=self.valid)
        self.bar.update(num_tokens)

    def report_evaluation(self, point: CurvePoint) -> None:
        self.valid = point.valid_perplexity
        train = "" if point.train_nll_per_token is None else f"train {_exponent(point.train_nll_per_token)}, "
        speed = f"{point.tokens / point.seconds:,.0f} tokens/s" if point.seconds else ""
        self.display.write(f"{self.label}: epoch {point.epoch:.2f}, {train}valid {self.valid:.2f}, {speed}")

    def finish_run(self, record: Record, *, reused: bool) -> None:
        self.close_bar()
        if self.slot is not None:
            self.display.free_slot(self)
        test = record.evaluations["test"].perplexity
        how = "is there already" if reused else "finished"
        self.display.write(f"{self.label}: {how}, test perplexity {test:.2f}")
        for warning in record.warnings:
            self.display.write(f"warning: {self.name}: {warning}", important=True)

    def say(self, message: str) -> None:
        self.display.write(message)

    def _show(self, **figures: Any) -> None:
        shown = {name: f"{value:.3f}" if name == "loss" else f"{value:.1f}" for name, value in figures.items() if value}
        if "loss" in shown:
            shown["ppl"] = _exponent(figures["loss"])
        self.bar.set_postfix(shown, refresh=False)

    def close_bar(self) -> None:
        """Take this run's bar off the screen."""
        if self.bar is not None:
            self.bar.close()
            self.bar = None


def _exponent(nats: float) -> str:
    return f"{math.exp(min(nats, 700.0)):.1f}"
