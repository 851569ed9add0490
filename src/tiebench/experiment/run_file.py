"""`spec.yaml`, in which a run says what it is: enough to train it again, as `tiebench train RUN/spec.yaml` does."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tiebench.errors import UsageError
from tiebench.experiment.run_spec import RunSpec
from tiebench.experiment.yaml_file import Document, read_document

RUN_FILE_KEYS = {"signature": str, "experiment": str, "arm": str, "seed": int, "spec": dict}


@dataclass(frozen=True)
class RunRecord:
    """A run's own file, as the experiment that it is: one arm, one seed. `source` is where its paths start."""

    document: Document
    signature: str
    source: str
    declared: tuple[str, ...]
    altered: tuple[str, ...]


def describe_run(run: RunSpec) -> dict[str, Any]:
    """What `spec.yaml` holds."""
    content = {"signature": run.signature, "experiment": run.experiment, "arm": run.arm, "seed": run.seed}
    content["declared"] = list(run.declared)
    if run.source and (run.spec.corpus.type == "text" or run.spec.initialise_from):  # its paths start there
        content["source"] = str(Path(run.source).absolute())
    if run.altered:
        content["altered"] = list(run.altered)
    return {**content, "spec": run.resolved}


def is_run_record(data: dict[str, Any]) -> bool:
    """Whether a file is that of a run and not that of an experiment."""
    return "spec" in data and "signature" in data


def read_signature(file: Path) -> str | None:
    """The signature in a run's own file; None where there is no file, and where it is damaged.

    A damaged file does no harm: a checkpoint names its run too, so no checkpoint of another run is continued.
    """
    try:
        found = read_document(file).data.get("signature") if file.exists() else None
    except UsageError:
        return None
    return found if isinstance(found, str) else None


def read_run_record(document: Document) -> RunRecord:
    """Raises UsageError where a key is missing or of another kind."""
    data = document.data
    for key, kind in RUN_FILE_KEYS.items():
        if not isinstance(data.get(key), kind):
            place, hint = document.locate((key,)), "train from the experiment's file"
            raise UsageError(f"{place}: {key} is missing or damaged", hint)
    lines = {path[1:]: line for path, line in document.lines.items() if path[:1] == ("spec",) and len(path) > 1}
    content = {**data["spec"], "name": data["experiment"], "seeds": [data["seed"]], "arms": {data["arm"]: None}}
    experiment = Document(document.source, content, lines)
    lists = {key: tuple(map(str, data.get(key) or ())) for key in ("declared", "altered")}
    source = data.get("source", document.source)
    return RunRecord(experiment, data["signature"], str(source), lists["declared"] or ("tie",), lists["altered"])


def check_signature(run: RunSpec, recorded: RunRecord) -> None:
    """Raises UsageError where the file describes another run than the one that it was written for."""
    if run.signature != recorded.signature:
        raise UsageError(
            f"{recorded.document.source} was written for the run {recorded.signature} and describes {run.signature}",
            "it was changed, or written by another version of tiebench; train from the experiment's file",
        )
