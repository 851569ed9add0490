"""A whole comparison, arms x seeds of one workload, by each way of executing it (`--jobs 1`, `packed`, `auto`).

    python scripts/bench_engines.py [--workload lstm-200-ptb] [--seeds 5] [--device cuda]

What is reported is the time of all runs over the time that one run alone takes for as many steps. Every sample is a
process of its own, and the engines follow each other in every round. Writes engines.json, or engines-cuda.json, and rewrites
performance.md.
"""

import argparse
import json
import multiprocessing
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

from tiebench.cli import SPINS

WORKLOADS = ("lstm-200-ptb", "lstm-650-ptb", "gpt-256-ptb")
SOLO, IN_TURN, PACKED, PROCESSES = "solo", "in turn", "packed", "processes"
ENGINES = (SOLO, IN_TURN, PACKED, PROCESSES)
ARMS = ("untied", "tied")
NUM_PROCESSES = {"cpu": os.cpu_count() or 1}
NUM_PROCESSES_ELSEWHERE = 4
WARM_UP_STEPS = 3


def take_sample(engine: str, workload: str, *, num_seeds: int, num_steps: int, device: str, threads: int) -> dict[str, Any]:
    """Seconds in which every run has made `num_steps` steps, and the highest memory of all processes at work."""
    runs = [(arm, seed) for seed in range(1, num_seeds + 1) for arm in ARMS]
    if engine == SOLO:
        runs = runs[:1]
    if engine != PROCESSES:
        return make_steps(runs, workload, packed=engine == PACKED, num_steps=num_steps, device=device, threads=threads)
    number = min(len(runs), NUM_PROCESSES.get(device.partition(":")[0], NUM_PROCESSES_ELSEWHERE))
    context = multiprocessing.get_context("spawn")
    barrier, answers = context.Barrier(number), context.SimpleQueue()
    options = {"num_steps": num_steps, "device": device, "threads": max(1, threads // number)}
    children = [
        context.Process(target=_work, args=(runs[place::number], workload, options, barrier, answers))
        for place in range(number)
    ]
    for child in children:
        child.start()
    found = [answers.get() for _ in children]
    for child in children:
        child.join()
    peaks = [answer["peak_memory_bytes"] for answer in found]
    return {"seconds": max(answer["seconds"] for answer in found), "peak_memory_bytes": sum(peaks)}


def _work(runs: list[tuple[str, int]], workload: str, options: dict[str, Any], barrier: Any, answers: Any) -> None:
    answers.put(make_steps(runs, workload, packed=False, wait=barrier.wait, **options))


def make_steps(
    runs: list[tuple[str, int]],
    workload: str,
    *,
    packed: bool,
    num_steps: int,
    device: str,
    threads: int,
    wait: Any = lambda: None,
) -> dict[str, Any]:
    """Build the runs, warm up, wait for the others, and make the steps: of one run after the other, or of all at once."""
    import torch

    from tiebench.training import bench, environment, workloads
    from tiebench.training.packing import Pack

    environment.tune_allocator()
    torch.set_num_threads(threads)
    place = torch.device(device)
    with tempfile.TemporaryDirectory() as folder:
        trainers = []
        for arm, seed in runs:
            opened = workloads.open_workload(workload, arm=arm, device=device)
            opened = replace(opened, run=replace(opened.run, seed=seed))
            trainers.append(bench.build_trainer(opened, device=place, folder=Path(folder)))
        groups = [Pack(trainers).step] if packed else [trainer._step for trainer in trainers]
        for step in groups:
            for _ in range(WARM_UP_STEPS):
                step()
        clock = bench.Clock(place)
        wait()
        clock.lap()
        for step in groups:
            for _ in range(num_steps):
                step()
        return {"seconds": clock.lap(), "peak_memory_bytes": environment.measure_peak_memory(place)}


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


def describe_setting(asked: argparse.Namespace) -> dict[str, Any]:
    import torch

    from tiebench.training import environment

    facts = environment.describe_hardware(torch.device(asked.device), allocator=environment.tune_allocator())
    facts["threads"] = asked.threads
    names = {"num_runs": len(ARMS) * asked.seeds, "num_steps": asked.steps}
    return {**names, "hardware": facts, "versions": environment.list_versions()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--workload", action="append")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--results", type=Path, default=Path("results"))
    parser.add_argument("--sample", nargs=2, metavar=("ENGINE", "WORKLOAD"), help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.sample:
        options = {"num_seeds": asked.seeds, "num_steps": asked.steps, "device": asked.device, "threads": asked.threads}
        print(json.dumps(take_sample(*asked.sample, **options)))
        return
    from performance_page import refresh_page
    from tiebench.results.atomic import write_text

    file = asked.results / ("engines.json" if asked.device == "cpu" else "engines-cuda.json")
    setting, samples = describe_setting(asked), []
    for number in range(asked.rounds):
        for workload in asked.workload or WORKLOADS:
            for engine in ENGINES:
                samples.append({"round": number, **spawn_sample(engine, workload, asked=asked)})
            content = json.dumps({"setting": setting, "samples": samples}, indent=1)
            write_text(content + "\n", file=file)
            refresh_page(asked.results)


if __name__ == "__main__":
    main()
