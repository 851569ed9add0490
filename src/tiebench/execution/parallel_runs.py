"""One run on several devices: `torchrun --nproc-per-node 2 -m tiebench train CONFIG`, one run after the other.

The first rank is the command: it plans, locks, writes and tells. The others follow: they wait for a run, do their share
of its steps and of its scoring (training/ranks.py), and wait again until the command has ended. A run is passed on as
JSON through torchrun's store, so that nothing that another process could send is ever executed.
"""

import json
import os
import platform
import time
import traceback
from collections.abc import Callable
from contextlib import suppress
from datetime import timedelta
from functools import cache
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

from tiebench.errors import Diverged, TiebenchError, UsageError
from tiebench.execution.environment import choose_device
from tiebench.execution.launch import COMMAND, Launch, find_launch
from tiebench.execution.run import execute_run, join_run
from tiebench.execution.settings import Settings
from tiebench.execution.worker_pool import Watch
from tiebench.experiment.run_spec import RunSpec
from tiebench.experiment.schema import TRANSLATED, ArmSpec
from tiebench.results.record import Record
from tiebench.results.store import Store
from tiebench.training.ranks import SeveralRanks
from tiebench.training.signals import handle_stopping, raise_interrupted

POLL_SECONDS = 0.05
LAST_WORD_SECONDS = 5.0  # for the message of a rank whose connection is gone already
PATIENCE = timedelta(hours=1)  # for a rank that writes a checkpoint, say
LOOPBACK = {"Linux": "lo", "Darwin": "lo0"}
LOST = ("closed by peer", "reset by peer", "broken pipe", "connection refused", "timed out", "nccl error")
RUN_FIELDS = ("experiment", "arm", "seed", "source", "trial_of")


class Team:
    """This process and the others that torchrun started; the process group is formed when a run begins."""

    def __init__(self, launch: Launch) -> None:
        self.launch = launch
        self.store: dist.Store = next(dist.rendezvous("env://"))[0]
        self.num_runs = 0
        self.ranks: SeveralRanks | None = None

    def open_ranks(self, device: str) -> SeveralRanks:
        """The process group, on the devices that `--device` asks for. Raises UsageError where one is not there."""
        if self.ranks is None:
            place = choose_rank_device(device, self.launch)
            if place.type == "cuda":
                torch.cuda.set_device(place)
            if self.launch.num_local == self.launch.num_ranks and platform.system() in LOOPBACK:
                os.environ.setdefault("GLOO_SOCKET_IFNAME", LOOPBACK[platform.system()])
            dist.init_process_group(
                "cpu:gloo,cuda:nccl" if place.type == "cuda" else "gloo",
                store=self.store,
                rank=self.launch.rank,
                world_size=self.launch.num_ranks,
                timeout=PATIENCE,
            )
            self.ranks = SeveralRanks(place)
        return self.ranks

    def begin(self, run: RunSpec, folder: Path, settings: Settings) -> SeveralRanks:
        """As the first rank, pass a run on to the others, which will find it in `folder`."""
        order = {
            "run": {name: getattr(run, name) for name in RUN_FIELDS} | {"spec": run.resolved},
            "folder": str(folder.absolute()),
            "results": str(settings.store.root),
            "data_dir": str(settings.data_dir) if settings.data_dir else None,
            **{name: getattr(settings, name) for name in ("device", "force", "num_threads")},
        }
        self.send(order)
        return self.open_ranks(settings.device)

    def send(self, order: dict[str, Any] | None) -> None:
        """The next run for the others; None: there is none any more."""
        self.store.set(f"run {self.num_runs}", json.dumps(order))
        self.num_runs += 1

    def receive(self) -> dict[str, Any] | None:
        """As another rank, the next run. Looks again and again, so that a signal is heard meanwhile."""
        key = f"run {self.num_runs}"
        while not self.store.check([key]):
            time.sleep(POLL_SECONDS)
        self.num_runs += 1
        return json.loads(self.store.get(key))

    def tell_failure(self, error: BaseException) -> None:
        """Leave the first rank a message; the first one that is left counts."""
        if is_about_ranks(error):
            return
        known = isinstance(error, TiebenchError)
        message = error.message if known else "".join(traceback.format_exception(error))
        content = {"rank": self.launch.rank, "message": message, "hint": error.hint if known else ""}
        self.store.compare_set("failure", "", json.dumps(content))

    def explain(self, run: RunSpec, error: BaseException) -> BaseException:
        """What to raise for an error in a run: what another rank said before it ended, if one did."""
        if isinstance(error, TiebenchError):
            return error
        handle_stopping(lambda number, frame: None)  # torchrun tells every rank to end when one has
        until = time.monotonic() + (LAST_WORD_SECONDS if is_about_ranks(error) else 0.0)
        with suppress(RuntimeError):  # torchrun is gone, and its store with it
            while not (told := self.store.check(["failure"])) and time.monotonic() < until:
                time.sleep(POLL_SECONDS)
            if told:
                failure = json.loads(self.store.get("failure"))
                return TiebenchError(f"{run.name}, rank {failure['rank']}: {failure['message']}", failure["hint"])
        if is_about_ranks(error):
            what = f"{run.name}: another rank ended without a word: killed, or its machine is gone"
            return TiebenchError(what, "the same command goes on from the last checkpoint")
        return error


