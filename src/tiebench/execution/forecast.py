"""What can be said of an experiment before it is trained: what will surprise, and how long a run will take."""

import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from tiebench.corpora.text_statistics import read_statistics
from tiebench.errors import TiebenchError
from tiebench.execution.costs import CostEstimate, name_model, time_step, weigh_operations
from tiebench.execution.counting import ArmCount, count_arms
from tiebench.execution.devices import PlannedDevice
from tiebench.execution.environment import keep_torch_settings
from tiebench.execution.matching import match_runs
from tiebench.execution.memory import find_memory
from tiebench.execution.products import measure_products
from tiebench.execution.run_data import RunData, load_data
from tiebench.execution.tuning import Trial, list_trials
from tiebench.experiment.corpus_config import SPLITS
from tiebench.experiment.loading import Experiment
from tiebench.experiment.run_spec import RunSpec

MOST_TIMED_FLOPS = 5e10  # of a step; more would not be quick on one core
FORECAST_SECONDS = 3.0
GRID_FORECAST_SECONDS = 20.0
FORECAST_STEP_SECONDS = 0.3


def list_surprises(
    runs: list[RunSpec], counts: list[ArmCount], *, data_dir: Path | None = None, here: bool = True
) -> list[str]:
    """What a user should know before training, one sentence each; empty where nothing is odd.

    With `here=False` the training is for another machine, and the memory of this one does not matter.
    """
    data = {run.arm: load_data(run, data_dir=data_dir) for run in runs}
    found = [line for run in runs for line in (*_doubt_text(data[run.arm]), *_doubt_vocabulary(run, data[run.arm]))]
    memory = find_memory() if here else None
    for count in counts:
        if memory is not None and count.memory_bytes > memory:
            needed, there = (f"{number / 2**30:,.1f} GiB" for number in (count.memory_bytes, memory))
            found.append(f"{count.arm} needs about {needed} of memory, and there are {there}")
    if len({each.vocabulary.identity for each in data.values()}) > 1:
        found.append("the arms have different vocabularies: they will be compared on bits per byte, not on perplexity")
    return list(dict.fromkeys(found))


@dataclass(frozen=True)
class RunTime:
    """How long a run takes: `timed` with a few of its steps on one core, else what its operations need (`flops`)."""

    seconds: float
    timed: bool
    flops: float


def estimate_times(
    runs: list[RunSpec], counts: list[ArmCount], *, data_dir: Path | None = None, device: PlannedDevice | None = None
) -> dict[str, RunTime]:
    """The time of one run of each arm on one core of this machine, measured in a few seconds.

    With a `device`, nothing is timed: the operations are divided by its stated or measured speed.

    A model that is too large to be timed, does not fit into memory, is compiled, or has no finite loss gets the time
    that its operations would take as one well-shaped matrix product after the other.
    """
    times = _time_runs(runs, counts, seconds=FORECAST_SECONDS, data_dir=data_dir, device=device)
    return {run.arm: found for run, found in zip(runs, times, strict=True)}


def estimate_experiments(experiments: Sequence[Experiment], *, data_dir: Path | None = None) -> RunTime:
    """The time of all runs of these experiments, with the trials that come before them, on one core, where none is
    finished."""
    runs: list[RunSpec] = []
    counts: list[ArmCount] = []
    numbers: list[int] = []
    for experiment in experiments:
        trials = list_trials(experiment)
        firsts = {trial.arm: trial.run for trial in reversed(trials)}
        number = Counter(firsts[trial.arm].arm for trial in trials)
        asked = [*experiment.list_runs(seeds=[experiment.seeds[0]]), *firsts.values()]
        matched = match_runs(asked, data_dir=data_dir)
        runs, counts = runs + matched, counts + count_arms(matched, data_dir=data_dir)
        numbers += [number[run.arm] or len(experiment.seeds) for run in matched]
    times = _time_runs(runs, counts, seconds=GRID_FORECAST_SECONDS, data_dir=data_dir)
    seconds = sum(number * found.seconds for number, found in zip(numbers, times, strict=True))
    flops = sum(number * found.flops for number, found in zip(numbers, times, strict=True))
    return RunTime(seconds, all(found.timed for found in times), flops)


