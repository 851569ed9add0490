"""What a user is told when something cannot be done: one sentence on what is wrong, one on what to do next."""


class TiebenchError(Exception):
    """A failure with a message for the user, a hint at the next step, and the exit code of the command.

    Raised bare it means that something failed while running (exit code 1).
    """

    exit_code = 1

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message}\n{self.hint}" if self.hint else self.message


class UsageError(TiebenchError):
    """A command line or a configuration that cannot be meant (exit code 2)."""

    exit_code = 2


class CheckFailed(TiebenchError):
    """A check that ran and did not hold, such as a claim that was not reproduced (exit code 3)."""

    exit_code = 3


def forget_frames(error: TiebenchError) -> TiebenchError:
    """The error without the frames that it came through, which would keep all their models alive with it."""
    error.__traceback__ = error.__context__ = error.__cause__ = None
    return error
