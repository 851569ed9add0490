"""What a plan will cost on this machine: tokens, operations, and hours from the speed of a few real steps.

The steps are those that would train, on synthetic ids of the real vocabulary size, so no corpus is needed where the
catalogue declares its counts. Models are timed until `TIMING_SECONDS` are spent: the smallest of each kind, then those
that have most to do. What is left gets the rate, in operations per second, of the one of its kind nearest in size.
"""

import json
import math
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from tiebench.analysis.subspace_study import Study, describe_run
from tiebench.claims.verdicts import ClaimRuns
from tiebench.corpora.catalogue import CATALOGUE
from tiebench.corpora.corpus import SPLITS
from tiebench.corpora.stream import TokenStream
from tiebench.errors import TiebenchError
from tiebench.execution.bench import build_trainer
from tiebench.execution.environment import choose_device, keep_threads
from tiebench.execution.run_data import load_data
from tiebench.execution.settings import Settings
from tiebench.execution.workloads import Workload, draw_stream
from tiebench.experiment.run_spec import RunSpec
from tiebench.models.language_model import build_on_meta, count_flops_per_token
from tiebench.reporting.tables import Column, Table
from tiebench.results.record import RECORD_FILE
from tiebench.training.batches import Batches
from tiebench.training.trainer import Trainer, plan_steps

TIMING_SECONDS = 60.0
STEP_SECONDS = 1.0
MIN_STEPS = 3
HOUR = 3600.0


@dataclass(frozen=True)
class Counts:
    """Tokens by split and the size of the vocabulary."""

    tokens: dict[str, int]
    vocabulary_size: int


@dataclass(frozen=True)
class Rate:
    """What was timed: which model, of which kind and size, and how fast."""

    model: str
    kind: str
    flops_per_step: float
    flops_per_second: float

    def predict_step(self, cost: "CostEstimate") -> float:
        """Seconds."""
        return cost.flops_per_step / self.flops_per_second


@dataclass(frozen=True)
class CostEstimate:
    """One arm: what one run of it takes, and how many are still to do. None where the text is not there to count."""

    run: RunSpec
    num_runs: int
    vocabulary_size: int | None = None
    tokens: int | None = None
    flops: float | None = None
    flops_per_step: float = 0.0
    seconds: float | None = None
    timed: bool = False

    @property
    def total_seconds(self) -> float | None:
        return None if self.seconds is None else self.seconds * self.num_runs


def estimate_costs(
    plans: list[ClaimRuns], *, settings: Settings, studies: tuple[tuple[str, int], ...] = ()
) -> list[CostEstimate]:
    """The cost of every arm, in the order of the plans, and of every study (subject and seed) still to make."""
    costs = [_count(runs, settings=settings) for plan in plans for runs in _group_by_arm(plan.runs)]
    costs += [_count_study(subject, seed=seed) for subject, seed in studies]
    rates = _time_models([cost for cost in costs if cost.flops is not None and cost.num_runs], settings=settings)
    return [_with_seconds(cost, rates) for cost in costs]


def costs_table(costs: list[CostEstimate], *, device: str) -> Table:
    """A row per arm; the caption adds up what is still to do."""
    counts, amounts = ("runs to do", "tokens a run"), ("TFLOP a run", "hours a run", "hours")
    columns = [Column("experiment"), Column("arm"), *(Column(name, "count") for name in counts)]
    columns += [*(Column(name, "number") for name in amounts), Column("speed")]
    unit = (
        "one core (--jobs auto, the default, takes all)"
        if choose_device(device).type == "cpu"
        else f"the device ({device})"
    )
    missing = dict.fromkeys(cost.run.experiment for cost in costs if cost.flops is None)
    notes = [f"{name}: its text is not here, so it cannot be counted and is not run." for name in missing]
    return Table(
        title="What it will cost on this machine",
        columns=tuple(columns),
        rows=tuple(_describe_row(cost) for cost in costs),
        caption=f"{_add_up(costs)} of {unit}.",
        notes=(f"Hours are of {unit}, estimated from a few steps of training on synthetic ids.", *notes),
    )


