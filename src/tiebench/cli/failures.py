"""Every failure that a user can cause ends in a message and an exit code, never in a traceback."""

import functools
import io
import logging
import os
import signal
import sys
from collections.abc import Callable
from contextlib import suppress
from typing import Any, NoReturn

import typer

from tiebench.cli.output import print_line
from tiebench.errors import TiebenchError


def report_failures(command: Callable[..., None]) -> Callable[..., None]:
    """Every failure that a user can cause ends in a message and an exit code, never in a traceback."""

    @functools.wraps(command)
    def wrapped(*arguments: Any, **keywords: Any) -> None:
        _show_warnings()
        try:
            command(*arguments, **keywords)
            sys.stdout.flush()
        except TiebenchError as error:
            fail(error.message, hint=error.hint, exit_code=error.exit_code)
        except KeyboardInterrupt as interrupt:
            said = f": {interrupt}" if str(interrupt) else ""
            number = getattr(interrupt, "number", signal.SIGINT)
            fail(f"interrupted{said}", hint="type the same command again: it continues", exit_code=128 + number)
        except OSError as error:
            place = f": {error.filename}" if error.filename else ""
            fail(f"{error.strerror or error}{place}", hint="check the disk and the permissions", exit_code=1)

    return wrapped


def keep_streams_open() -> None:
    """Output to a closed stream, or to a pipe without a reader, is dropped."""
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:  # else the next file to be opened would be taken for this stream
            os.open(os.devnull, os.O_RDWR)
    for name, descriptor in (("stdout", 1), ("stderr", 2)):
        stream = getattr(sys, name)
        with suppress(AttributeError, OSError, ValueError):  # there is no stream, or it is not of a file
            if stream.fileno() != descriptor:
                continue
            stream.flush()
        encoding, errors = getattr(stream, "encoding", "utf-8"), getattr(stream, "errors", "backslashreplace")
        raw = _PatientFile(descriptor, "w", closefd=False)
        by_line = name == "stderr" or raw.isatty()
        setattr(sys, name, io.TextIOWrapper(io.BufferedWriter(raw), encoding, errors, line_buffering=by_line))


class _PatientFile(io.FileIO):
    """When the reader of a pipe is gone, nothing more is written, and the command continues."""

    def write(self, data: Any) -> int:
        try:
            return super().write(data) or 0
        except BrokenPipeError:
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, self.fileno())
            os.close(nowhere)
            return len(data)


class _WarningHandler(logging.Handler):
    """What the library warns of, as a line on stderr."""

    def emit(self, record: logging.LogRecord) -> None:
        print_line(f"{record.levelname.lower()}: {record.getMessage()}", to_stderr=True)


def _show_warnings() -> None:
    logger = logging.getLogger("tiebench")
    if not any(isinstance(handler, _WarningHandler) for handler in logger.handlers):
        logger.addHandler(_WarningHandler(logging.WARNING))


def fail(message: str, *, hint: str = "", exit_code: int) -> NoReturn:
    """Say what is wrong and what to do next on stderr, and end."""
    print_line(f"error: {message}", to_stderr=True)
    if hint:
        print_line("hint: " + hint.replace("\n", "\n  "), to_stderr=True)
    raise typer.Exit(exit_code)
