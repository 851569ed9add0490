"""Measurements on trained embeddings, kept beside the runs, so that they outlive the weights."""

import json
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from tiebench.errors import TiebenchError
from tiebench.experiment.block import Block
from tiebench.files import write_text
from tiebench.results.record import Count, Finite, Provenance, Record

MEASUREMENTS_FILE = "analysis.json"


class Measurement(Block):
    """One figure at one seed: `measure` of `of`, from these `runs` (arm to `identify_run`), with the `facts` that it
    rests on.

    `provenance` is that of the measurement; the oldest have none.
    """

    measure: str
    of: str
    seed: Count
    value: Finite
    runs: dict[str, str] = {}
    facts: dict[str, int | float | str] = {}
    provenance: Provenance | None = None

    @property
    def key(self) -> tuple[str, str, int, list[str]]:
        return self.measure, self.of, self.seed, sorted(self.runs)

    def is_about(self, arms: list[str]) -> bool:
        """Whether it was measured on the embeddings of exactly these arms."""
        return set(self.runs) == set(arms)


def name_sampling_error(other: str | None = None) -> str:
    """The fact that holds the standard error over words (or pairs of words) of a figure, or of its difference from
    that of another embedding or pair of embeddings on the same words."""
    return f"sampling_error_of_difference_from_{other}" if other else "sampling_error"


def identify_run(record: Record) -> str:
    """A name for one training of a run; it changes when the run is trained again."""
    return f"{record.signature} {record.provenance.finished}"


def is_current(measurement: Measurement, records: list[Record]) -> bool:
    """Whether the runs that a measurement was made from are the ones that are there now."""
    there = {(record.arm, record.seed): identify_run(record) for record in records}
    return all(there.get((arm, measurement.seed)) == run for arm, run in measurement.runs.items())


def read_measurements(folder: Path) -> list[Measurement]:
    """The measurements of an experiment's folder; none without analyses. Raises TiebenchError when damaged."""
    file = folder / MEASUREMENTS_FILE
    if not file.exists():
        return []
    try:
        return TypeAdapter(list[Measurement]).validate_json(file.read_text("utf-8"))
    except (OSError, ValidationError, UnicodeDecodeError) as error:
        raise TiebenchError(
            f"{file} is damaged: {error}", "remove it: runs with weights are then analysed again"
        ) from error


def add_measurements(measurements: list[Measurement], folder: Path) -> None:
    """Write new measurements among the old; one of equal measure, subject, seed and arms replaces the old one."""
    merged = {repr(measurement.key): measurement for measurement in [*read_measurements(folder), *measurements]}
    ordered = sorted(merged.values(), key=lambda measurement: measurement.key)
    content = [measurement.model_dump(exclude_none=True) for measurement in ordered]
    write_text(json.dumps(content, indent=1, sort_keys=True, allow_nan=False) + "\n", file=folder / MEASUREMENTS_FILE)
