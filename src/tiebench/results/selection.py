"""Which runs a comparison is about: arms by name, across all experiments that have them, or run folders."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from tiebench.errors import UsageError, did_you_mean
from tiebench.results.record import RECORD_FILE, Record
from tiebench.results.store import Store, read_folders

Arms = dict[str, list[Record]]


def select_arms(names: list[str], *, store: Store, allow: Sequence[str] = ()) -> list[Arms]:
    """One group of arms per comparison, each in the order of `names`; none where no finished runs have them.

    A name is an arm, or a folder with a run or with the runs of an arm. Arms of one experiment belong together; arms
    that no single experiment has belong together when their specs agree in everything but the tie and the dotted paths
    in `allow`. Raises UsageError for a folder without finished runs, TiebenchError for one without a record that can be
    read; a bad record among good ones is left out, with a warning that names it.
    """
    if any(_is_folder(name) for name in names):
        return [_read_folders(names)]
    records = [record for record in store.records() if record.arm in names]
    by_experiment = _group(records, key=lambda record: record.experiment)
    complete = [group for group in by_experiment if _is_complete(group, names)]
    rest = [record for group in by_experiment if not _is_complete(group, names) for record in group]
    by_control = _group(rest, key=lambda record: _describe_control(record, allow))
    return [_arrange(group, names) for group in complete + by_control if _is_complete(group, names)]


def put_baseline_first(arms: Arms) -> Arms:
    """The order of a comparison: as named, but of two arms of which one is untied, that one is the baseline."""
    untied = [name for name, records in arms.items() if records and records[0].spec.tie.type == "untied"]
    if len(arms) == 2 and len(untied) == 1:
        return {name: arms[name] for name in (untied[0], *(name for name in arms if name != untied[0]))}
    return arms


def list_arm_names(store: Store) -> list[str]:
    """Every arm that has a finished run."""
    return sorted({record.arm for record in store.records()})


def explain_nothing(names: list[str], *, store: Store) -> UsageError:
    """What to say when no finished runs have all of these arms."""
    known = list_arm_names(store)
    unknown = [name for name in names if name not in known]
    asked = " and ".join(names)
    if not unknown or not known:
        return UsageError(
            f"no experiment in {store.root} has finished runs of {asked}",
            "name one to train: tiebench compare ARM ARM --config CONFIG (`tiebench list configs`)",
        )
    return UsageError(f"no finished run of arm '{unknown[0]}' in {store.root}", did_you_mean(unknown[0], known))


def _is_folder(name: str) -> bool:
    path = Path(name)
    return (path.is_dir() and any(path.glob(f"**/{RECORD_FILE}"))) or len(path.parts) > 1


def _read_folders(names: list[str]) -> Arms:
    arms: Arms = {}
    for name in names:
        folder = Path(name)
        own = folder / RECORD_FILE
        files = [own] if own.exists() else sorted(folder.glob(f"seed-*/{RECORD_FILE}"))
        if not files:
            raise UsageError(f"no finished run in {name}", "name a run (.../seed-1) or an arm folder with runs in it")
        records = read_folders([file.parent for file in files])
        label = records[0].arm if records[0].arm not in arms else f"{records[0].experiment}/{records[0].arm}"
        if label in arms:
            raise UsageError(f"{name} is named twice", "name two different arms")
        arms[label] = records
    return arms


def _group(records: list[Record], *, key: Callable[[Record], str]) -> list[list[Record]]:
    groups: dict[str, list[Record]] = {}
    for record in records:
        groups.setdefault(key(record), []).append(record)
    return list(groups.values())


def _describe_control(record: Record, allow: Sequence[str]) -> str:
    """All of a spec but the tie and what may differ, and the text."""
    control = record.spec.model_dump(mode="json", exclude={"tie", "corpus"})
    for path in allow:
        control = _without(control, path.split("."))
    return json.dumps([control, record.corpus.checksum], sort_keys=True)


def _without(block: Any, path: Sequence[str]) -> Any:
    """A block without what stands at a path, if anything does."""
    if not isinstance(block, dict) or path[0] not in block:
        return block
    rest = {key: value for key, value in block.items() if key != path[0]}
    return rest if len(path) == 1 else {**rest, path[0]: _without(block[path[0]], path[1:])}


def _is_complete(records: list[Record], names: list[str]) -> bool:
    return set(names) <= {record.arm for record in records}


def _arrange(records: list[Record], names: list[str]) -> Arms:
    return {name: [record for record in records if record.arm == name] for name in names}
