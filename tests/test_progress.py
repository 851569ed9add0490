"""What a person sees while a comparison trains: how long still, each pair as it is finished, nothing cut or broken."""

import contextlib
import fcntl
import os
import re
import struct
import subprocess
import sys
import termios
import threading

import pytest

WIDTH = 80
ESCAPE = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


@pytest.fixture
def config(write_experiment):
    """Two arms at two seeds; one name that no bar has room for."""
    arms = {"untied": {"tie": False}, "tied-with-a-name-that-is-long": {"tie": True}}
    return write_experiment(arms=arms, seeds=[1, 2])


def test_each_pair_is_compared_as_soon_as_it_is_finished(config, tmp_path):
    command = [sys.executable, "-m", "tiebench", "compare", "--config", config, "--jobs", "1"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    lines = done.stderr.splitlines()
    pairs = [number for number, line in enumerate(lines) if re.match(r"seed \d: test perplexity of untied \d", line)]
    assert [lines[number][:7] for number in pairs] == ["seed 1:", "seed 2:"]
    found = r"seed 1: test perplexity of untied \d+\.\d\d, tied-with-a-name-that-is-long [+-]\d+\.\d % \(one seed"
    assert re.match(found, lines[pairs[0]])
    assert not any("seed 2" in line for line in lines[: pairs[0]]), "before the other seeds are trained"
    assert any(re.search(r", all runs in \d+ (second|minute)", line) for line in lines)


def test_on_80_columns_no_bar_and_no_line_is_cut_or_broken(config, tmp_path):
    screen, terminal = os.openpty()
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 40, WIDTH, 0, 0))
    shown: list[bytes] = []

    def read() -> None:
        with contextlib.suppress(OSError):  # Linux says the end so
            while part := os.read(screen, 65_536):
                shown.append(part)

    reader = threading.Thread(target=read)
    reader.start()
    command = [sys.executable, "-m", "tiebench", "compare", "--config", config.name, "--jobs", "2"]
    streams = {"stdout": terminal, "stderr": terminal}
    subprocess.run(command, cwd=tmp_path, env=os.environ | {"COLUMNS": str(WIDTH)}, check=True, **streams)
    os.close(terminal)
    reader.join()
    os.close(screen)
    text = ESCAPE.sub("", b"".join(shown).decode())
    pieces = [piece for line in text.split("\n") for piece in line.split("\r")]
    assert [piece for piece in pieces if len(piece) > WIDTH] == []
    assert any("|" in piece and "tok/s" in piece for piece in pieces), "there were bars"
    finished = [piece for piece in pieces if "finished" in piece]
    assert len(finished) == 4 and all(re.match(r"\[\d/4\] .* seed \d: finished", piece) for piece in finished)
