"""A file is there whole or not at all: it is written aside, in the same folder, and renamed into place last."""

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def written_aside(file: Path) -> Iterator[Path]:
    """A path to write to; on success it replaces `file`, on failure it is removed and `file` stays as it was."""
    file.parent.mkdir(parents=True, exist_ok=True)
    aside = file.with_name(f".{file.name}.{os.getpid()}-{secrets.token_hex(4)}")
    try:
        yield aside
        os.replace(aside, file)
    finally:
        aside.unlink(missing_ok=True)


def write_text(text: str, *, file: Path) -> None:
    """Replace the whole of `file` by `text`, as UTF-8 with plain newlines."""
    with written_aside(file) as aside:
        aside.write_text(text, "utf-8", newline="\n")