def _add_up(costs: list[CostEstimate]) -> str:
    """All that is still to do and could be counted."""
    num_runs = sum(cost.num_runs for cost in costs)
    known = [cost for cost in costs if cost.flops is not None]
    tokens = sum(cost.tokens * cost.num_runs for cost in known)
    teraflops = sum(cost.flops * cost.num_runs for cost in known) / 1e12
    hours = sum(cost.total_seconds or 0.0 for cost in known) / HOUR
    runs = "1 run" if num_runs == 1 else f"{num_runs} runs"
    return f"{runs} to do: {tokens:,} tokens, {teraflops:,.0f} TFLOP, about {hours:,.1f} hours"


def select_countable(plans: list[ClaimRuns], costs: list[CostEstimate]) -> list[ClaimRuns]:
    """The plans whose text is there."""
    missing = {cost.run.experiment for cost in costs if cost.flops is None}
    return [plan for plan in plans if plan.experiment.name not in missing]


def read_counts(run: RunSpec, *, data_dir: Path | None = None) -> Counts | None:
    """What the catalogue declares, else what the text itself has; None where it is not there."""
    source = CATALOGUE.get(run.spec.corpus.type)
    words = run.spec.vocabulary
    whole = words.type == "words" and words.size is None and words.min_count == 1
    if whole and source is not None and source.expected_tokens and source.expected_vocabulary:
        return Counts(dict(source.expected_tokens), source.expected_vocabulary)
    try:
        data = load_data(run, data_dir=data_dir)
    except TiebenchError:
        return None
    return Counts({split: data.streams[split].num_tokens for split in SPLITS}, data.vocabulary.size)


def _group_by_arm(runs: list[RunSpec]) -> list[list[RunSpec]]:
    return [[run for run in runs if run.arm == arm] for arm in dict.fromkeys(run.arm for run in runs)]


def _count(runs: list[RunSpec], *, settings: Settings) -> CostEstimate:
    """The runs of one arm at several seeds; finished ones cost nothing."""
    run = runs[0]
    folders = [settings.store.folder(each.experiment, each.arm, each.seed) for each in runs]
    num_runs = sum(not (folder / RECORD_FILE).exists() for folder in folders)
    counts = read_counts(run, data_dir=settings.data_dir)
    if counts is None:
        return CostEstimate(run, num_runs)
    return _count_operations(CostEstimate(run, num_runs, counts.vocabulary_size), tokens=counts.tokens)


def _count_study(subject: str, *, seed: int) -> CostEstimate:
    study = Study()
    cost = CostEstimate(describe_run(study, subject=subject, seed=seed), 1, study.num_words)
    return _count_operations(cost, tokens={"train": study.num_tokens, "valid": 0, "test": 0})


def _count_operations(cost: CostEstimate, *, tokens: dict[str, int]) -> CostEstimate:
    """With the operations of training and, forward only, of every evaluation."""
    training = cost.run.spec.training
    model = build_on_meta(cost.run.spec, vocabulary_size=cost.vocabulary_size)
    per_token = count_flops_per_token(model, context=training.window)
    stream = TokenStream(np.empty(0), tokens["train"], 0, 0, 0)
    batches = Batches(stream, training.batch_size, training.window, model.architecture.recurrent, cost.run.seed)
    num_steps = plan_steps(training, steps_per_epoch=batches.steps_per_epoch)
    num_trained = num_steps * training.batch_size * training.window
    num_evaluations = num_steps // (training.evaluate_every or batches.steps_per_epoch) + 1
    num_scored = num_evaluations * tokens["valid"] + tokens["test"]
    num_scored += tokens["train"] if cost.run.spec.evaluation.train else 0
    per_step = per_token * training.batch_size * training.window
    return replace(cost, tokens=num_trained, flops=per_token * (num_trained + num_scored / 3), flops_per_step=per_step)


