"""Trains by the real command line in a process that ends itself at a given moment, again and again until it is done.

    python killed_training.py CONFIG '{"RESULTS": ["SIGNAL", "MOMENT", ...], ...}'

SIGNAL is a name such as SIGKILL. A MOMENT is `step:7` (before the seventh update of this process), `write:3` (the
third file is written aside, but not yet renamed) or `score:2` (in the middle of an evaluation). Every attempt is
forked from a process that has imported everything; the last one is left alone. Prints the exit statuses as JSON.
"""

import json
import os
import signal
import sys

import torch._dynamo  # noqa: F401  (what torch.optim imports at its first step)

from tiebench.cli.app import main
from tiebench.execution import execute, run  # noqa: F401  (imported once, before the forks)
from tiebench.training import trainer

PLACES = {
    "step": (trainer.Trainer, "train_step"),
    "write": (os, "replace"),
    "score": (trainer.Trainer, "_advance_evaluation"),
}


def end_at(moment: str, *, by: signal.Signals) -> None:
    """Send this process a signal when the named function is called for the n-th time."""
    kind, _, number = moment.partition(":")
    owner, name = PLACES[kind]
    original, calls = getattr(owner, name), []

    def counted(*positional, **keywords):
        calls.append(1)
        if len(calls) == int(number):
            os.kill(os.getpid(), by)
        return original(*positional, **keywords)

    setattr(owner, name, counted)


def attempt(config: str, results: str, moment: str | None, *, by: signal.Signals) -> int:
    """The exit status of one attempt, negative when a signal ended it."""
    child = os.fork()
    if child:
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    trainer.CHECKPOINT_SECONDS = 0.0
    sys.argv = ["tiebench", "train", config, "--results", results, "--quiet", "--device", "cpu"]
    if moment:
        end_at(moment, by=by)
    try:
        main()
    except SystemExit as end:
        sys.stdout.flush()
        os._exit(end.code or 0)
    finally:
        os._exit(99)


if __name__ == "__main__":
    config, plan = sys.argv[1], json.loads(sys.argv[2])
    statuses = {
        results: [attempt(config, results, moment, by=signal.Signals[name]) for moment in [*moments, None]]
        for results, (name, *moments) in plan.items()
    }
    print("statuses:", json.dumps(statuses))
