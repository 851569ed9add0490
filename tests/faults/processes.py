"""Many processes on one results folder: every record is as if there had been one, and the tables hold them all."""

import random
import signal
import time
from pathlib import Path

from crashpoints import TRAIN
from shell import Shell
from tally import Tally
from truth import copy_folder, count_table_rows, list_differences, list_strays, read_figures, write_experiment

NUM_PROCESSES = 6
SEEDS = [1, 2]


def run_campaign(shell: Shell, folder: Path, *, seed: int, num_trials: int | None) -> Tally:
    """Rounds of six `train` at once, 60 in the long version; in every second one some of them are ended by a signal."""
    tally, trial, choose = Tally("rounds of six processes"), folder / "trial", random.Random(seed)
    write_experiment(folder / "start", seeds=SEEDS)
    copy_folder(folder / "start", trial)
    shell.run(*TRAIN, folder=trial)
    truth = read_figures(trial / "results")
    for number in range(num_trials or 60):
        copy_folder(folder / "start", trial)
        at_work = [shell.start(*TRAIN, folder=trial) for _ in range(NUM_PROCESSES)]
        stopped = at_work[: number % 2 * NUM_PROCESSES // 2]
        for started in stopped:
            time.sleep(choose.random() / 5)
            started.kill(choose.choice((signal.SIGKILL, signal.SIGTERM, signal.SIGINT)))
        outcomes = [shell.wait(started) for started in at_work]
        problems = [
            outcome.find_complaint()
            for outcome, started in zip(outcomes, at_work, strict=True)
            if started not in stopped
        ]
        there = len(read_figures(trial / "results"))
        if not stopped and count_table_rows(trial / "results") != there:
            problems.append(f"{count_table_rows(trial / 'results')} rows in the table, {there} records")
        again = shell.run(*TRAIN, folder=trial)
        problems.append(again.find_complaint(allowed=(0,)) and f"again: {again.find_complaint(allowed=(0,))}")
        found = read_figures(trial / "results")
        problems += [f"another figure: {name}" for name in list_differences(truth, found)]
        problems += [f"missing: {run}" for run in truth.keys() - found.keys()]
        if count_table_rows(trial / "results") != len(truth):
            problems.append(f"{count_table_rows(trial / 'results')} rows in the table after the last command")
        problems += [f"left behind: {name}" for name in list_strays(trial / "results")]
        tally.add("stopped" if stopped else "undisturbed", problems=problems, trial=f"round {number}")
    return tally
