"""Power cuts: what was not synced is lost, and a run still ends the same; what was reported done is there.

The model of the disk: names (creations, renames, removals) reach it in order, and a sync of anything takes all earlier
names with it, as a journal of metadata does; later ones survive up to any point. What a file holds survives only if
that file was synced after it was written; else the file is empty, half or whole. This is ext4 and XFS as they may be,
and harsher than ext4's default, which helps a rename over an old file.
"""

import random
from base64 import b64decode
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from crashpoints import TRAIN, watch_all
from shell import Shell
from tally import Tally
from truth import copy_folder, list_differences, read_figures, write_experiment

LOSSES = ("names kept, data lost", "names lost", "by chance")


@dataclass
class Disk:
    """Files by number: what they hold as last seen, and which of them were synced since."""

    names: dict[str, int] = field(default_factory=dict)
    folders: set[str] = field(default_factory=set)
    content: dict[int, bytes] = field(default_factory=dict)
    synced: set[int] = field(default_factory=set)
    num_files: int = 0

    def apply(self, operation: dict[str, Any]) -> None:
        path, name = operation["path"], operation["name"]
        for inner, content in (operation.get("content") or {}).items():
            place = path if inner == "." else f"{path}/{inner}"
            if place in self.names:
                self.content[self.names[place]] = b64decode(content)
        if name == "create" and path not in self.names:
            self.names[path] = self.num_files
            self.content[self.num_files] = b""
            self.num_files += 1
        elif name in ("create", "write") and path in self.names:
            self.synced.discard(self.names[path])
        elif name == "fsync" and path in self.names:
            self.synced.add(self.names[path])
        elif name == "rename":
            self._rename(path, operation["to"])
        elif name == "unlink":
            self.names.pop(path, None)
        elif name == "mkdir":
            self.folders.add(path)
        elif name == "rmdir":
            self.folders.discard(path)

    def _rename(self, source: str, target: str) -> None:
        def move(path: str) -> str:
            return target + path.removeprefix(source) if path == source or path.startswith(f"{source}/") else path

        moved = {path: number for path, number in self.names.items() if move(path) != path}
        kept = {path: number for path, number in self.names.items() if move(path) == path}
        self.names = kept | {move(path): number for path, number in moved.items()}
        self.folders = {move(path) for path in self.folders}


def cut_power(operations: list[dict[str, Any]], folder: Path, *, at: int, loss: str, choose: random.Random) -> None:
    """Write into `folder` what a power cut after the first `at` operations may leave of what they made there."""
    seen = Disk()
    for operation in operations[:at]:
        seen.apply(operation)
    kept_names = max((index + 1 for index in range(at) if operations[index]["name"] == "fsync"), default=0)
    last = {"names kept, data lost": at, "names lost": kept_names}.get(loss) or choose.randint(kept_names, at)
    left = Disk()
    for operation in operations[: kept_names if loss == "names lost" else last]:
        left.apply({**operation, "content": None})
    for path in sorted(left.folders):
        (folder / path).mkdir(parents=True, exist_ok=True)
    for path, number in left.names.items():
        content = seen.content[number]
        if number not in seen.synced:
            part = 0 if loss == "names kept, data lost" else choose.choice((0, len(content) // 2, len(content)))
            content = content[:part]
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(content)


def run_campaign(shell: Shell, folder: Path, *, seed: int, num_trials: int | None) -> Tally:
    """Every loss at every operation, or `num_trials` of these; the end of the command is always among them."""
    tally, trial, choose = Tally("power cuts"), folder / "trial", random.Random(seed)
    write_experiment(folder / "start")
    copy_folder(folder / "start", trial)
    whole = shell.run(*TRAIN, folder=trial, watch=watch_all(trial, keep_content=True))
    truth = read_figures(trial / "results")
    operations = [operation for operation in whole.operations if operation["name"] != "read"]
    for operation in operations:
        operation["path"] = operation["path"].removeprefix(f"{trial}/")
        operation["to"] = operation.get("to", "").removeprefix(f"{trial}/")
    points = [(at, loss) for at in range(1, len(operations)) for loss in LOSSES]
    if num_trials is not None:
        points = choose.sample(points, min(num_trials, len(points)))
    for at, loss in [*points, *((len(operations), loss) for loss in LOSSES)]:
        copy_folder(folder / "start", trial)
        cut_power(operations, trial, at=at, loss=loss, choose=choose)
        problems = _find_problems(shell, trial, truth=truth, was_reported=at == len(operations))
        tally.add(loss, problems=problems, trial=f"cut after {at} of {len(operations)}, {loss}")
    return tally


def _find_problems(shell: Shell, trial: Path, *, truth: dict, was_reported: bool) -> list[str]:
    problems = []
    if was_reported:
        for run in truth:
            file = trial / "results" / run / "record.json"
            if not file.exists() or not file.stat().st_size:
                problems.append(f"{run} was reported done, but its record is {'empty' if file.exists() else 'gone'}")
    for name, arguments in (("list", ("list", "runs")), ("again", TRAIN)):
        complaint = shell.run(*arguments, folder=trial).find_complaint(allowed=(0,))
        problems.append(complaint and f"{name}: {complaint}")
    if not problems[-1]:
        found = read_figures(trial / "results")
        problems += [f"another figure: {name}" for name in list_differences(truth, found)]
        problems += [f"missing: {run}" for run in truth.keys() - found.keys()]
    return problems
