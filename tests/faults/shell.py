"""Runs `tiebench` command lines, with or without faults, and says what came of each."""

import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import threading
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ZYGOTE = Path(__file__).with_name("zygote.py")
ERROR = re.compile(r"^[a-z_.A-Z]*(?:Error|Exception|Interrupt|Interrupted)\b.*", re.MULTILINE)
EXIT_CODES = (0, 1, 2, 3, 130, 143)


@dataclass(frozen=True)
class Outcome:
    """How a command ended; `operations` are those that were watched."""

    exit_code: int
    stdout: str
    stderr: str
    operations: list[dict[str, Any]] = field(default_factory=list, repr=False)

    def find_complaint(self, *, allowed: tuple[int, ...] = EXIT_CODES) -> str:
        """What a user could not make anything of: a traceback, a crash, a hang, an error without a message."""
        text = self.stdout + self.stderr
        if self.exit_code in (-signal.SIGPROF, -signal.SIGALRM):
            return "it did not end in time"
        if "Traceback (most recent call last)" in text:
            return f"traceback: {(ERROR.findall(text) or ['of what, is not said'])[-1][:200]}"
        if self.exit_code not in allowed:
            return f"exit code {self.exit_code}: {self.stderr.strip()[-200:]}"
        if self.exit_code in (1, 2) and "error:" not in self.stderr and "Usage:" not in self.stderr:
            return f"exit code {self.exit_code} without a message"
        return ""


@dataclass(frozen=True)
class Started:
    """A command at work. `process` is the id of a process that leads its own session."""

    process: int
    files: Path

    def kill(self, number: signal.Signals) -> None:
        os.kill(self.process, number)


class Shell:
    """A context; `run` waits for a command, `start` and `wait` are for several at once."""

    def __init__(self, *, environment: dict[str, str] | None = None) -> None:
        self.environment = environment or {}

    def __enter__(self) -> "Shell":
        self.folder = tempfile.TemporaryDirectory(prefix="tiebench-faults-")
        self.num_started = 0
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "TIEBENCH_DATA": "", "PYTHONDONTWRITEBYTECODE": "1"}
        self.server = subprocess.Popen(
            [sys.executable, str(ZYGOTE)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
        )
        self._read()
        return self

    def __exit__(self, *error: Any) -> None:
        self.server.stdin.close()
        self.server.wait()  # on a busy machine torch takes minutes to end
        self.server.stdout.close()
        self.folder.cleanup()

    def start(
        self,
        *arguments: Any,
        folder: Path,
        environment: dict[str, str | None] | None = None,
        streams: dict[str, str] | None = None,
        user: int | None = None,
        terminal: str | None = None,
        watch: dict[str, Any] | None = None,
        limit_seconds: float = 120.0,
        memory_bytes: int = 0,
        file_bytes: int = 0,
    ) -> Started:
        """The keywords are described in `zygote.obey` and `watching.Watch`."""
        self.num_started += 1
        files = Path(self.folder.name) / str(self.num_started)
        order = {
            "arguments": [str(argument) for argument in arguments],
            "folder": str(folder),
            "environment": {"TIEBENCH_CACHE": str(folder / "cache"), **self.environment, **(environment or {})},
            "streams": streams or {},
            "user": user,
            "watch": watch,
            "limit_seconds": limit_seconds,
            "memory_bytes": memory_bytes,
            "file_bytes": file_bytes,
            **{name: f"{files}.{name}" for name in ("stdout", "stderr", "log")},
            **({"stdout": terminal} if terminal else {}),
        }
        return Started(self._ask(order)["process"], files)

    def wait(self, started: Started) -> Outcome:
        status = self._ask({"wait": started.process})["status"]
        stdout, stderr, log = (Path(f"{started.files}.{name}") for name in ("stdout", "stderr", "log"))
        operations = json.loads(log.read_text("utf-8")) if log.exists() else []
        said = stdout.read_text("utf-8", "replace") if stdout.exists() else ""
        found = Outcome(status, said, stderr.read_text("utf-8", "replace"), operations)
        for file in (stdout, stderr, log):
            file.unlink(missing_ok=True)
        return found

    def run(self, *arguments: Any, **keywords: Any) -> Outcome:
        return self.wait(self.start(*arguments, **keywords))

    def run_in_terminal(self, *arguments: Any, folder: Path) -> Outcome:
        """With a terminal as stdout, one that shows no colours: what is left out of a pipe may be shown here."""
        master, slave = os.openpty()
        shown: list[bytes] = []
        reader = threading.Thread(target=_read_terminal, args=(master, shown))
        reader.start()
        plain = {"TERM": "dumb", "NO_COLOR": "1", "COLUMNS": "200"}
        outcome = self.wait(self.start(*arguments, folder=folder, environment=plain, terminal=os.ttyname(slave)))
        os.close(slave)
        reader.join()
        os.close(master)
        text = b"".join(shown).decode("utf-8", "replace").replace("\r\n", "\n")
        return Outcome(outcome.exit_code, text, outcome.stderr)

    def _ask(self, order: dict[str, Any]) -> dict[str, Any]:
        self.server.stdin.write(json.dumps(order) + "\n")
        self.server.stdin.flush()
        return self._read()

    def _read(self) -> dict[str, Any]:
        line = self.server.stdout.readline()
        if not line:
            raise RuntimeError(f"the process that forks has ended with exit code {self.server.wait()}")
        return json.loads(line)


def _read_terminal(master: int, shown: list[bytes]) -> None:
    """Until nobody has its other end any more."""
    with suppress(OSError):
        while content := os.read(master, 2**16):
            shown.append(content)
