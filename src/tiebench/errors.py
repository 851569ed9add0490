"""What a user is told when something cannot be done: one sentence on what is wrong, one on what to do next."""

import difflib
from collections.abc import Iterable


class TiebenchError(Exception):
    """A failure with a message for the user, a hint at the next step, and the exit code of the command.

    This class itself, not a subclass, means that something failed while running (exit code 1).
    """

    exit_code = 1

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message}\n{self.hint}" if self.hint else self.message


class UsageError(TiebenchError):
    """A command line or a configuration that is wrong (exit code 2)."""

    exit_code = 2


class Diverged(TiebenchError):
    """The training loss or the validation perplexity became NaN or infinite."""


class CheckFailed(TiebenchError):
    """A check that ran and did not hold, such as a claim that is contradicted (exit code 3)."""

    exit_code = 3


def did_you_mean(name: str, known: Iterable[str], *, more: Iterable[str] = ()) -> str:
    """`did you mean 'lstm'? ` for a near miss, then what is allowed. Names in `more` are suggested, not listed."""
    names = sorted(known)
    close = difflib.get_close_matches(str(name), [*names, *more], n=1, cutoff=0.5)
    suggestion = f"did you mean '{close[0]}'? " if close else ""
    return f"{suggestion}allowed: {', '.join(names)}"
