"""What a person sees while runs train: a bar for each, on stderr; without a terminal, a line per evaluation."""

import math
import sys
import time
from dataclasses import dataclass, field

from tqdm import tqdm

from tiebench.cli.output import format_duration, wrap_line
from tiebench.execution.plan import Plan
from tiebench.experiment.run_spec import RunSpec
from tiebench.reporting.escaping import escape
from tiebench.results.curve import CurvePoint
from tiebench.results.record import Parameters, Record
from tiebench.results.selection import put_baseline_first
from tiebench.training.callbacks import Callback

BAR = "{desc} {percentage:3.0f}% |{bar}| {rate_noinv_fmt}, {remaining} left{postfix}"
SHOWN_NAME = 14  # a bar has room for so much of an arm's name at 80 columns


@dataclass
class Display:
    """The bars of all runs of a command. `watch` is what `execute` asks for; `quiet` shows only warnings.

    `later_tokens` are still to be trained after the plan, so that trials tell when the runs will be finished too.
    """

    plan: Plan
    quiet: bool = False
    later_tokens: int = 0
    slots: list["RunBar | None"] = field(default_factory=list)
    records: dict[tuple[str, int], Record] = field(default_factory=dict)
    trained_tokens: dict[str, int] = field(default_factory=dict)
    known_tokens: dict[str, int] = field(default_factory=dict)
    started: float = field(default_factory=time.monotonic)

    def watch(self, run: RunSpec, index: int) -> "RunBar":
        return RunBar(self, run, index)

    @property
    def animated(self) -> bool:
        return sys.stderr.isatty() and not self.quiet

    def write(self, text: str, *, important: bool = False) -> None:
        """A line above the bars."""
        if not self.quiet or important:
            line = escape(text)
            tqdm.write(wrap_line(line) if sys.stderr.isatty() else line, file=sys.stderr)

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

    def describe_time_left(self) -> str:
        """How long everything will still take, by the tokens that were trained so far; empty at the start and end."""
        totals = {count.arm: count.num_tokens for count in self.plan.counts}
        wanted = sum(totals.get(run.arm, 0) for run in self.plan.pending) + self.later_tokens
        done, before = sum(self.trained_tokens.values()), sum(self.known_tokens.values())
        if done <= before or wanted <= done:
            return ""
        seconds = (wanted - done) * (time.monotonic() - self.started) / (done - before)
        return f", all done in {format_duration(seconds)}"

    def enter(self, record: Record) -> None:
        """Say how the arms of a seed compare as soon as all of them are finished; the baseline is that of `compare`."""
        self.records[record.arm, record.seed] = record
        arms = dict.fromkeys(run.arm for run in self.plan.runs if run.seed == record.seed)
        known = {arm: [each] for arm in arms if (each := self.records.get((arm, record.seed)))}
        scores = {
            arm: each.evaluations["test"]
            for arm, (each,) in put_baseline_first(known).items()
            if "test" in each.evaluations
        }
        if len(arms) < 2 or len(scores) < len(arms):
            return
        (baseline, score), *others = scores.items()
        changes = [f"{arm} {_show_change(score.nll_per_token, each.nll_per_token)}" for arm, each in others]
        base = f"{baseline} {score.perplexity:.2f}"
        self.write(f"seed {record.seed}: test perplexity of {base}, {', '.join(changes)} (one seed decides nothing)")


class RunBar(Callback):
    """One run's line: which of how many, the stage, tokens/s, time left, perplexity so far and on validation."""

    def __init__(self, display: Display, run: RunSpec, index: int) -> None:
        self.display = display
        place = f"[{index + 1}/{len(display.plan.runs)}]"
        self.label = f"{place} {run.title or f'{run.arm} seed {run.seed}'}"
        self.short_label = f"{place} {shorten_name(run.title) if run.title else f'{shorten_name(run.arm)} {run.seed}'}"
        self.name, self.is_trial = run.name, run.is_trial
        self.bar: tqdm | None = None
        self.slot: int | None = None
        self.valid: float | None = None
        self.stage = ""

    def start_run(self, spec: RunSpec, *, parameters: Parameters) -> None:
        self.display.write(f"{self.label}: {parameters.total:,} parameters")
        self.slot = self.display.take_slot(self)

    def start_stage(self, name: str, *, total_tokens: int, done_tokens: int = 0) -> None:
        self.close_bar()
        self.stage = name
        if name == "train":
            self.display.known_tokens.setdefault(self.name, done_tokens)
            self.display.trained_tokens[self.name] = done_tokens
        if self.display.animated:
            self.bar = tqdm(
                total=total_tokens,
                initial=done_tokens,
                desc=f"{self.short_label} {name}",
                unit="tok",
                unit_scale=True,
                leave=False,
                position=self.slot or 0,
                dynamic_ncols=True,
                bar_format=BAR,
                file=sys.stderr,
            )
            self._show(nll=None)

    def advance(self, num_tokens: int, *, nll_per_token: float | None = None) -> None:
        if self.stage == "train":
            self.display.trained_tokens[self.name] = self.display.trained_tokens.get(self.name, 0) + num_tokens
        if self.bar is None:
            return
        if nll_per_token is not None:
            self._show(nll=nll_per_token)
        self.bar.update(num_tokens)

    def report_evaluation(self, point: CurvePoint) -> None:
        self.valid = point.valid_perplexity
        nll = None if self.is_trial else point.train_nll_per_token
        train = "" if nll is None else f"train {_exponent(nll)}, "
        left = self.display.describe_time_left()
        self.display.write(f"{self.label}: epoch {point.epoch:.2f}, {train}valid {self.valid:.2f}{left}")

    def finish_run(self, record: Record, *, reused: bool) -> None:
        self.close_bar()
        if self.slot is not None:
            self.display.free_slot(self)
        scored = [record.evaluations[split] for split in ("test", "valid") if split in record.evaluations]
        found = f", {scored[0].split} perplexity {scored[0].perplexity:.2f}" if scored else ""
        per_second = None if reused else record.usage.tokens_per_second
        speed = "" if per_second is None else f", {per_second:,.0f} tokens/s"
        self.display.write(f"{self.label}: {'is there already' if reused else 'finished'}{found}{speed}")
        for warning in record.warnings:
            self.display.write(f"warning: {self.name}: {warning}", important=True)
        self.display.enter(record)

    def say(self, message: str) -> None:
        self.display.write(message)

    def _show(self, *, nll: float | None) -> None:
        if self.bar is None:
            return
        parts = [f"ppl {_exponent(nll)}"] if nll is not None else []
        parts += [f"valid {self.valid:.1f}"] if self.valid else []
        self.bar.set_postfix_str(", ".join(parts), refresh=False)

    def close_bar(self) -> None:
        """Take this run's bar off the screen."""
        if self.bar is not None:
            self.bar.close()
            self.bar = None
            sys.stderr.write("\r")  # a bar on a lower line leaves the cursor behind its blanks


def shorten_name(name: str) -> str:
    """What a bar has room for: the beginning, and a last word that is short (the value that a trial tries)."""
    if len(name) <= SHOWN_NAME:
        return name
    _, space, last = name.rpartition(" ")
    end = last if space and len(last) < SHOWN_NAME // 2 else ""
    return f"{name[: SHOWN_NAME - 1 - len(end)]}…{end}"


def _show_change(baseline: float, nll: float) -> str:
    return f"{math.expm1(nll - baseline) * 100:+.1f} %"


def _exponent(nats: float) -> str:
    return f"{math.exp(min(nats, 700.0)):.1f}"
