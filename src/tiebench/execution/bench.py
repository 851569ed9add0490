"""How fast a workload trains and is scored, beside how fast this machine multiplies matrices.

What is timed is the step that trains: `Trainer` itself, on a stream of tokens in memory. The ceiling is the rate of
the fastest of a few large matrix products, measured right after in the same process, with the same threads and
precision. Rates are those of the median step, so that a pause of the machine does not count. Every measurement has a
process of its own: memory and allocator begin fresh.
"""

import multiprocessing
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch

from tiebench.execution import environment
from tiebench.execution.workloads import Workload, list_parts, open_workload
from tiebench.models.language_model import build_model, count_flops_per_token, count_parameters, initialise_model
from tiebench.training.callbacks import Callback
from tiebench.training.evaluation import score_stream
from tiebench.training.precision import keep_float32
from tiebench.training.trainer import Trainer

WARM_UP_STEPS = 3
MIN_BENCH_STEPS = 5
WARM_UP_TOKENS = 4096
CEILING_SECONDS = 1.5
CEILING_SHAPES = ((1024, 1024, 1024), (2048, 2048, 2048), (1024, 256, 10000), (704, 656, 10000))
CEILING_SHAPES_ON_CUDA = ((8192, 8192, 8192), (16384, 4096, 4096))


@dataclass(frozen=True)
class SpeedMeasurement:
    """One arm of a workload. Rates in tokens per second of wall time; the ceilings in FLOP per second.

    Scoring has the ceiling of its own precision, whatever that of training.
    """

    workload: str
    arm: str
    device: str
    precision: str
    num_threads: int
    num_parameters: int
    flops_per_token: int
    train_tokens_per_second: float
    evaluation_tokens_per_second: float
    peak_memory_bytes: int
    ceiling_flops_per_second: float
    evaluation_ceiling_flops_per_second: float
    num_steps: int

    @property
    def train_fraction(self) -> float:
        """Arithmetic of training done, over what the measured ceiling would do in the same time."""
        return self.train_tokens_per_second * self.flops_per_token / self.ceiling_flops_per_second

    @property
    def evaluation_fraction(self) -> float:
        """The same for scoring, which is the forward third of a training step."""
        return self.evaluation_tokens_per_second * self.flops_per_token / 3 / self.evaluation_ceiling_flops_per_second

    def figures(self) -> dict[str, Any]:
        """Everything measured and what follows from it, as plain data."""
        return asdict(self) | {name: getattr(self, name) for name in ("train_fraction", "evaluation_fraction")}


@dataclass
class Clock:
    """Wall seconds since the last lap, after everything asked of the device is done."""

    device: torch.device
    started: float = 0.0

    def lap(self) -> float:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        before, self.started = self.started, time.perf_counter()
        return self.started - before


def measure_workloads(
    names: list[str],
    *,
    seconds: float,
    device: str = "auto",
    num_threads: int | None = None,
    data_dir: Path | None = None,
    announce: Callable[[str], None] = lambda what: None,
) -> Iterator[SpeedMeasurement]:
    """Measure each arm of each workload in a fresh process, one after the other; `announce` is told before each begins.

    Raises UsageError for a name that is no workload and no experiment.
    """
    kind = str(environment.choose_device(device))
    parts = list_parts(names, device=kind)
    for number, (name, arm) in enumerate(parts, start=1):
        announce(f"[{number}/{len(parts)}] {name} {arm}: training and scoring for {seconds:g} seconds each")
        with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
            yield pool.submit(
                measure_arm, name, arm=arm, seconds=seconds, device=kind, num_threads=num_threads, data_dir=data_dir
            ).result()


