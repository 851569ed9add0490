"""Where a training step's time goes: seconds of the processor by part, in fp32 and bf16, one thread.

    python benchmarks/profile_step.py lstm-200-wikitext-2 gpt-256-ptb --arm tied

Each precision of each workload has a process of its own, in turn, several rounds of them. A step is taken apart by
timing its pieces one by one, a sum over the calls in a step, the median over steps and rounds. What counts is the
processor time of the thread, which other work on the machine lengthens only through the shared cache and memory.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

PRECISIONS = {"fp32": "", "bf16": "-bf16"}
PARTS = {
    "batch": "reading the batch",
    "embedding": "embedding, forward",
    "body forward": "body, forward",
    "head weights": "head, casting the weights",
    "head scores": "head, products for the scores",
    "head exponentials": "head, exponentials and sums",
    "head hidden": "head, products for the hidden vectors' gradient",
    "head table": "head, products for the table's gradient",
    "head rest": "head, the rest (targets, normalising)",
    "backward": "body and embedding, backward",
    "optimizer": "optimizer (norm, clipping, update)",
    "rest": "the rest",
}


class Parts:
    """Seconds by part of the step that is running; a part inside another one is taken out of the outer one."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = defaultdict(float)
        self.inner = [0.0]
        self.open: list[str] = []

    @contextmanager
    def timing(self, part: str) -> Iterator[None]:
        """What happens inside "head table" belongs to it, whoever does it."""
        part = "head table" if "head table" in self.open else part
        started = time.thread_time()
        self.inner.append(0.0)
        self.open.append(part)
        try:
            yield
        finally:
            took = time.thread_time() - started
            self.open.pop()
            self.seconds[part] += took - self.inner.pop()
            self.inner[-1] += took

    def wrap(self, owner: Any, name: str, part: str) -> None:
        """Time every call of `owner.name`."""
        whole = getattr(owner, name)

        def timed(*arguments: Any, **options: Any) -> Any:
            with self.timing(part):
                return whole(*arguments, **options)

        setattr(owner, name, timed)


def watch(trainer: Any, parts: Parts) -> None:
    """Let the pieces of a trainer's step report to `parts`."""
    import torch

    from tiebench.losses import linear_cross_entropy as head
    from tiebench.losses import tiles

    parts.wrap(type(trainer.batches), "read", "batch")
    parts.wrap(trainer.model.embedding, "embed", "embedding")
    parts.wrap(trainer.model.architecture, "forward", "body forward")
    parts.wrap(trainer.optimizer, "step", "optimizer")
    parts.wrap(torch.Tensor, "backward", "backward")
    parts.wrap(head._LinearCrossEntropy, "forward", "head rest")
    parts.wrap(head, "cast_operands", "head weights")
    parts.wrap(head, "_add_table_gradients", "head table")
    parts.wrap(head, "visit_tiles", "head exponentials")
    parts.wrap(head, "add_product", "head hidden")
    watch_scores(tiles, parts)


def watch_scores(tiles: Any, parts: Parts) -> None:
    """The products for the scores are the only plain `torch.mm` into a buffer that the module itself makes."""
    import torch

    class Timed:
        def __getattr__(self, name: str) -> Any:
            return getattr(torch, name)

        @staticmethod
        def mm(left: Any, right: Any, *, out: Any) -> Any:
            is_score = not right.is_contiguous() and left.is_contiguous()
            if not is_score:
                return torch.mm(left, right, out=out)
            with parts.timing("head scores"):
                return torch.mm(left, right, out=out)

    tiles.torch = Timed()


def time_parts(name: str, *, arm: str, num_steps: int) -> dict[str, Any]:
    """Milliseconds by part of the median step, and of the whole step when nothing is taken apart."""
    import torch

    from tiebench.cli.allocator import tune_allocator
    from tiebench.execution import bench
    from tiebench.execution.workloads import open_workload

    tune_allocator()
    torch.set_num_threads(1)
    workload = open_workload(name, arm=arm)
    with tempfile.TemporaryDirectory() as folder:
        trainer = bench.build_trainer(workload, device=torch.device("cpu"), folder=Path(folder))
        whole = list_seconds(trainer.train_step, num_steps=num_steps)
        parts, steps = Parts(), []
        watch(trainer, parts)
        for _ in range(num_steps):
            parts.seconds.clear()
            with parts.timing("rest"):
                trainer.train_step()
            steps.append(dict(parts.seconds))
    found = {part: 1e3 * statistics.median(step.get(part, 0.0) for step in steps) for part in PARTS}
    return {"parts": found, "whole": 1e3 * statistics.median(whole)}


def list_seconds(step: Callable[[], None], *, num_steps: int) -> list[float]:
    """Seconds of each of some steps, after three to warm up."""
    for _ in range(3):
        step()
    seconds = []
    for _ in range(num_steps):
        started = time.thread_time()
        step()
        seconds.append(time.thread_time() - started)
    return seconds


def sample(name: str, *, arm: str, num_steps: int) -> dict[str, Any]:
    """`time_parts` in a process of its own."""
    command = [sys.executable, __file__, name, "--arm", arm, "--steps", str(num_steps), "--sample"]
    return json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()[-1])


def tabulate(name: str, arm: str, samples: dict[str, list[dict[str, Any]]]) -> str:
    """A Markdown table of milliseconds a step: a row for each part, a column for each precision, and their ratio."""
    lines = [f"| {name} {arm}, ms a step | fp32 | bf16 | ratio |", "|---|---|---|---|"]
    rows = {
        words: [[found["parts"][part] for found in samples[key]] for key in PRECISIONS] for part, words in PARTS.items()
    }
    rows["**whole step**"] = [[found["whole"] for found in samples[key]] for key in PRECISIONS]
    for words, columns in rows.items():
        full, half = (statistics.median(column) for column in columns)
        if max(full, half) >= 0.05:
            lines.append(
                f"| {words} | {full:.1f} | {half:.1f} | {full / half:.2f} |"
                if half
                else f"| {words} | {full:.1f} | 0 | |"
            )
    ratios = [one["whole"] / other["whole"] for one, other in zip(*samples.values(), strict=True)]
    return "\n".join([*lines, f"| ratio of each round | | | {min(ratios):.2f} to {max(ratios):.2f} |"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("workloads", nargs="+", help="names of `tiebench bench`, without -bf16")
    parser.add_argument("--arm", default="tied")
    parser.add_argument("--steps", type=int, default=7)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--sample", action="store_true", help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.sample:
        print(json.dumps(time_parts(asked.workloads[0], arm=asked.arm, num_steps=asked.steps)))
        return
    for name in asked.workloads:
        samples: dict[str, list[dict[str, Any]]] = {key: [] for key in PRECISIONS}
        for _ in range(asked.rounds):
            for key, suffix in PRECISIONS.items():
                samples[key].append(sample(name + suffix, arm=asked.arm, num_steps=asked.steps))
        print(tabulate(name, asked.arm, samples), end="\n\n", flush=True)


if __name__ == "__main__":
    main()
