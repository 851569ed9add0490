"""How cost grows: memory over vocabulary and corpus, time over width, tokenising, start-up. Each point is a process.

    python benchmarks/plot_costs.py [--largest-mb 1000] [--text FILE]

Writes costs.json and costs.svg into results/ and rewrites performance.md.
"""

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from quiet_machine import check_quiet, describe_start, look_at_machine

ROOT = Path(__file__).parents[1]
MB = 2**20
VOCABULARIES = (10_000, 33_278, 100_000, 250_000)
WIDTHS = (100, 200, 400, 650, 1000, 1500)
CORPUS_MB = (10, 100, 1000)
NUM_STEPS = 4
BYTES_PER_TOKEN = 5.5  # of English text with spaces


def measure_vocabulary(size: float) -> float:
    """Peak megabytes of training an LSTM 2 x 200, tied, 20 x 35 tokens, at a vocabulary size."""
    return _train(vocabulary_size=int(size), width=200)[0]


def measure_width(width: float) -> float:
    """CPU microseconds per token of training an LSTM of two layers, tied, 10,000 words."""
    return _train(vocabulary_size=10_000, width=int(width))[1]


def measure_corpus(megabytes: float) -> float:
    """Peak megabytes of training an LSTM 2 x 200 on a stream of that much text, mapped from a file."""
    return _train(vocabulary_size=10_000, width=200, megabytes=megabytes)[0]


def measure_tokenising(megabytes: float) -> tuple[float, float]:
    """Megabytes of text per CPU second (one thread) to ids on the disk, and the peak megabytes of memory."""
    import torch

    from tiebench.corpora.opening import open_corpus
    from tiebench.corpora.stream import open_streams
    from tiebench.corpora.vocabulary import fit_vocabulary
    from tiebench.execution.environment import measure_peak_memory
    from tiebench.experiment.corpus_config import TextConfig

    with tempfile.TemporaryDirectory() as folder:
        os.environ["TIEBENCH_CACHE"] = folder
        text = Path(os.environ["TIEBENCH_COST_TEXT"]).read_bytes()
        file = Path(folder) / "train.txt"
        with file.open("wb") as out:
            while out.tell() < megabytes * MB:
                out.write(text)
        block = {"type": "text", "train": str(file), "valid": str(file), "test": str(file)}
        corpus = open_corpus(TextConfig.model_validate(block))
        vocabulary = fit_vocabulary(_words(), corpus=corpus)
        started = time.process_time()
        open_streams(corpus, vocabulary=vocabulary)
        seconds = time.process_time() - started
        return 3 * file.stat().st_size / MB / seconds, measure_peak_memory(torch.device("cpu")) / MB


def measure_start(arguments: str) -> tuple[float, float]:
    """Seconds, and CPU seconds, of a command of tiebench: the medians of five."""
    command = [sys.executable, "-m", "tiebench", *arguments.split()]
    found = []
    for _ in range(5):
        wall, cpu = time.perf_counter(), _read_children_seconds()
        subprocess.run(command, capture_output=True, check=True)
        found.append((time.perf_counter() - wall, _read_children_seconds() - cpu))
    return tuple(map(statistics.median, zip(*found, strict=True)))


def _read_children_seconds() -> float:
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def _words() -> Any:
    from tiebench.experiment.schema import Words

    return Words(type="words")


def _train(*, vocabulary_size: int, width: int, megabytes: float | None = None) -> tuple[float, float]:
    """Peak megabytes and CPU microseconds per token (the smallest step) of a few steps."""
    import torch

    from tiebench.cli.allocator import tune_allocator
    from tiebench.execution import bench, environment, workloads

    tune_allocator()
    name = "cost"
    workloads.WORKLOADS[name] = (vocabulary_size, workloads.describe_lstm(width))
    workload = workloads.open_workload(name, arm="tied")
    with tempfile.TemporaryDirectory() as folder:
        if megabytes is not None:
            stream = _map_stream(Path(folder) / "ids.bin", num_tokens=int(megabytes * MB / BYTES_PER_TOKEN))
            workload = replace(workload, streams={**workload.streams, "train": stream})
        trainer = bench.build_trainer(workload, device=torch.device("cpu"), folder=Path(folder))
        costs = []
        for _ in range(NUM_STEPS):
            started = time.process_time()
            trainer.train_step()
            costs.append(time.process_time() - started)
    return environment.measure_peak_memory(torch.device("cpu")) / MB, 1e6 * min(costs) / 700


