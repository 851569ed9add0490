"""What a plan will cost on this machine: tokens, operations, and hours from the speed of a few real steps.

The steps are those that would train, on synthetic ids of the real vocabulary size, so no corpus is needed where the
catalogue declares its counts. Models are timed until `TIMING_SECONDS` are spent: the smallest of each kind, then those
that have most to do. A model that is not timed gets the rate, in operations per second, of the timed one of its kind
that is nearest in size.
"""

import json
import math
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from tiebench.corpora.catalogue import CATALOGUE
from tiebench.corpora.frequencies import count_entries
from tiebench.corpora.stream import TokenStream
from tiebench.errors import TiebenchError
from tiebench.execution.bench import build_trainer
from tiebench.execution.environment import choose_device, keep_torch_settings
from tiebench.execution.run_data import load_data
from tiebench.execution.settings import Settings
from tiebench.execution.tuning import list_missing_trials
from tiebench.execution.workloads import Workload, draw_stream
from tiebench.experiment.architecture_config import EncoderDecoderConfig
from tiebench.experiment.corpus_config import SPLITS
from tiebench.experiment.loading import Experiment
from tiebench.experiment.run_spec import RunSpec
from tiebench.models.language_model import build_on_meta, count_flops_per_token
from tiebench.results.record import RECORD_FILE
from tiebench.training.batches import build_batches
from tiebench.training.budget import plan_evaluations, plan_steps
from tiebench.training.trainer import Trainer

TIMING_SECONDS = 60.0
STEP_SECONDS = 1.0
MIN_STEPS = 3
HOUR = 3600.0


@dataclass(frozen=True)
class Counts:
    """Tokens by split, the size of the vocabulary, and the training text where it was opened."""

    tokens: dict[str, int]
    vocabulary_size: int
    train: TokenStream | None = None


@dataclass(frozen=True)
class Rate:
    """What was timed: which model, of which kind and size, and how fast."""

    model: str
    kind: str
    flops_per_step: float
    flops_per_second: float

    def predict_step(self, cost: "CostEstimate") -> float:
        """Seconds of a training step."""
        return cost.flops_per_step / self.flops_per_second


@dataclass(frozen=True)
class CostEstimate:
    """One arm: what one run of it takes, and how many are still to do. `flops` is None where there was no text."""

    run: RunSpec
    num_runs: int
    vocabulary_size: int = 0
    tokens: int = 0
    flops: float | None = None
    flops_per_step: float = 0.0
    seconds: float | None = None
    timed: bool = False

    @property
    def total_seconds(self) -> float | None:
        return None if self.seconds is None else self.seconds * self.num_runs


def estimate_costs(
    runs: list[RunSpec], *, settings: Settings, others: Iterable[CostEstimate] = (), timed: bool = True
) -> list[CostEstimate]:
    """The cost of every arm, in the order of the runs; `others` were counted elsewhere and get their seconds here.

    With `timed=False` no model is timed, and no cost gets seconds.
    """
    costs = [*(estimate_arm(same, settings=settings) for same in _group_by_arm(runs)), *others]
    if not timed:
        return costs
    rates = _time_models([cost for cost in costs if cost.flops is not None and cost.num_runs], settings=settings)
    return [_with_seconds(cost, rates) for cost in costs]


def list_uncountable(costs: Iterable[CostEstimate]) -> list[str]:
    """The experiments whose text is not there, so that their runs can be neither counted nor made."""
    return list(dict.fromkeys(cost.run.experiment for cost in costs if cost.flops is None))


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
    tokens = {split: data.streams[split].num_tokens for split in SPLITS}
    return Counts(tokens, data.vocabulary.size, data.streams["train"])


def _group_by_arm(runs: list[RunSpec]) -> list[list[RunSpec]]:
    arms: dict[tuple[str, str], list[RunSpec]] = {}
    for run in runs:
        arms.setdefault((run.experiment, run.arm), []).append(run)
    return list(arms.values())


