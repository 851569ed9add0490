"""Crash points: a training that is killed, or whose disk fails, at any operation on its files ends the same later."""

import random
import signal
from pathlib import Path

from shell import Outcome, Shell
from tally import Tally
from truth import copy_folder, count_table_rows, list_differences, list_strays, read_figures, write_experiment

TRAIN = ("train", "tiny.yaml", "--device", "cpu", "--quiet", "--jobs", "1")
TALKING = tuple(part for part in TRAIN if part != "--quiet")
FAULTS = ("kill", "full", "broken")


def run_campaign(shell: Shell, folder: Path, *, seed: int, num_trials: int | None) -> Tally:
    """Every fault at every operation, or `num_trials` of these, of a first training and of one with `--force`."""
    tally, trial = Tally("crash points"), folder / "trial"
    write_experiment(folder / "start")
    truths, points = {}, []
    for start, arguments in (("start", TRAIN), ("finished", (*TRAIN, "--force"))):
        copy_folder(folder / start, trial)
        whole = shell.run(*arguments, folder=trial, watch=watch_all(trial))
        if whole.exit_code:
            raise RuntimeError(f"the undisturbed training failed: {whole.stderr}")
        truths[start] = read_figures(trial / "results")
        points += [
            (start, arguments, fault, number)
            for number, operation in enumerate(whole.operations, start=1)
            for fault in FAULTS
            if fault == "broken" or operation["name"] != "read"
        ]
        if start == "start":
            copy_folder(trial, folder / "finished")
    for start, arguments, fault, number in _choose(points, seed=seed, num_trials=num_trials):
        copy_folder(folder / start, trial)
        disturbed = shell.run(*arguments, folder=trial, watch=watch_all(trial, fault=fault, at=number))
        problems = find_problems(shell, trial, disturbed, truth=truths[start], was_finished=start == "finished")
        tally.add(f"{fault}: exit {disturbed.exit_code}", problems=problems, trial=f"{start} {fault} at {number}")
    return tally


def watch_all(folder: Path, **fault: object) -> dict:
    """All files of a training in this folder."""
    return {"folders": [str(folder / "results"), str(folder / "cache")], **fault}


def find_problems(shell: Shell, trial: Path, disturbed: Outcome, *, truth: dict, was_finished: bool) -> list[str]:
    """What is wrong after a disturbed training and after the same command again."""
    problems = []
    if disturbed.exit_code != -signal.SIGKILL:
        problems.append(disturbed.find_complaint())
    there = read_figures(trial / "results")
    problems += [f"another figure at once: {name}" for name in list_differences(truth, there)]
    if was_finished and there.keys() != truth.keys():
        problems.append(f"the old record is gone: {sorted(truth.keys() - there.keys())}")
    listed = shell.run("list", "runs", folder=trial)
    problems.append(listed.find_complaint(allowed=(0,)) and f"list: {listed.find_complaint(allowed=(0,))}")
    again = shell.run(*TRAIN, folder=trial)
    problems.append(again.find_complaint(allowed=(0,)) and f"again: {again.find_complaint(allowed=(0,))}")
    if again.exit_code == 0:
        found = read_figures(trial / "results")
        problems += [f"another figure: {name}" for name in list_differences(truth, found)]
        problems += [f"missing: {run}" for run in truth.keys() - found.keys()]
        if count_table_rows(trial / "results") != len(truth):
            problems.append(f"{count_table_rows(trial / 'results')} rows in the table, {len(truth)} runs")
        problems += [f"left behind: {name}" for name in list_strays(trial / "results")]
    return problems


def _choose(points: list, *, seed: int, num_trials: int | None) -> list:
    return points if num_trials is None else random.Random(seed).sample(points, min(num_trials, len(points)))
