"""What there is to choose from, name by name, each with a line that says what it is."""

from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

from tiebench.claims.papers import describe_paper
from tiebench.experiment.block import Block
from tiebench.experiment.bundled import list_claim_files, list_configs
from tiebench.experiment.documentation import BLOCKS
from tiebench.experiment.schema import ARCHITECTURES, CORPORA, TIES
from tiebench.experiment.yaml_file import read_document
from tiebench.results.record import Record
from tiebench.results.store import State, Store, find_state


def take_inventory(kind: str, *, results: Path) -> dict[str, str]:
    """Name to description of everything of a kind (one of `LISTED` or `BLOCKS`), in order."""
    return LISTED[kind](results) if kind in LISTED else _describe_entries(BLOCKS[kind])


def _describe_entries(entries: dict[str, type[Block]]) -> dict[str, str]:
    return {name: (entry.__doc__ or "").split("\n\n")[0].replace("\n    ", " ") for name, entry in entries.items()}


def _describe_files(files: dict[str, Path]) -> dict[str, str]:
    return {name: str(read_document(file).data.get("description", "")) for name, file in files.items()}


def _describe_runs(results: Path) -> dict[str, str]:
    found = {}
    for folder, state, record in _find_runs(results):
        test = record.evaluations.get("test") if record else None
        if state == "finished" and record is None:
            found[str(folder)] = "finished, but its record cannot be read"
        else:
            found[str(folder)] = f"{state}, test perplexity {test.perplexity:.2f}" if test else state
    return found


def summarise_runs(results: Path) -> dict[str, str]:
    """Folder of an arm to the number of its runs in each state, and the range of their test perplexities."""
    arms: dict[str, list[tuple[str, Record | None]]] = {}
    for folder, state, record in _find_runs(results):
        readable = state != "finished" or record is not None
        arms.setdefault(str(folder.parent), []).append((state if readable else "unreadable", record))
    return {arm: _summarise_arm(runs) for arm, runs in arms.items()}


def _summarise_arm(runs: list[tuple[str, Record | None]]) -> str:
    said = ", ".join(f"{number} {state}" for state, number in Counter(state for state, _ in runs).items())
    found = sorted(
        record.evaluations["test"].perplexity for _, record in runs if record and "test" in record.evaluations
    )
    if not found:
        return said
    span = f"{found[0]:.2f}" if len(found) == 1 else f"{found[0]:.2f} to {found[-1]:.2f}"
    return f"{said}, test perplexity {span}"


def _find_runs(results: Path) -> Iterator[tuple[Path, State, Record | None]]:
    store = Store(results)
    for folder in store.folders():
        yield folder, find_state(folder), store.read(folder)


FILES: dict[str, Callable[[], dict[str, Path]]] = {"configs": list_configs, "claims": list_claim_files}
LISTED: dict[str, Callable[[Path], dict[str, str]]] = {
    "corpora": lambda results: _describe_entries(CORPORA),
    "architectures": lambda results: _describe_entries(ARCHITECTURES),
    "ties": lambda results: _describe_entries(TIES),
    "configs": lambda results: _describe_files(list_configs()),
    "claims": lambda results: {name: describe_paper(file) for name, file in list_claim_files().items()},
    "runs": _describe_runs,
}
