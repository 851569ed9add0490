"""What a campaign found."""

from collections import Counter
from dataclasses import dataclass, field


@dataclass
class Tally:
    """How many trials ended how; `problems` say what may not be, one line each, with what repeats the trial."""

    name: str
    num_trials: int = 0
    ends: Counter[str] = field(default_factory=Counter)
    problems: list[str] = field(default_factory=list)

    def add(self, end: str, *, problems: list[str], trial: str) -> None:
        self.num_trials += 1
        self.ends[end] += 1
        self.problems += [f"{self.name}, {trial}: {problem}" for problem in problems if problem]

    def __str__(self) -> str:
        ends = ", ".join(f"{number} {end}" for end, number in self.ends.most_common())
        shown = [f"  {problem}" for problem in self.problems[:MOST_SHOWN]]
        more = len(self.problems) - len(shown)
        lines = [f"{self.name}: {self.num_trials} trials ({ends}), {len(self.problems)} problems", *shown]
        return "\n".join([*lines, f"  and {more} more"] if more else lines)


MOST_SHOWN = 40
