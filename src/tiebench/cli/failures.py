"""Every failure that a user can cause ends in a message and an exit code, never in a traceback."""

import functools
import os
import sys
from collections.abc import Callable
from typing import Any, NoReturn

import typer

from tiebench.cli.output import print_line
from tiebench.errors import TiebenchError


def report_failures(command: Callable[..., None]) -> Callable[..., None]:
    """Every failure that a user can cause ends in a message and an exit code, never in a traceback."""

    @functools.wraps(command)
    def wrapped(*arguments: Any, **keywords: Any) -> None:
        try:
            command(*arguments, **keywords)
            sys.stdout.flush()
        except TiebenchError as error:
            fail(error.message, hint=error.hint, exit_code=error.exit_code)
        except KeyboardInterrupt as interrupt:
            fail(
                f"interrupted{f': {interrupt}' if interrupt.args else ''}",
                hint="the same command goes on",
                exit_code=130,
            )
        except BrokenPipeError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        except OSError as error:
            place = f": {error.filename}" if error.filename else ""
            fail(f"{error.strerror or error}{place}", hint="check the disk and the permissions", exit_code=1)

    return wrapped


def fail(message: str, *, hint: str = "", exit_code: int) -> NoReturn:
    """Say what is wrong and what to do next on stderr, and end."""
    print_line(f"error: {message}", to_stderr=True)
    if hint:
        print_line(f"hint: {hint}", to_stderr=True)
    raise typer.Exit(exit_code)
