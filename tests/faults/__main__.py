"""The whole campaign, in its long version unless told otherwise: `python tests/faults [NAME...] [--trials N]`.

Prints what each part found; exits with 1 where anything did not hold.
"""

import argparse
import importlib
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from shell import Shell
from tally import Tally

CAMPAIGNS = ("crashpoints", "powerloss", "damage", "fuzz", "processes", "hostile")


def run_campaign(name: str, *, seed: int, num_trials: int | None) -> tuple[Tally, float]:
    """What the campaign found, and its seconds."""
    started = time.monotonic()
    with Shell() as shell, tempfile.TemporaryDirectory(prefix=f"tiebench-{name}-") as folder:
        found = importlib.import_module(name).run_campaign(shell, Path(folder), seed=seed, num_trials=num_trials)
    return found, time.monotonic() - started


def main() -> int:
    parser = argparse.ArgumentParser(prog="python tests/faults", description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"one of {', '.join(CAMPAIGNS)}; all without a name")
    parser.add_argument("--trials", type=int, help="this many trials of each")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--jobs", type=int, default=2, help="campaigns at once")
    asked = parser.parse_args()
    if unknown := set(asked.names) - set(CAMPAIGNS):
        parser.error(f"no campaign {', '.join(sorted(unknown))}; there are {', '.join(CAMPAIGNS)}")
    with ThreadPoolExecutor(asked.jobs) as pool:
        work = [
            pool.submit(run_campaign, name, seed=asked.seed, num_trials=asked.trials)
            for name in asked.names or CAMPAIGNS
        ]
        num_problems = 0
        for found, seconds in (part.result() for part in work):
            num_problems += len(found.problems)
            print(f"{found}\n  {seconds:.0f} s", flush=True)
    return int(num_problems > 0)


if __name__ == "__main__":
    sys.exit(main())
