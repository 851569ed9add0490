"""What an answer costs beside training: setting a run up, validating it, comparing and reporting many runs.

    python benchmarks/measure_overheads.py --config press-wolf-2017-small

Runs and records are real; to have many, the published ones are copied under new seeds, each a valid record with its
own digests. Writes overheads.json and performance.md into --results.
"""

import argparse
import json
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from plot_costs import describe_setting
from quiet_machine import check_quiet, look_at_machine

from tiebench.files import compute_digest, write_text
from tiebench.reporting.render import render_table
from tiebench.reporting.tables import Column, Table
from tiebench.results.record import read_record, write_record
from tiebench.results.store import Store
from tiebench.results.token_nll import TOKEN_NLL_FILE, read_token_nll, write_token_nll

ROUNDS = 3
SETUP = """
from tiebench.execution.environment import choose_device
from tiebench.execution.run_data import load_data
from tiebench.experiment.loading import load_experiment
from tiebench.models.language_model import build_model, initialise_model
from tiebench.training.callbacks import Callback
from tiebench.training.trainer import Trainer
import pathlib, sys, tempfile
run = load_experiment(sys.argv[1]).list_runs()[0]
data = load_data(run, data_dir=pathlib.Path(sys.argv[2]) if sys.argv[2:] else None)
model = build_model(run.spec, vocabulary_size=data.vocabulary.size)
initialise_model(model, seed=run.seed)
with tempfile.TemporaryDirectory() as folder:
    Trainer(run, model, streams=data.streams, folder=pathlib.Path(folder), callback=Callback())
"""


def copy_runs(source: Store, experiment: str, arms: Sequence[str], *, number: int, folder: Path) -> Store:
    """`number` runs of an experiment, from its first seed's records, each with nats of its own."""
    copies = Store(folder)
    for arm in arms:
        origin = source.folder(experiment, arm, 1)
        record = read_record(origin)
        nats = read_token_nll(record, origin)
        for seed in range(1, number // len(arms) + 1):
            place = copies.folder(experiment, arm, seed)
            shutil.copytree(origin, place)
            found = {"seed": seed}
            if nats is not None:
                write_token_nll(own := nats * (1 + (seed * 7919 % 101 - 50) * 1e-5), place)
                test = record.evaluations["test"].model_copy(update={"nll": float(own.sum(dtype="float64"))})
                files = record.provenance.files | {TOKEN_NLL_FILE: compute_digest(place / TOKEN_NLL_FILE)}
                found |= {
                    "evaluations": {**record.evaluations, "test": test},
                    "provenance": record.provenance.model_copy(update={"files": files}),
                }
            write_record(record.model_copy(update=found), place)
    return copies


def measure_command(command: Sequence[str], *, rounds: int = ROUNDS) -> dict[str, float]:
    """The least of some rounds, in seconds of wall time and of the processor, after one that warms the caches."""
    walls, processor = [], []
    for _ in range(rounds + 1):
        before, started = _read_children_seconds(), time.perf_counter()
        answer = subprocess.run([sys.executable, *command], capture_output=True, text=True, check=False)
        if answer.returncode:
            raise SystemExit(f"what was to be measured failed:\n{answer.stderr}")
        walls.append(time.perf_counter() - started)
        processor.append(_read_children_seconds() - before)
    return {"seconds": min(walls[1:]), "cpu_seconds": min(processor[1:])}


def _read_children_seconds() -> float:
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def list_evaluation_shares(store: Store) -> dict[str, list[float]]:
    """By experiment the share of each run's time that was evaluation inside the training loop."""
    shares: dict[str, list[float]] = {}
    for record in store.records():
        usage = record.usage
        shares.setdefault(record.experiment, []).append(
            usage.evaluation_seconds / (usage.train_seconds + usage.evaluation_seconds)
        )
    return shares


def render_overheads(content: dict[str, Any]) -> str:
    """A table of commands and one of the share of evaluation."""
    columns = (Column("what"), Column("CPU seconds", "number"), Column("wall seconds", "number"))
    rows = tuple((what, found["cpu_seconds"], found["seconds"]) for what, found in content["commands"].items())
    caption = (
        f"{content['setting']} Each figure is that of the quickest of some rounds, with warm caches. Beside other "
        "work, wall time includes waiting for a core: read the CPU seconds there. The many runs are copies of "
        "published records under new seeds, each with nats of its own for 82,430 test tokens."
    )
    commands = Table("What an answer costs beside training", columns, rows, caption)
    columns = (Column("experiment"), Column("runs", "count"), Column("evaluation, % of time"))
    rows = tuple(
        (
            name,
            len(shares),
            f"{100 * statistics.median(shares):.1f} ({100 * min(shares):.1f} to {100 * max(shares):.1f})",
        )
        for name, shares in content["evaluation_shares"].items()
    )
    caption = (
        "The share that scoring the validation split takes of training and scoring together, from the published "
        "records: the median run, the lowest and the highest. Both are wall time on one machine, busy or not. A run "
        "whose budget is below one epoch is scored ten times too, on the whole split: the runs of map-small train on "
        "300,000 tokens, fewer than are scored."
    )
    evaluation = Table("Validation in the loop", columns, rows, caption)
    return "\n".join(render_table(table, format="markdown") for table in (commands, evaluation))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--config", default="press-wolf-2017-small", help="the run that is set up")
    parser.add_argument("--experiment", default="shared-layers-ptb", help="the published records that are copied")
    parser.add_argument("--results", type=Path, default=Path("results"))
    parser.add_argument("--busy", action="store_true", help="measure beside other work; the page says so")
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    asked = parser.parse_args()
    from performance_page import refresh_page

    start = check_quiet(look_at_machine(), busy=asked.busy)
    store = Store(asked.results)
    arms = ("tied", "untied")
    commands = {f"set up a run of {asked.config}": measure_command(["-c", SETUP, asked.config], rounds=asked.rounds)}
    for number, command in ((1000, ["compare", *arms, "--json"]), (100, ["report", "-o", "page.html"])):
        with tempfile.TemporaryDirectory() as folder:
            copies = copy_runs(store, asked.experiment, arms, number=number, folder=Path(folder) / "results")
            words = [str(Path(folder) / word) if word == "page.html" else word for word in command]
            whole = ["-m", "tiebench", *words, "--results", str(copies.root)]
            commands[f"{command[0]}, {number:,} runs"] = measure_command(whole, rounds=asked.rounds)
    shares = list_evaluation_shares(store)
    content = {"setting": describe_setting(start), "commands": commands, "evaluation_shares": shares}
    write_text(json.dumps(content, indent=1) + "\n", file=asked.results / "overheads.json")
    refresh_page(asked.results)


if __name__ == "__main__":
    main()
