"""Which operators a training step consists of: shares of the time of one thread by part, ours beside peers.

    python benchmarks/step_shares.py gpt-256-ptb lstm-200-ptb [--word-language-model DIR] [--nano-gpt DIR]

torch.profiler takes a step at a time apart; of each operator only its own time counts, and of each part the median
over the steps, since other work on the machine stretches some steps and not others. Shares are of the operators' time:
what Python does between them is not in it. Writes shares.json and performance.md into --results.
"""

import argparse
import json
import re
import statistics
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from bench_peers import BUILDERS, OURS, PEERS
from plot_costs import describe_setting
from quiet_machine import look_at_machine

from tiebench.files import write_text
from tiebench.reporting.render import render_table
from tiebench.reporting.tables import Column, Table

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


def take_sample(program: str, workload: str, *, arm: str, num_steps: int, folder: Path | None) -> dict[str, float]:
    """`profile_steps` of a program on a workload, in this process, with one thread."""
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
        return profile_steps(train, num_steps=num_steps)
    with tempfile.TemporaryDirectory() as place:
        trainer = bench.build_trainer(opened, device=torch.device("cpu"), folder=Path(place))
        return profile_steps(trainer.train_step, num_steps=num_steps)


def render_shares(content: dict[str, Any]) -> str:
    """A table for each workload: a row for each part, a column for each program."""
    return "\n".join(render_table(_tabulate(found, content), format="markdown") for found in content["workloads"])


def _tabulate(found: dict[str, Any], content: dict[str, Any]) -> Table:
    programs = found["programs"]
    columns = (Column("part"), *(Column(f"{program}, %", "number") for program in programs))
    totals = {program: sum(parts.values()) for program, parts in programs.items()}
    rows = [
        (part, *(100 * parts.get(part, 0.0) / totals[program] for program, parts in programs.items()))
        for part in (*PARTS, REST)
        if any(parts.get(part, 0.0) / totals[program] > LEAST_SHARE for program, parts in programs.items())
    ]
    share = content["other_work"]
    caption = (
        f"{content['setting']} Shares of the time of torch's operators in the median of {content['num_steps']} steps "
        "by torch.profiler, without the time between operators; other work took "
        f"{'an unknown share' if share is None else format(share, '.0%')} of the machine, so read these as shares, not "
        "as times."
    )
    return Table(f"A step by its parts: {found['workload']}, {found['arm']}", columns, tuple(rows), caption)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("workloads", nargs="+", help="names of `tiebench bench`")
    parser.add_argument("--arm", default="tied")
    parser.add_argument("--steps", type=int, default=9)
    parser.add_argument("--word-language-model", type=Path)
    parser.add_argument("--nano-gpt", type=Path)
    parser.add_argument("--results", type=Path, default=Path("results"))
    parser.add_argument("--sample", metavar="PROGRAM", help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.sample:
        options = {"arm": asked.arm, "num_steps": asked.steps, "folder": asked.folder}
        print(json.dumps(take_sample(asked.sample, asked.workloads[0], **options)))
        return
    from performance_page import refresh_page

    folders = {"word_language_model": asked.word_language_model, "nanoGPT": asked.nano_gpt}
    share, found = look_at_machine(), []
    for workload in asked.workloads:
        peers = [peer for peer in PEERS[workload.split("-")[0]] if peer.startswith("HF") or folders.get(peer)]
        programs = {}
        for program in (OURS, *peers):
            command = [sys.executable, __file__, workload, "--arm", asked.arm, "--steps", str(asked.steps)]
            command += ["--sample", program, *(["--folder", str(folders[program])] if folders.get(program) else [])]
            answer = subprocess.run(command, capture_output=True, text=True, check=True)
            programs[program] = json.loads(answer.stdout.splitlines()[-1])
        found.append({"workload": workload, "arm": asked.arm, "programs": programs})
    content = {"setting": describe_setting({}), "other_work": share, "num_steps": asked.steps, "workloads": found}
    write_text(json.dumps(content, indent=1) + "\n", file=asked.results / "shares.json")
    refresh_page(asked.results)


if __name__ == "__main__":
    main()
