"""The clock of a training: it stands still while the process does."""

import os
import signal
import subprocess
import sys
import time

import pytest

STOPPED_SECONDS = 1.0
PROGRAM = """
import select, sys, time
from tiebench.training.signals import catch_signals, read_clock

with catch_signals(lambda: None):
    began, counted = time.perf_counter(), read_clock()
    print("at work", flush=True)
    while not select.select([sys.stdin], [], [], 0.01)[0]:
        read_clock()
    print(time.perf_counter() - began - (read_clock() - counted), flush=True)
"""


@pytest.mark.skipif(not hasattr(signal, "SIGTSTP"), reason="Windows stops no process")
@pytest.mark.parametrize("number", ["SIGTSTP", "SIGSTOP"])  # Ctrl-Z, and what nobody hears (scontrol suspend)
def test_time_in_which_the_process_was_stopped_is_not_counted(number):
    with subprocess.Popen(
        [sys.executable, "-c", PROGRAM], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout.readline() == "at work\n"
        os.kill(process.pid, getattr(signal, number))
        os.waitid(os.P_PID, process.pid, os.WSTOPPED)
        time.sleep(STOPPED_SECONDS)
        os.kill(process.pid, signal.SIGCONT)
        os.waitid(os.P_PID, process.pid, os.WCONTINUED)
        left_out = process.communicate("go on\n")[0]
    assert float(left_out) >= STOPPED_SECONDS