def _time_models(costs: list[CostEstimate], *, settings: Settings) -> list[Rate]:
    """What was timed; at least one of each kind."""
    rates: list[Rate] = []
    ends = time.perf_counter() + TIMING_SECONDS
    with keep_threads():
        torch.set_num_threads(1)  # whose CPU time hardly notices what else the machine does
        for cost in _order_by_use(costs):
            known, left = _find_rate(cost, rates), ends - time.perf_counter()
            if known is None or (known.model != _name_model(cost) and 2 * known.predict_step(cost) < left):
                speed = cost.flops_per_step / _time_step(cost, device=settings.device)
                rates.append(Rate(_name_model(cost), _name_kind(cost.run), cost.flops_per_step, speed))
    return rates


def _order_by_use(costs: list[CostEstimate]) -> list[CostEstimate]:
    """The smallest of each kind first, then those with most to do."""
    smallest: dict[str, CostEstimate] = {}
    for cost in sorted(costs, key=lambda cost: cost.flops_per_step):
        smallest.setdefault(_name_kind(cost.run), cost)
    return [*smallest.values(), *sorted(costs, key=lambda cost: -cost.flops * cost.num_runs)]


def _find_rate(cost: CostEstimate, rates: list[Rate]) -> Rate | None:
    """The rate of this very model, or of the one of its kind nearest in size; None where the kind was not timed."""
    alike = [rate for rate in rates if rate.kind == _name_kind(cost.run)]
    model = _name_model(cost)
    return min(
        alike,
        key=lambda rate: (rate.model != model, abs(math.log(rate.flops_per_step / cost.flops_per_step))),
        default=None,
    )


def _time_step(cost: CostEstimate, *, device: str) -> float:
    """Seconds of a training step, of one core or of the GPU: the mean of a few after the first, or the first slow one."""
    place = choose_device(device)
    read_clock = time.process_time if place.type == "cpu" else time.perf_counter
    training = cost.run.spec.training
    num_tokens = max(4 * training.batch_size * (training.window + 1), 10_000)
    streams = {split: draw_stream(num_tokens, vocabulary_size=cost.vocabulary_size) for split in ("train", "valid")}
    workload = Workload(cost.run.name, cost.run, cost.vocabulary_size, streams)
    seconds: list[float] = []
    with tempfile.TemporaryDirectory() as folder:
        trainer = build_trainer(workload, device=place, folder=Path(folder))
        first = _time(trainer, read_clock)  # it also takes memory and loads libraries
        if first > TIMING_SECONDS / 10:
            return first
        while sum(seconds) < STEP_SECONDS or (len(seconds) < MIN_STEPS and sum(seconds) < TIMING_SECONDS / 10):
            seconds.append(_time(trainer, read_clock))
    return sum(seconds) / len(seconds)  # not the smallest: a coarse clock would call it zero


def _time(trainer: Trainer, read_clock: Callable[[], float]) -> float:
    started = read_clock()
    trainer.train_step()
    trainer._read_nll()
    return read_clock() - started


def _with_seconds(cost: CostEstimate, rates: list[Rate]) -> CostEstimate:
    rate = _find_rate(cost, rates) if cost.flops is not None else None
    if rate is None:
        return cost
    return replace(cost, seconds=cost.flops / rate.flops_per_second, timed=rate.model == _name_model(cost))


def _name_model(cost: CostEstimate) -> str:
    """What decides the speed of a step; at equal widths the tie does not."""
    spec, training = cost.run.resolved, cost.run.resolved["training"]
    shape = [training[key] for key in ("batch_size", "window", "accumulate", "precision", "compile", "objective")]
    kind = [training["optimizer"]["type"], spec["embedding"]["width"], spec["embedding"]["output_projection"] is None]
    return json.dumps([spec["architecture"], shape, kind, cost.vocabulary_size])


def _name_kind(run: RunSpec) -> str:
    body, training = run.spec.architecture, run.spec.training
    return json.dumps([body.type, getattr(body, "variational", None), training.objective.type, training.precision])


def _describe_row(cost: CostEstimate) -> tuple[Any, ...]:
    hours = None if cost.seconds is None else cost.seconds / HOUR
    total = None if hours is None else hours * cost.num_runs
    speed = "timed" if cost.timed else None if hours is None else "scaled"
    flops = None if cost.flops is None else cost.flops / 1e12
    return cost.run.experiment, cost.run.arm, cost.num_runs, cost.tokens, flops, hours, total, speed
