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
import time

import pytest

from tiebench.cli.progress import Display, shorten_name
from tiebench.execution.plan import Plan

WIDTH = 80
ESCAPE = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


@pytest.fixture
def config(write_experiment):
    """Two arms at two seeds; one name that no bar has room for."""
    arms = {"untied": {"tie": False}, "tied-with-a-name-that-is-long": {"tie": True}}
    return write_experiment(arms=arms, seeds=[1, 2])


def test_each_pair_is_compared_as_soon_as_it_is_finished(config, tmp_path):
    arms = ("tied-with-a-name-that-is-long", "untied")  # the untied one is the baseline all the same
    command = [sys.executable, "-m", "tiebench", "compare", *arms, "--config", config, "--jobs", "1"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    lines = done.stderr.splitlines()
    pairs = [number for number, line in enumerate(lines) if re.match(r"seed \d: test perplexity of untied \d", line)]
    assert [lines[number][:7] for number in pairs] == ["seed 1:", "seed 2:"]
    found = r"seed 1: test perplexity of untied \d+\.\d\d, tied-with-a-name-that-is-long [+-]\d+\.\d % \(one seed"
    assert re.match(found, lines[pairs[0]])
    assert not any("seed 2" in line for line in lines[: pairs[0]]), "before the other seeds are trained"
    assert any(re.search(r", all done in \d+ (second|minute)", line) for line in lines)


def test_trials_are_named_by_what_they_try_and_tell_when_the_runs_will_be_finished_too(write_experiment, tmp_path):
    tuning = {"grid": {"training.optimizer.learning_rate": [0.5, 2]}, "seeds": [101], "steps": 30}
    config = write_experiment(tuning=tuning)
    command = [sys.executable, "-m", "tiebench", "compare", "--config", config, "--jobs", "1"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    lines = done.stderr.splitlines()
    first = next(number for number, line in enumerate(lines) if line.startswith("[1/4] untied, learning_rate 0.5: "))
    assert any(line.startswith("[4/4] tied, learning_rate 2: finished, valid perplexity") for line in lines[first:])
    assert not any("learning_rate-" in line for line in lines), "the names of folders are for folders"
    plan = Plan((), {}, ())
    left = {later: Display(plan, later_tokens=later, started=time.monotonic() - 100) for later in (1_000, 9_000)}
    for display in left.values():
        display.trained_tokens["trial"], display.known_tokens["trial"] = 1_000, 0
    assert left[1_000].describe_time_left() == "", "nothing is left"
    assert left[9_000].describe_time_left() == ", all done in 13 minutes", "800 s"


def test_a_bar_keeps_what_tells_one_trial_from_another():
    names = [shorten_name(f"untied, learning_rate {value}") for value in (0.5, 1, 2)]
    assert len(set(names)) == 3 and all(len(name) == 14 for name in names)
    assert shorten_name("tied-with-a-name-that-is-long") == "tied-with-a-n…"


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
    assert any(re.search(r"test perplexity [\d.]+, [\d,]+ tokens/s", piece) for piece in finished)
