"""What a campaign found."""

import re
import sys
from collections import Counter
from dataclasses import dataclass, field

MOST_SHOWN = 25
REPORTED = 100  # after so many trials, how far it is


@dataclass
class Tally:
    """How many trials ended how. `problems` are what may not be: which trial, and what it showed."""

    name: str
    num_trials: int = 0
    num_bad: int = 0
    ends: Counter[str] = field(default_factory=Counter)
    problems: list[tuple[str, str]] = field(default_factory=list)

    def add(self, end: str, *, problems: list[str], trial: str) -> None:
        """Empty problems are none."""
        found = [(trial, " / ".join(problem.split("\n"))) for problem in problems if problem]
        self.num_trials += 1
        self.num_bad += bool(found)
        self.ends[end] += 1
        self.problems += found
        if self.num_trials % REPORTED == 0:
            print(f"{self.name}: {self.num_bad} of {self.num_trials} with a problem", file=sys.stderr, flush=True)

    def __str__(self) -> str:
        """The figures, and each kind of problem (whatever its numbers) with how often it was met and one trial."""
        ends = ", ".join(f"{number} {end}" for end, number in self.ends.most_common())
        kinds: dict[str, list[tuple[str, str]]] = {}
        for trial, problem in self.problems:
            kinds.setdefault(re.sub(r"\d+", "0", problem)[:80], []).append((trial, problem))
        ranked = sorted(kinds.values(), key=len, reverse=True)
        lines = [f"{self.name}: {self.num_bad} of {self.num_trials} trials with a problem ({ends})"]
        lines += [f"  {len(found)} x {found[0][1][:300]} ({found[0][0]})" for found in ranked[:MOST_SHOWN]]
        return "\n".join(
            [*lines, f"  and {len(ranked) - MOST_SHOWN} more kinds"] if len(ranked) > MOST_SHOWN else lines
        )
