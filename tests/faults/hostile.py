"""Hostile files: nothing of what a checkpoint, record or claims file says is executed, and nobody sees a traceback.

Text out of such a file may reach neither a terminal as control characters nor a page or table as a script or formula.
"""

import csv
import io
import random
from collections.abc import Callable
from functools import partial
from pathlib import Path

import yaml
from crashpoints import TRAIN
from damage import make_templates
from fuzz import find_raw_controls, mutate_config
from shell import Shell
from spoiling import spoil_array, spoil_checkpoint, spoil_json, spoil_text, spoil_weights
from tally import Tally
from truth import copy_folder, list_differences, read_figures

CLAIMS = Path(__file__).parents[2] / "configs" / "claims"
RUN = "results/tiny/tied/seed-1"
LIMIT_SECONDS = 30.0
FORMATS = ("text", "markdown", "csv", "html", "latex", "json")


def run_campaign(shell: Shell, folder: Path, *, seed: int, num_trials: int | None) -> Tally:
    """`num_trials` hostile files, 500 in the long version."""
    tally, trial, choose = Tally("hostile files"), folder / "trial", random.Random(seed)
    templates, truth = make_templates(shell, folder)
    marker, half_done = folder / "executed", "at its first checkpoint"
    papers = [yaml.safe_load(file.read_text("utf-8")) for file in sorted(CLAIMS.glob("*.yaml"))]

    def spoil_claims(file: Path) -> str:
        file.write_text(mutate_config(choose.choice(papers), choose=choose), "utf-8", errors="surrogatepass")
        return "mutated"

    look: list[tuple] = [("list", "runs"), ("show", RUN), ("compare", "untied", "tied", "--format", "FORMAT"), TRAIN]
    spoil_pickle = partial(spoil_checkpoint, marker=marker, choose=choose)
    spoil_numbers = partial(spoil_array, marker=marker, choose=choose)
    spoil_tensors, spoil_record = partial(spoil_weights, choose=choose), partial(spoil_json, choose=choose)
    spoil_spec = partial(spoil_text, choose=choose)
    attacks: dict[str, tuple[str, str, Callable[[Path], str], list[tuple]]] = {
        "checkpoint": (half_done, f"{RUN}/checkpoint.pt", spoil_pickle, [TRAIN]),
        "record": ("finished", f"{RUN}/record.json", spoil_record, look),
        "nats": ("finished", "NATS", spoil_numbers, look),
        "weights": ("before it was scored", f"{RUN}/weights.safetensors", spoil_tensors, [TRAIN]),
        "spec": (half_done, f"{RUN}/spec.yaml", spoil_spec, [("list", "runs"), TRAIN]),
        "vocabulary": ("finished", f"{RUN}/vocabulary.json", spoil_record, [("sample", RUN, "--tokens", "3")]),
        "claims": ("finished", "claims.yaml", spoil_claims, [("reproduce", "claims.yaml", "--no-train")]),
    }
    for _ in range(num_trials or 500):
        kind = choose.choice(list(attacks))
        template, name, spoil, commands = attacks[kind]
        copy_folder(templates[template], trial)
        file = next((trial / RUN).glob("test-nll.npy")) if name == "NATS" else trial / name
        way, problems = spoil(file), []
        for command in commands:
            format = choose.choice(FORMATS)
            asked = [format if part == "FORMAT" else part for part in command]
            outcome = shell.run(*asked, folder=trial, limit_seconds=LIMIT_SECONDS)
            complaint = outcome.find_complaint() or find_raw_controls(outcome.stdout + outcome.stderr)
            complaint = complaint or (find_live_text(outcome.stdout, format=format) if "--format" in asked else "")
            problems.append(complaint and f"{command[0]}: {complaint}")
        if marker.exists():
            marker.unlink()
            problems.append("a command in the file was executed")
        if kind == "weights" and outcome.exit_code == 0:
            problems += [f"another figure: {name}" for name in list_differences(truth, read_figures(trial / "results"))]
        tally.add(f"{kind}: exit {outcome.exit_code}", problems=problems, trial=f"{kind}, {way}")
    return tally


def find_live_text(text: str, *, format: str) -> str:
    """A script in a page, or a formula in a table."""
    if format in ("html", "markdown") and "<script>" in text:
        return f"<script> in {format}"
    if format == "csv" and any(cell.startswith(("=", "@")) for row in csv.reader(io.StringIO(text)) for cell in row):
        return "a formula in csv"
    return ""