def estimate_arm(runs: list[RunSpec], *, settings: Settings) -> CostEstimate:
    """The runs of one arm at several seeds; finished ones cost nothing."""
    run = runs[0]
    folders = [settings.store.folder(each.experiment, each.arm, each.seed) for each in runs]
    num_runs = sum(not (folder / RECORD_FILE).exists() for folder in folders)
    return _count_runs(run, num_runs, settings=settings)


def estimate_missing_trials(
    arms_asked: Iterable[tuple[Experiment, Sequence[str]]], *, settings: Settings
) -> list[CostEstimate]:
    """The cost of the trials that `tuning:` still has to make, by arm; a trial scores less than is counted here."""
    costs = []
    for experiment, arms in arms_asked:
        missing = list_missing_trials(experiment, settings=settings, arms=arms)
        number = Counter(trial.arm for trial in missing)
        for arm, run in {trial.arm: trial.run for trial in reversed(missing)}.items():
            named = replace(run, experiment=experiment.name, arm=f"{arm}, trials")
            costs.append(_count_runs(named, number[arm], settings=settings))
    return costs


def _count_runs(run: RunSpec, num_runs: int, *, settings: Settings) -> CostEstimate:
    counts = read_counts(run, data_dir=settings.data_dir)
    if counts is None:
        return CostEstimate(run, num_runs)
    return count_operations(
        CostEstimate(run, num_runs, counts.vocabulary_size), tokens=counts.tokens, train=counts.train
    )


def count_operations(cost: CostEstimate, *, tokens: dict[str, int], train: TokenStream | None = None) -> CostEstimate:
    """The cost with the operations of training and, forward only, of every evaluation; padding is counted as tokens.

    Without the text that is trained on (`train`), its number of tokens is enough, but not in translation.
    """
    training = cost.run.spec.training
    model = build_on_meta(cost.run.spec, vocabulary_size=cost.vocabulary_size)
    if train is not None:
        model.embedding.sort_by_frequency(lambda: count_entries(train, vocabulary_size=cost.vocabulary_size))
    per_token = count_flops_per_token(model, context=training.window, objective=training.objective)
    stream = train or TokenStream(np.empty(0), tokens["train"], 0, 0, 0)
    recurrent = model.architecture.recurrent
    batches = build_batches(training, stream=stream, recurrent=recurrent, seed=cost.run.seed)
    num_steps = plan_steps(training, steps_per_epoch=batches.steps_per_epoch)
    return weigh_operations(
        cost,
        tokens=tokens,
        flops_per_token=per_token,
        steps_per_epoch=batches.steps_per_epoch,
        num_trained=batches.count_rows(num_steps),
    )