def _time_runs(
    runs: list[RunSpec],
    counts: list[ArmCount],
    *,
    seconds: float,
    data_dir: Path | None,
    device: PlannedDevice | None = None,
) -> list[RunTime]:
    """The time of each run; models are timed until `seconds` are over."""
    found: list[RunTime] = []
    speeds: dict[str, float] = {}
    ends = time.perf_counter() + seconds
    for run, count in zip(runs, counts, strict=True):
        data = load_data(run, data_dir=data_dir)
        tokens = {split: data.streams[split].num_tokens for split in SPLITS}
        cost = weigh_operations(
            CostEstimate(run, 1, data.vocabulary.size),
            tokens=tokens,
            flops_per_token=count.flops_per_token,
            steps_per_epoch=count.steps_per_epoch,
            num_trained=count.num_rows,
        )
        flops = cost.flops or 0.0
        if device is not None:
            speed = device.predict_speed(run.spec.training.precision, flops_per_token=count.flops_per_token)
            found.append(RunTime(flops / speed, timed=False, flops=flops))
            continue
        name = name_model(cost)
        if name not in speeds and time.perf_counter() < ends and _is_quick(cost, count):
            speeds |= _time_model(cost, name=name)
        timed = name in speeds
        found.append(RunTime(flops / (speeds[name] if timed else measure_products()), timed, flops))
    return found


def estimate_trials(
    trials: Sequence[Trial], *, data_dir: Path | None = None, device: PlannedDevice | None = None
) -> RunTime:
    """The time of all these trials together, each taken to be as long as the first of its arm."""
    firsts = {trial.arm: trial.run for trial in reversed(trials)}
    runs = match_runs(list(firsts.values()), data_dir=data_dir)
    times = estimate_times(runs, count_arms(runs, data_dir=data_dir), data_dir=data_dir, device=device)
    each = [times[firsts[trial.arm].arm] for trial in trials]
    seconds, flops = sum(time.seconds for time in each), sum(time.flops for time in each)
    return RunTime(seconds, all(time.timed for time in times.values()), flops)


def _doubt_text(data: RunData) -> list[str]:
    digests = {split: read_statistics(data.corpus.files[split]).sha256 for split in SPLITS}
    pairs = (("train", "valid"), ("train", "test"), ("valid", "test"))
    names = {"train": "training", "valid": "validation", "test": "test"}
    return [
        f"the {names[other]} text is the {names[one]} text: its perplexity says nothing about new text"
        for one, other in pairs
        if digests[one] == digests[other]
    ]


def _doubt_vocabulary(run: RunSpec, data: RunData) -> list[str]:
    asked, size = getattr(run.spec.vocabulary, "size", None), data.vocabulary.size
    if asked is None or size >= asked:
        return []
    kind = run.spec.vocabulary.type
    return [f"vocabulary.size is {asked:,}, but the training text fills a {kind} vocabulary of {size:,} only"]


def _is_quick(cost: CostEstimate, count: ArmCount) -> bool:
    memory = find_memory()
    fits = memory is None or count.memory_bytes < memory / 2
    return fits and cost.flops_per_step <= MOST_TIMED_FLOPS and not cost.run.spec.training.compile


def _time_model(cost: CostEstimate, *, name: str) -> dict[str, float]:
    """Operations per second by the model's name; nothing where no step can be made."""
    try:
        with keep_torch_settings():
            torch.set_num_threads(1)
            return {name: cost.flops_per_step / time_step(cost, device="cpu", seconds=FORECAST_STEP_SECONDS)}
    except (TiebenchError, RuntimeError, MemoryError):  # the loss diverged, or memory was too small
        return {}