class RunsOverRanks:
    """Engine: all ranks at one run, one run after the other. An error ends all, but for a loss that is no number."""

    def __init__(self, settings: Settings, watch: Watch, *, on_record: Callable[[Record], None], jobs: str) -> None:
        launch = find_launch()
        assert launch is not None, "open_engine has looked"
        if launch.rank:
            raise UsageError("a program of your own cannot be started by torchrun", f"start the command: {COMMAND}")
        if settings.engine.type != "local":
            what = f"torchrun trains a run on several devices here, and the engine {settings.engine.type} elsewhere"
            raise UsageError(what, "type --engine local, or leave torchrun out")
        if jobs not in ("auto", "1"):
            raise UsageError(f"--jobs {jobs}: the ranks of torchrun train one run after the other", "leave --jobs out")
        self.launch, self.settings, self.watch, self.on_record = launch, settings, watch, on_record

    def execute(self, pending: list[tuple[int, RunSpec]]) -> dict[str, Record]:
        """See `Engine.execute`. Raises UsageError for a batch that cannot be shared out evenly."""
        choose_rank_device(self.settings.device, self.launch)
        for _, run in pending:
            check_shares(run, num_ranks=self.launch.num_ranks)
        team, records, failures = open_team(), {}, []
        for index, run in pending:
            callback = self.watch(run, index)
            try:
                records[run.name] = execute_run(run, settings=self.settings, callback=callback, begin=team.begin)
            except Diverged as error:  # of which all ranks know, and wait for the next run
                failures.append(error)
                callback.say(f"{run.name} failed: {error.message}")
            except BaseException as error:
                told = team.explain(run, error)
                if told is error:
                    raise
                raise told from error
            else:
                self.on_record(records[run.name])
        if failures:
            raise failures[0]
        return records


@cache
def open_team() -> Team:
    launch = find_launch()
    assert launch is not None
    return Team(launch)


def follow() -> None:
    """What every rank but the first does until the command has ended. Raises SystemExit when it failed."""
    team = open_team()
    with suppress(KeyboardInterrupt):  # the first rank was told as well, and says so
        while (order := team.receive()) is not None:
            try:
                _join(team, order)
            except Diverged:
                continue
            except Exception as error:
                with suppress(RuntimeError):  # torchrun is gone
                    team.tell_failure(error)
                raise SystemExit(1) from None


def _join(team: Team, order: dict[str, Any]) -> None:
    settings = Settings(
        store=Store(Path(order["results"])),
        data_dir=Path(order["data_dir"]) if order["data_dir"] else None,
        **{name: order[name] for name in ("device", "force", "num_threads")},
    )
    run = RunSpec(**(order["run"] | {"spec": ArmSpec.model_validate(order["run"]["spec"])}))
    handle_stopping(raise_interrupted)
    join_run(run, folder=Path(order["folder"]), settings=settings, ranks=team.open_ranks(settings.device))


def release() -> None:
    """Let the other ranks end: the command has."""
    with suppress(RuntimeError):  # torchrun is gone
        open_team().send(None)


def choose_rank_device(name: str, launch: Launch) -> torch.device:
    """A GPU for each rank, or the CPU for all. Raises UsageError where there are fewer GPUs, and for others."""
    kind = "cpu" if name == "auto" and not torch.cuda.is_available() else name.replace("auto", "cuda")
    if kind not in ("cpu", "cuda"):
        raise UsageError(f"--device {name}: under torchrun each rank has its own", "allowed: auto, cpu, cuda")
    choose_device(kind)
    if kind == "cpu":
        return torch.device("cpu")
    number = torch.cuda.device_count()
    if launch.num_local > number:
        hint = f"start at most {number} with --nproc-per-node, or train with --device cpu"
        raise UsageError(f"{launch.num_local} ranks on this machine need as many GPUs, and there are {number}", hint)
    return torch.device("cuda", launch.local_rank)


def check_shares(run: RunSpec, *, num_ranks: int) -> None:
    """Raises UsageError where the ranks cannot have equally many rows; those of sentences vary from batch to batch."""
    training = run.spec.training
    rows = training.batch_size // training.accumulate
    if isinstance(run.spec.corpus, TRANSLATED) or rows % num_ranks == 0:
        return
    cut = f" in {training.accumulate} micro-batches" if training.accumulate > 1 else ""
    fitting = ", ".join(str(number) for number in range(2, rows + 1) if rows % number == 0)
    raise UsageError(
        f"{run.name}: a batch of {training.batch_size} rows{cut} cannot be shared evenly by {num_ranks} ranks",
        f"start {fitting} ranks, or change training.batch_size" if fitting else "change training.batch_size",
    )


def is_about_ranks(error: BaseException | None) -> bool:
    """Whether torch says that another rank is not there any more, also where a signal came while that was raised."""
    if error is None or isinstance(error, TiebenchError):
        return False
    told = isinstance(error, RuntimeError) and any(word in str(error).lower() for word in LOST)
    return told or isinstance(error, dist.DistError) or is_about_ranks(error.__context__)
