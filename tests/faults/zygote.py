"""A process that has imported everything and forks a child for each command line that it is told on stdin.

One start costs seconds because of torch, a fork milliseconds. See `shell.py` for who talks to it.
"""

import encodings.utf_8_sig  # noqa: F401  (another user may not be allowed to read Python's own files)
import importlib
import json
import os
import pkgutil
import resource
import runpy
import signal
import sys
import traceback
from contextlib import suppress
from typing import Any

from watching import Watch, watch_files

WAITING = 10  # so much longer than its work a command may take in all


def import_everything() -> None:
    import torch._dynamo

    import tiebench

    torch.set_num_threads(1)
    for module in pkgutil.walk_packages(tiebench.__path__, "tiebench."):
        if not module.name.endswith("__main__"):
            with suppress(ImportError):  # an optional package that is not installed
                importlib.import_module(module.name)


def start_child(order: dict[str, Any]) -> int:
    """The process id of a child that executes the order."""
    child = os.fork()
    if child:
        return child
    status = 70
    try:
        status = obey(order)
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(status)


def obey(order: dict[str, Any]) -> int:
    """Run `tiebench` with the order's arguments and folder; its exit status.

    `environment` is changed as asked (None removes a name), `streams` are spoilt, the process becomes `user` where one
    is given, and ends after `limit_seconds` of work or ten times as long in all: a busy machine is no hang. It gets
    `memory_bytes` of addresses, and writes no file of more than `file_bytes`.
    """
    os.setsid()
    signal.signal(signal.SIGHUP, signal.SIG_DFL)  # who starts the tests under nohup ignores it
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    for descriptor, name in ((1, "stdout"), (2, "stderr")):
        os.dup2(os.open(order[name], os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOCTTY), descriptor)
    os.chdir(order["folder"])
    for name, value in order["environment"].items():
        os.environ.pop(name, None)
        if value is not None:
            os.environ[name] = value
    if order["file_bytes"]:  # what a disk without space does, for child processes too
        resource.setrlimit(resource.RLIMIT_FSIZE, (order["file_bytes"], order["file_bytes"]))
    for name, state in order["streams"].items():
        spoil_stream(name, state)
    signal.setitimer(signal.ITIMER_PROF, order["limit_seconds"])
    signal.setitimer(signal.ITIMER_REAL, order["limit_seconds"] * WAITING)
    if order["memory_bytes"]:
        resource.setrlimit(resource.RLIMIT_AS, (order["memory_bytes"], order["memory_bytes"]))
    if order["user"] is not None:
        os.setgroups([])
        os.setresgid(order["user"], order["user"], order["user"])
        os.setresuid(order["user"], order["user"], order["user"])
    sys.argv = ["tiebench", *order["arguments"]]
    watch = Watch(**order["watch"]) if order["watch"] else None
    if watch:
        watch_files(watch)
    try:
        runpy.run_module("tiebench", run_name="__main__", alter_sys=True)
    except SystemExit as end:
        status = end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:
        traceback.print_exc()
        status = 1
    else:
        status = 0
    if watch:
        watch.fault = ""
        watch.write_log(order["log"])
    with suppress(OSError, ValueError, AttributeError):
        sys.stdout.flush()
        sys.stderr.flush()
    return status


def spoil_stream(name: str, state: str) -> None:
    """`closed`, as `>&-` leaves it, or `broken`: a pipe whose reader has gone, as `head` leaves it."""
    descriptor = {"stdout": 1, "stderr": 2}[name]
    if state == "closed":
        os.close(descriptor)
        setattr(sys, name, None)
    else:
        reader, writer = os.pipe()
        os.dup2(writer, descriptor)
        os.close(reader)


def serve() -> None:
    for line in sys.stdin:
        order = json.loads(line)
        if "wait" in order:
            _, status = os.waitpid(order["wait"], 0)
            with suppress(ProcessLookupError):
                os.killpg(order["wait"], signal.SIGKILL)  # whatever processes it had
            answer = {"status": os.waitstatus_to_exitcode(status)}
        else:
            answer = {"process": start_child(order)}
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    import_everything()
    print(json.dumps({"ready": True}), flush=True)
    serve()
