"""A whole comparison, arms x seeds of one workload, by each way of executing it: `--jobs 1`, `packed`, a number.

    python scripts/bench_engines.py [--workload lstm-200-ptb] [--seeds 5] [--device cuda]

What is reported is the time of all runs over the time that one run alone takes for as many steps. Every sample is a
process of its own, and the engines follow each other in every round. Writes engines.json, or engines-cuda.json, and
rewrites performance.md.
"""

import argparse
import json
import multiprocessing
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

from performance_page import SOLO, keep_samples, name_file

from tiebench.cli import SPINS

WORKLOADS = ("lstm-200-ptb", "lstm-650-ptb", "gpt-256-ptb")
IN_TURN, PACKED = "1", "packed"
ARMS = ("untied", "tied")
NUM_PROCESSES_ON_CUDA = 4
WARM_UP_STEPS = 3
BARRIER_SECONDS = 120

_meet: Callable[[], Any] = lambda: None


def list_engines(device: str, *, num_runs: int) -> tuple[str, ...]:
    """One run alone, then what `--jobs` may be; as many processes as `auto` would take on a CPU."""
    from tiebench.training.fleet import count_cores

    number = NUM_PROCESSES_ON_CUDA if device.startswith("cuda") else count_cores()
    return SOLO, IN_TURN, PACKED, str(max(2, min(number, num_runs)))


def take_sample(engine: str, workload: str, *, num_seeds: int, **options: Any) -> dict[str, Any]:
    """Seconds in which every run has made its steps, and the highest memory of all processes at work.

    `solo` is the mean of one run of each arm.
    """
    runs = [(arm, seed) for arm in ARMS for seed in range(1, num_seeds + 1)]
    if engine == SOLO:
        found = make_steps([(arm, 1) for arm in ARMS], workload, packed=False, **options)
        return found | {"seconds": found["seconds"] / len(ARMS)}
    if engine in (IN_TURN, PACKED):
        return make_steps(runs, workload, packed=engine == PACKED, **options)
    number = int(engine)
    options["threads"] = max(1, options["threads"] // number)
    context = multiprocessing.get_context("spawn")
    barrier = context.Barrier(number)
    with ProcessPoolExecutor(number, mp_context=context, initializer=_remember, initargs=(barrier,)) as pool:
        parts = [pool.submit(_make_steps_beside, runs[place::number], workload, options) for place in range(number)]
        found = [part.result() for part in parts]
    return {
        "seconds": max(part["seconds"] for part in found),
        "peak_memory_bytes": sum(part["peak_memory_bytes"] for part in found),
        "num_steps": sum(part["num_steps"] for part in found),
    }


def _remember(barrier: Any) -> None:
    """Every process of a pool begins its first step when all others do; one that cannot begin releases them."""
    global _meet
    _meet = lambda: barrier.wait(BARRIER_SECONDS)  # noqa: E731


def _make_steps_beside(runs: list[tuple[str, int]], workload: str, options: dict[str, Any]) -> dict[str, Any]:
    return make_steps(runs, workload, packed=False, **options)


def make_steps(
    runs: list[tuple[str, int]], workload: str, *, packed: bool, num_steps: int, device: str, threads: int
) -> dict[str, Any]:
    """Make the steps: of one run after the other, each in memory by itself, or of all at once. Only steps are timed."""
    import torch

    from tiebench.training import bench, environment
    from tiebench.training.packing import Pack

    environment.tune_allocator()
    torch.set_num_threads(threads)
    clock, seconds, made = bench.Clock(torch.device(device)), 0.0, 0
    with tempfile.TemporaryDirectory() as folder:
        for index, group in enumerate([runs] if packed else [[run] for run in runs]):
            trainers = [_build(workload, arm, seed, device=device, folder=Path(folder)) for arm, seed in group]
            step = Pack(trainers).step if packed else trainers[0]._step
            for _ in range(WARM_UP_STEPS):
                step()
            if index == 0:
                _meet()
            clock.lap()
            for _ in range(num_steps):
                step()
            seconds += clock.lap()
            made += sum(trainer.progress.step - WARM_UP_STEPS for trainer in trainers)
            del trainers, step
    peak = environment.measure_peak_memory(torch.device(device))
    return {"seconds": seconds, "peak_memory_bytes": peak, "num_steps": made}


def _build(workload: str, arm: str, seed: int, *, device: str, folder: Path) -> Any:
    import torch

    from tiebench.training import bench, workloads

    opened = workloads.open_workload(workload, arm=arm, device=device)
    opened = replace(opened, run=replace(opened.run, seed=seed))
    return bench.build_trainer(opened, device=torch.device(device), folder=folder)


def spawn_sample(engine: str, workload: str, *, asked: argparse.Namespace) -> dict[str, Any]:
    """A sample in a process of its own."""
    command = [sys.executable, __file__, "--sample", engine, workload, "--seeds", str(asked.seeds)]
    command += ["--steps", str(asked.steps), "--device", asked.device, "--threads", str(asked.threads)]
    answer = subprocess.run(
        command, env=os.environ | {"GOMP_SPINCOUNT": SPINS}, capture_output=True, text=True, check=False
    )
    if answer.returncode:
        raise SystemExit(f"{engine} on {workload} failed:\n{answer.stderr}")
    return {"engine": engine, "workload": workload, **json.loads(answer.stdout.splitlines()[-1])}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--workload", action="append")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--results", type=Path, default=Path("results"))
    parser.add_argument("--sample", nargs=2, metavar=("ENGINE", "WORKLOAD"), help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.sample:
        options = {"num_seeds": asked.seeds, "num_steps": asked.steps, "device": asked.device, "threads": asked.threads}
        print(json.dumps(take_sample(*asked.sample, **options)))
        return
    from tiebench.training.bench import describe_setting

    file = name_file("engines", device=asked.device, folder=asked.results)
    num_runs, samples = len(ARMS) * asked.seeds, []
    setting = describe_setting(asked.device, num_threads=asked.threads)
    setting |= {"num_runs": num_runs, "num_steps": asked.steps}
    for number in range(asked.rounds):
        for workload in asked.workload or WORKLOADS:
            for engine in list_engines(asked.device, num_runs=num_runs):
                samples.append({"round": number, **spawn_sample(engine, workload, asked=asked)})
            keep_samples(setting, samples, file=file)


if __name__ == "__main__":
    main()
