"""Where the time of a training step goes: by torch's operators in one thread, ours beside peers.

    python benchmarks/step_shares.py --word-language-model DIR --nano-gpt DIR

DIR is the folder with the program's model.py. Each program has processes of its own, in turn, several rounds of them,
peers with the allocator that tiebench sets for itself. torch.profiler takes a step at a time apart; of each operator
only its own time counts, and of each part the median over steps and rounds. What Python does between operators is in
no part; the whole step is timed without the profiler. Refused where other work takes more than 5 % of the machine,
unless --busy says that it is known: then the page gives shares and no times. Writes shares.json (by processor: those of
other processors stay) and performance.md into --results.
"""

import argparse
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from bench_peers import ALLOCATORS, BUILDERS, OURS, list_contestants
from plot_costs import describe_setting
from quiet_machine import check_quiet, describe_processor, look_at_machine, name_processor

from tiebench.files import write_text
from tiebench.reporting.render import render_table
from tiebench.reporting.tables import Column, Table

WORKLOADS = ("lstm-200-ptb", "lstm-650-ptb", "lstm-200-wikitext-2", "gpt-256-ptb", "gpt-256-wikitext-2")
PARTS = {
    "matrix products": r"(add)?mm_?$|bmm$|baddbmm|linear",
    "LSTM": r"rnn|lstm",
    "attention": r"scaled_dot_product|flash_attention",
    "norms": r"layer_norm|rms_norm",
    "GELU": r"gelu|tanh",
    "dropout": r"dropout|bernoulli",
    "optimizer": r"_fused_|_foreach|vector_norm|addc(mul|div)",
    "loss": r"softmax|nll_loss|exp_?$|logsumexp|cross_entropy|gather|scatter|amax|sum$",
    "embedding": r"embedding|index_(select|add|put)",
    "copies and fills": r"copy|clone|cat$|fill_|zero_|index$|empty|contiguous|resize|stack",
    "sums and scaling": r"(add|sub|mul|div)_?$",
}
"""Parts in the order in which they are looked for in the name of an operator; what fits none is `the rest`."""
REST = "the rest"
WARM_UP_STEPS = 2
LEAST_SHARE = 0.0005
"""Of a part in some program; less than that is no row."""


def find_part(operator: str) -> str:
    """`aten::addmm` is of the matrix products."""
    name = operator.removeprefix("aten::")
    return next((part for part, pattern in PARTS.items() if re.search(pattern, name)), REST)


def add_up(events: Iterable[Any]) -> Counter[str]:
    """Microseconds by part: the own time of each operator, without what it calls."""
    found: Counter[str] = Counter()
    for event in events:
        found[find_part(event.name)] += event.self_cpu_time_total
    return found


def profile_steps(step: Callable[[], Any], *, num_steps: int) -> dict[str, float]:
    """Milliseconds by part of the median step, those without any left out."""
    from torch.profiler import ProfilerActivity, profile

    for _ in range(WARM_UP_STEPS):
        step()
    steps = []
    for _ in range(num_steps):
        with profile(activities=[ProfilerActivity.CPU]) as profiler:
            step()
        steps.append(add_up(profiler.events()))
    medians = {part: statistics.median(found[part] for found in steps) / 1e3 for part in (*PARTS, REST)}
    return {part: found for part, found in medians.items() if found}


def time_step(step: Callable[[], Any], *, num_steps: int) -> float:
    """Milliseconds of the median step."""
    seconds = []
    for _ in range(num_steps):
        started = time.perf_counter()
        step()
        seconds.append(time.perf_counter() - started)
    return 1e3 * statistics.median(seconds)


def take_sample(program: str, workload: str, *, arm: str, num_steps: int, folder: Path | None) -> dict[str, Any]:
    """Milliseconds by part, and of a whole step, of a program on a workload: in this process, with one thread."""
    import torch

    from tiebench.cli.allocator import tune_allocator
    from tiebench.execution import bench
    from tiebench.execution.workloads import open_workload

    tune_allocator()
    torch.set_num_threads(1)
    opened = open_workload(workload, arm=arm)
    if program != OURS:
        ids = torch.from_numpy(opened.streams["train"].ids).long()
        train, _ = BUILDERS[program](opened.run, opened.vocabulary_size, ids, folder=folder)
        return {"parts": profile_steps(train, num_steps=num_steps), "whole": time_step(train, num_steps=num_steps)}
    with tempfile.TemporaryDirectory() as place:
        trainer = bench.build_trainer(opened, device=torch.device("cpu"), folder=Path(place))
        step = trainer.train_step
        return {"parts": profile_steps(step, num_steps=num_steps), "whole": time_step(step, num_steps=num_steps)}