def _map_stream(file: Path, *, num_tokens: int) -> Any:
    import numpy as np

    from tiebench.corpora.stream import TokenStream
    from tiebench.execution.workloads import draw_stream

    some = draw_stream(100_000, vocabulary_size=10_000).ids.astype("<u2")
    with file.open("wb") as out:
        for _ in range(-(-(num_tokens + 1) // len(some))):
            some.tofile(out)
    ids = np.memmap(file, dtype="<u2", mode="r", shape=(num_tokens + 1,))
    return TokenStream(ids, num_tokens, num_tokens, num_bytes=0, num_unknown=0)


KINDS: dict[str, Callable[[Any], Any]] = {
    "vocabulary": measure_vocabulary,
    "width": measure_width,
    "corpus": measure_corpus,
    "tokenising": measure_tokenising,
}
TITLES = {
    "vocabulary": ("Training memory over the vocabulary (LSTM 2x200, tied, 20 x 35 tokens)", ["words", "peak MiB"]),
    "width": ("Training time over the width (LSTM, 2 layers, 10,000 words, 1 thread)", ["width", "CPU µs per token"]),
    "corpus": ("Training memory over the corpus (LSTM 2x200, 10,000 words)", ["MiB of text", "peak MiB"]),
    "tokenising": ("Tokenising, by words, with reading and writing", ["MiB of text", "MiB per CPU second", "peak MiB"]),
}


def collect_curves(points: dict[str, tuple[float, ...]], *, text: Path) -> list[dict[str, Any]]:
    """Every point in a process of its own, with one thread."""
    environment = os.environ | {"OMP_NUM_THREADS": "1", "TIEBENCH_COST_TEXT": str(text.resolve())}
    curves = []
    for kind, values in points.items():
        title, columns = TITLES[kind]
        rows = []
        for value in values:
            command = [sys.executable, __file__, "--point", kind, str(value)]
            answer = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
            found = json.loads(answer.stdout.splitlines()[-1])
            rows.append([value, *(found if isinstance(found, list) else [found])])
        curves.append({"kind": kind, "title": title, "columns": columns, "rows": rows})
    return curves


def describe_setting(start: dict[str, Any]) -> str:
    """The machine, the versions and other work at the start, in a sentence or two."""
    import torch

    from tiebench.execution.environment import describe_hardware

    hardware = describe_hardware(torch.device("cpu"))
    where = f"{hardware['cpu']}, one thread of {hardware['cores']} cores"
    return f"{where}; torch {torch.__version__}. Each point is a process.{describe_start(start)}"


def draw_curves(curves: list[dict[str, Any]], *, file: Path) -> None:
    """A panel per curve, both axes from zero up."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, panels = pyplot.subplots(1, len(curves), figsize=(4 * len(curves), 3.4), layout="constrained")
    for panel, curve in zip(panels, curves, strict=True):
        across, up = ([row[place] for row in curve["rows"]] for place in (0, 1))
        panel.plot(across, up, marker="o", color="#0072B2")
        panel.set(xlabel=curve["columns"][0], ylabel=curve["columns"][1], xlim=(0, None), ylim=(0, 1.15 * max(up)))
        panel.set_title(curve["title"].split(" (")[0], fontsize=10)
    with matplotlib.rc_context({"svg.hashsalt": "tiebench"}):
        figure.savefig(file, metadata={"Date": None})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--largest-mb", type=float, default=1000.0, help="of text")
    data = Path(os.environ.get("TIEBENCH_DATA", "data"))
    parser.add_argument("--text", type=Path, default=data / "wikitext-2" / "wiki.train.tokens")
    parser.add_argument("--results", type=Path, default=ROOT / "results")
    parser.add_argument("--busy", action="store_true", help="measure beside other work; the page says so")
    parser.add_argument("--point", nargs=2, metavar=("KIND", "VALUE"), help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.point:
        kind, value = asked.point
        print(json.dumps(KINDS[kind](float(value))))
        return
    from performance_page import refresh_page

    from tiebench.files import write_text

    start = check_quiet(look_at_machine(), busy=asked.busy)
    sizes = tuple(size for size in CORPUS_MB if size <= asked.largest_mb)
    points = {"vocabulary": VOCABULARIES, "width": WIDTHS, "corpus": sizes, "tokenising": (10, 100)}
    curves = collect_curves(points, text=asked.text)
    commands = ["--help"]
    if any(asked.results.glob("*/*/*/record.json")):
        commands.append(f"compare tied untied --results {asked.results}")
    starts = {command.split(" --results")[0]: measure_start(command) for command in commands}
    content = {"setting": describe_setting(start), "curves": curves, "start_seconds": starts}
    write_text(json.dumps(content, indent=1) + "\n", file=asked.results / "costs.json")
    draw_curves(curves, file=asked.results / "costs.svg")
    refresh_page(asked.results)


if __name__ == "__main__":
    main()