def measure_arm(
    name: str,
    *,
    arm: str,
    seconds: float,
    device: str = "cpu",
    num_threads: int | None = None,
    data_dir: Path | None = None,
) -> SpeedMeasurement:
    """Train one arm for `seconds`, score for as long, then measure the ceiling."""
    if num_threads:
        torch.set_num_threads(num_threads)
    keep_float32()
    place = torch.device(device)
    workload = open_workload(name, arm=arm, device=device, data_dir=data_dir)
    with tempfile.TemporaryDirectory() as folder:
        trainer = build_trainer(workload, device=place, folder=Path(folder))
        environment.restart_peak_memory(place)
        train_rate, num_steps = time_training(trainer, seconds=seconds)
        evaluation_rate = time_evaluation(trainer, workload, seconds=seconds)
        peak = environment.measure_peak_memory(place)
    precision = trainer.state.precision or "fp32"
    scoring_precision = workload.run.spec.evaluation.precision or "fp32"
    ceiling = measure_ceiling(place, precision=precision)
    return SpeedMeasurement(
        workload=name,
        arm=arm,
        device=device,
        precision=precision,
        num_threads=torch.get_num_threads(),
        num_parameters=count_parameters(trainer.model).total,
        flops_per_token=count_flops_per_token(
            trainer.model,
            context=workload.run.spec.training.window,
            objective=workload.run.spec.training.objective,
        ),
        train_tokens_per_second=train_rate,
        evaluation_tokens_per_second=evaluation_rate,
        peak_memory_bytes=peak,
        ceiling_flops_per_second=ceiling,
        evaluation_ceiling_flops_per_second=(
            ceiling if scoring_precision == precision else measure_ceiling(place, precision=scoring_precision)
        ),
        num_steps=num_steps,
    )


def build_trainer(workload: Workload, *, device: torch.device, folder: Path) -> Trainer:
    """The trainer that `tiebench train` would use, on a folder that holds no checkpoint."""
    model = build_model(workload.run.spec, vocabulary_size=workload.vocabulary_size)
    initialise_model(model, seed=workload.run.seed)
    model.to(device).train()
    return Trainer(workload.run, model, streams=workload.streams, folder=folder, callback=Callback())


def time_training(trainer: Trainer, *, seconds: float) -> tuple[float, int]:
    """Tokens per second of the median step, and the number of steps."""
    for _ in range(WARM_UP_STEPS):
        trainer.train_step()
    clock, rates = Clock(trainer.device), []
    clock.lap()
    ends = time.perf_counter() + seconds
    while len(rates) < MIN_BENCH_STEPS or time.perf_counter() < ends:
        before = trainer.state.tokens
        trainer.train_step()
        wall = clock.lap()
        rates.append((trainer.state.tokens - before) / wall)
    return statistics.median(rates), len(rates)


def time_evaluation(trainer: Trainer, workload: Workload, *, seconds: float) -> float:
    """Tokens per second of scoring the validation stream, or as much of it as `seconds` allow, over and over: the
    median."""
    clock, rates = Clock(trainer.device), []

    def score(num_tokens: int) -> None:
        stream = workload.streams["valid"]
        part = replace(stream, ids=stream.ids[: num_tokens + 1], num_tokens=min(num_tokens, stream.num_tokens))
        clock.lap()
        score_stream(trainer.model, part, spec=workload.run.spec, advance=lambda num: rates.append(num / clock.lap()))

    for _ in range(2):
        rates.clear()
        score(WARM_UP_TOKENS)
    num_tokens = max(WARM_UP_TOKENS, int(rates[-1] * seconds))
    rates.clear()
    ends = time.perf_counter() + seconds
    while not rates or time.perf_counter() < ends:
        score(num_tokens)
    return statistics.median(rates)


def measure_ceiling(device: torch.device, *, precision: str = "fp32", seconds: float = CEILING_SECONDS) -> float:
    """FLOP per second of the fastest of a few large matrix products: the median of its repetitions, as for steps."""
    dtype = torch.bfloat16 if precision == "bf16" else torch.float32
    clock, best = Clock(device), 0.0
    shapes = CEILING_SHAPES_ON_CUDA if device.type == "cuda" else CEILING_SHAPES
    for rows, inner, columns in shapes:
        left = torch.randn(rows, inner, device=device, dtype=dtype)
        right = torch.randn(inner, columns, device=device, dtype=dtype)
        out = torch.empty(rows, columns, device=device, dtype=dtype)
        ends, walls = time.perf_counter() + seconds / len(shapes), []
        torch.mm(left, right, out=out)
        clock.lap()
        while not walls or time.perf_counter() < ends:
            torch.mm(left, right, out=out)
            walls.append(clock.lap())
        best = max(best, 2 * rows * inner * columns / statistics.median(walls))
    return best


def describe_setting(device: str, *, num_threads: int) -> dict[str, Any]:
    """The hardware, versions and commit behind what is measured on this machine, as plain data."""
    hardware = environment.describe_hardware(torch.device(device))
    commit, dirty = environment.find_commit()
    return {
        "hardware": hardware | {"threads": num_threads},
        "versions": environment.list_versions(),
        "commit": commit,
        "dirty": dirty,
    }