def take_samples(workload: str, *, asked: argparse.Namespace) -> dict[str, dict[str, Any]]:
    """By program the medians over the rounds, each sample in a process of its own."""
    folders = {"word_language_model": asked.word_language_model, "nanoGPT": asked.nano_gpt}
    programs = list(dict.fromkeys(program for program, _ in list_contestants(workload, folders)))
    samples: dict[str, list[dict[str, Any]]] = {program: [] for program in programs}
    for _ in range(asked.rounds):
        for program in programs:
            command = [sys.executable, __file__, workload, "--arm", asked.arm, "--steps", str(asked.steps)]
            command += ["--sample", program, *(["--folder", str(folders[program])] if folders.get(program) else [])]
            environment = os.environ | ALLOCATORS["tuned"]
            answer = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
            if answer.returncode:
                raise SystemExit(f"{program} on {workload} failed:\n{answer.stderr}")
            samples[program].append(json.loads(answer.stdout.splitlines()[-1]))
    return {program: summarise(found) for program, found in samples.items()}


def summarise(samples: list[dict[str, Any]]) -> dict[str, Any]:
    """The median of each part over the rounds, a part that is not there being 0, and that of the whole step."""
    names = dict.fromkeys(part for sample in samples for part in sample["parts"])
    parts = {part: statistics.median(sample["parts"].get(part, 0.0) for sample in samples) for part in names}
    return {"parts": parts, "whole": statistics.median(sample["whole"] for sample in samples)}


def render_shares(content: dict[str, Any]) -> str:
    """For each processor a heading, and a table for each workload: a row for each part, columns for each program."""
    pages = []
    for name, found in content["processors"].items():
        tables = [render_table(_tabulate(each, found), format="markdown") for each in found["workloads"]]
        pages.append("\n".join([f"### A step by its parts: {name}\n", *tables]))
    return "\n".join(pages)


def _tabulate(found: dict[str, Any], content: dict[str, Any]) -> Table:
    """With milliseconds where the machine was quiet, and only shares where it was not."""
    programs, busy = found["programs"], content["start"]["busy"]
    units = ("%",) if busy else ("ms", "%")
    columns = (Column("part"), *(Column(f"{program}, {unit}", "number") for program in programs for unit in units))
    totals = {program: sum(sample["parts"].values()) for program, sample in programs.items()}
    rows: list[tuple[str | float | None, ...]] = []
    for part in (*PARTS, REST):
        took = {program: sample["parts"].get(part, 0.0) for program, sample in programs.items()}
        shares = {program: took[program] / totals[program] for program in programs}
        if max(shares.values()) > LEAST_SHARE:
            figures = ([100 * shares[name]] if busy else [took[name], 100 * shares[name]] for name in programs)
            rows.append((part, *(figure for pair in figures for figure in pair)))
    if not busy:
        for words, figures in (
            ("all operators", list(totals.values())),
            ("the step, without the profiler", [sample["whole"] for sample in programs.values()]),
        ):
            rows.append((words, *(cell for figure in figures for cell in (figure, None))))
    kind = "shares, and no times, of" if busy else "milliseconds, and shares, of"
    caption = (
        f"{content['setting']} By part the {kind} torch's operators in the median of {content['num_steps']} steps and "
        f"{content['num_rounds']} rounds by torch.profiler, without the time between operators. Peers have our "
        "settings of the allocator."
    )
    return Table(f"{found['workload']}, {found['arm']}", columns, tuple(rows), caption)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("workloads", nargs="*", help=f"names of `tiebench bench`; by default {', '.join(WORKLOADS)}")
    parser.add_argument("--arm", default="tied")
    parser.add_argument("--steps", type=int, default=9)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--word-language-model", type=Path)
    parser.add_argument("--nano-gpt", type=Path)
    parser.add_argument("--results", type=Path, default=Path("results"))
    parser.add_argument("--busy", action="store_true", help="measure beside other work; the page says so")
    parser.add_argument("--sample", metavar="PROGRAM", help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.sample:
        options = {"arm": asked.arm, "num_steps": asked.steps, "folder": asked.folder}
        print(json.dumps(take_sample(asked.sample, asked.workloads[0], **options)))
        return
    from performance_page import read_processors, refresh_page

    from tiebench.execution import bench

    start = check_quiet(look_at_machine(), busy=asked.busy)
    name = name_processor({**bench.describe_setting("cpu", num_threads=1), "processor": describe_processor()})
    found: list[dict[str, Any]] = []
    for workload in asked.workloads or WORKLOADS:
        found.append({"workload": workload, "arm": asked.arm, "programs": take_samples(workload, asked=asked)})
        content = {"setting": describe_setting(start), "start": start, "num_steps": asked.steps}
        content |= {"num_rounds": asked.rounds, "workloads": found}
        file = asked.results / "shares.json"
        processors = {**read_processors(file), name: content}
        write_text(json.dumps({"processors": processors}, indent=1) + "\n", file=file)
        refresh_page(asked.results)


if __name__ == "__main__":
    main()
