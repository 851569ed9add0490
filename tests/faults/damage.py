"""Damaged files: whatever happens to a file of a run or of the cache, nobody sees a traceback or another figure."""

import json
import random
import signal
from pathlib import Path
from typing import Any

from crashpoints import TRAIN, watch_all
from shell import Outcome, Shell
from tally import Tally
from truth import copy_folder, drop_measured, list_differences, read_figures, write_experiment

COMPARE = ("compare", "untied", "tied", "--json")
STOPS = {  # where the second arm is killed
    "at its first checkpoint": {"since": "/tied/seed-1/checkpoint.pt", "at": 2},
    "before it was scored": {"since": "/tied/seed-1/test-n", "at": 1},
}


def damage_file(file: Path, *, others: list[Path], choose: random.Random) -> str:
    """Damage a file in one of the ways that files are damaged; says which."""
    content = bytearray(file.read_bytes())
    way = choose.choice(
        ("a bit", "a bit", "a bit", "some bytes", "the end", "everything", "noise", "swapped", "removed")
    )
    if way == "a bit" and content:
        content[choose.randrange(len(content))] ^= 1 << choose.randrange(8)
    elif way == "some bytes" and content:
        start = choose.randrange(len(content))
        content[start : start + 8] = choose.randbytes(len(content[start : start + 8]))
    elif way == "the end":
        content = content[: choose.randrange(len(content) + 1)]
    elif way == "everything":
        content = bytearray()
    elif way == "noise":
        content = bytearray(choose.randbytes(len(content) or 1))
    elif way == "swapped":
        alike = [other for other in others if other.name == file.name and other != file] or others
        content = bytearray(choose.choice(alike).read_bytes())
    if way == "removed":
        file.unlink()
    else:
        file.write_bytes(content)
    return way


def make_templates(shell: Shell, folder: Path) -> tuple[dict[str, Path], dict[str, Any]]:
    """Folders with a finished experiment and with interrupted ones, and the true figures."""
    write_experiment(folder / "start")
    templates = {"finished": copy_folder(folder / "start", folder / "finished")}
    shell.run(*TRAIN, folder=templates["finished"])
    truth = read_figures(templates["finished"] / "results")
    for name, stop in STOPS.items():
        templates[name] = copy_folder(folder / "start", folder / name.replace(" ", "-"))
        killed = shell.run(*TRAIN, folder=templates[name], watch=watch_all(templates[name], fault="kill", **stop))
        if killed.exit_code != -signal.SIGKILL:
            raise RuntimeError(f"it was not killed {name}: exit code {killed.exit_code}")
    return templates, truth


def run_campaign(shell: Shell, folder: Path, *, seed: int, num_trials: int | None) -> Tally:
    """`num_trials` random damages, 2,000 in the long version."""
    tally, trial, choose = Tally("damages"), folder / "trial", random.Random(seed)
    templates, truth = make_templates(shell, folder)
    compared = shell.run(*COMPARE, folder=templates["finished"])
    for _ in range(num_trials or 2_000):
        name, template = choose.choice(list(templates.items()))
        copy_folder(template, trial)
        files = [file for part in ("results", "cache") for file in sorted((trial / part).rglob("*")) if file.is_file()]
        files = [file for file in files if file.suffix != ".lock" and not file.name.startswith(".")]
        file = choose.choice(files)
        way = damage_file(file, others=files, choose=choose)
        end, problems = _look_and_train(shell, trial, truth=truth, compared=compared if name == "finished" else None)
        spoilt = f"{'/'.join(file.parts[-4:-1])}: {file.name}"  # who reads a figure's file is told, not who trains
        if (template / file.relative_to(trial)).with_name("record.json").exists() and file.name != "record.json":
            problems = [problem for problem in problems if not problem.endswith(spoilt)]
        tally.add(end, problems=problems, trial=f"{name}: {file.relative_to(trial)}, {way}")
    return tally


def _look_and_train(shell: Shell, trial: Path, *, truth: dict, compared: Outcome | None) -> tuple[str, list[str]]:
    listed = shell.run("list", "runs", folder=trial)
    problems = [_name("list", listed.find_complaint(allowed=(0,)))]
    if compared is not None:
        answer = shell.run(*COMPARE, folder=trial)
        problems.append(_name("compare", answer.find_complaint()))
        if answer.exit_code == 0 and not _says(answer) and _read_answer(answer) != _read_answer(compared):
            problems.append("compare: other figures, in silence")
    trained = shell.run(*TRAIN, folder=trial)
    problems.append(_name("train", trained.find_complaint()))
    if trained.exit_code == 0:
        problems += [
            f"train: another figure: {name}" for name in list_differences(truth, read_figures(trial / "results"))
        ]
        problems += [f"train: missing: {run}" for run in truth.keys() - read_figures(trial / "results").keys()]
    return f"train exit {trained.exit_code}", problems


def _says(answer: Outcome) -> bool:
    return "warning" in answer.stderr.lower()


def _read_answer(answer: Outcome) -> Any:
    return drop_measured(json.loads(answer.stdout))


def _name(command: str, complaint: str) -> str:
    return complaint and f"{command}: {complaint}"