def weigh_operations(
    cost: CostEstimate, *, tokens: dict[str, int], flops_per_token: int, steps_per_epoch: int, num_trained: int
) -> CostEstimate:
    """The cost with the operations of training on `num_trained` tokens and evaluating a model counted already."""
    training = cost.run.spec.training
    num_steps = plan_steps(training, steps_per_epoch=steps_per_epoch)
    every = plan_evaluations(training, num_steps=num_steps, steps_per_epoch=steps_per_epoch)
    num_evaluations = -(-num_steps // every)
    num_scored = num_evaluations * tokens["valid"] + tokens["test"]
    num_scored += tokens["train"] if cost.run.spec.evaluation.train else 0
    per_step = flops_per_token * training.batch_size * training.window
    return replace(
        cost, tokens=num_trained, flops=flops_per_token * (num_trained + num_scored / 3), flops_per_step=per_step
    )


def _time_models(costs: list[CostEstimate], *, settings: Settings) -> list[Rate]:
    """What was timed; at least one of each kind."""
    rates: list[Rate] = []
    ends = time.perf_counter() + TIMING_SECONDS
    with keep_torch_settings():
        torch.set_num_threads(1)  # its CPU time hardly depends on other work on the machine
        for cost in _order_by_use(costs):
            known, left = _find_rate(cost, rates), ends - time.perf_counter()
            if known is None or (known.model != name_model(cost) and 2 * known.predict_step(cost) < left):
                speed = cost.flops_per_step / time_step(cost, device=settings.device)
                rates.append(Rate(name_model(cost), _name_kind(cost.run), cost.flops_per_step, speed))
    return rates


def _order_by_use(costs: list[CostEstimate]) -> list[CostEstimate]:
    """The smallest of each kind first, then those with most to do."""
    smallest: dict[str, CostEstimate] = {}
    for cost in sorted(costs, key=lambda cost: cost.flops_per_step):
        smallest.setdefault(_name_kind(cost.run), cost)
    return [*smallest.values(), *sorted(costs, key=lambda cost: -(cost.flops or 0.0) * cost.num_runs)]


def _find_rate(cost: CostEstimate, rates: list[Rate]) -> Rate | None:
    """The rate of this very model, or of the one of its kind nearest in size; None where the kind was not timed."""
    alike = [rate for rate in rates if rate.kind == _name_kind(cost.run)]
    model = name_model(cost)
    return min(
        alike,
        key=lambda rate: (rate.model != model, abs(math.log(rate.flops_per_step / cost.flops_per_step))),
        default=None,
    )


def time_step(cost: CostEstimate, *, device: str, seconds: float = STEP_SECONDS) -> float:
    """Seconds of a training step on one core or the GPU: the mean of a few steps after the first, or a slow first step.

    Steps are made for at least `seconds`.
    """
    place = choose_device(device)
    read_clock = time.process_time if place.type == "cpu" else time.perf_counter
    training = cost.run.spec.training
    num_tokens = max(4 * training.batch_size * (training.window + 1), 10_000)
    sentence = training.window if isinstance(cost.run.spec.architecture, EncoderDecoderConfig) else None
    stream = draw_stream(num_tokens, vocabulary_size=cost.vocabulary_size, sentence=sentence)
    streams = {"train": stream, "valid": stream}
    workload = Workload(cost.run.name, cost.run, cost.vocabulary_size, streams)
    spent: list[float] = []
    with tempfile.TemporaryDirectory() as folder:
        trainer = build_trainer(workload, device=place, folder=Path(folder))
        first = _time(trainer, read_clock)  # it also takes memory and loads libraries
        if first > min(TIMING_SECONDS / 10, 6 * seconds):
            return first
        while sum(spent) < seconds or (len(spent) < MIN_STEPS and sum(spent) < TIMING_SECONDS / 10):
            spent.append(_time(trainer, read_clock))
    return sum(spent) / len(spent)  # not the smallest: a coarse clock would call it zero


def _time(trainer: Trainer, read_clock: Callable[[], float]) -> float:
    started = read_clock()
    trainer.train_step()
    trainer._read_nll()
    return read_clock() - started


def _with_seconds(cost: CostEstimate, rates: list[Rate]) -> CostEstimate:
    rate = _find_rate(cost, rates) if cost.flops is not None else None
    if rate is None or cost.flops is None:
        return cost
    return replace(cost, seconds=cost.flops / rate.flops_per_second, timed=rate.model == name_model(cost))


def name_model(cost: CostEstimate) -> str:
    """What decides the speed of a step; at equal widths the tie does not."""
    spec, training = cost.run.resolved, cost.run.resolved["training"]
    shape = [training[key] for key in ("batch_size", "window", "accumulate", "precision", "compile", "objective")]
    ends = [spec["embedding"][key] for key in ("width", "adaptive")]
    kind = [training["optimizer"]["type"], *ends, spec["embedding"]["output_projection"] is None]
    return json.dumps([spec["architecture"], shape, kind, cost.vocabulary_size])


def _name_kind(run: RunSpec) -> str:
    body, training = run.spec.architecture, run.spec.training
    return json.dumps([body.type, getattr(body, "variational", None), training.objective.type, training.precision])
