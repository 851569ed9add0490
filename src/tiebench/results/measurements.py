"""What was measured on trained tables and is no perplexity, kept beside the runs, so that it outlives their weights."""

import json
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from tiebench.errors import TiebenchError
from tiebench.experiment.block import Block
from tiebench.files import write_text
from tiebench.results.record import Count, Finite, Provenance, Record

FINDINGS_FILE = "analysis.json"


class Finding(Block):
    """One figure at one seed: `measure` of `of`, from these `runs` (arm to `identify_run`), with what it rests on.

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
        """Whether it was measured on the tables of exactly these arms."""
        return set(self.runs) == set(arms)


def identify_run(record: Record) -> str:
    """What changes when a run is trained again."""
    return f"{record.signature} {record.provenance.finished}"


def is_current(finding: Finding, records: list[Record]) -> bool:
    """Whether the runs that a finding was made from are the ones that are there now."""
    there = {(record.arm, record.seed): identify_run(record) for record in records}
    return all(there.get((arm, finding.seed)) == run for arm, run in finding.runs.items())


def read_findings(folder: Path) -> list[Finding]:
    """The findings of an experiment's folder; none where nothing was analysed. Raises TiebenchError when damaged."""
    file = folder / FINDINGS_FILE
    if not file.exists():
        return []
    try:
        return TypeAdapter(list[Finding]).validate_json(file.read_text("utf-8"))
    except (OSError, ValidationError, UnicodeDecodeError) as error:
        raise TiebenchError(f"{file} is damaged: {error}", "remove it: what has weights is analysed again") from error


def add_findings(findings: list[Finding], folder: Path) -> None:
    """Write new findings among those that are there; one of the same measure, subject, seed and arms replaces the old."""
    merged = {repr(finding.key): finding for finding in [*read_findings(folder), *findings]}
    ordered = sorted(merged.values(), key=lambda finding: finding.key)
    content = [finding.model_dump(exclude_none=True) for finding in ordered]
    write_text(json.dumps(content, indent=1, sort_keys=True, allow_nan=False) + "\n", file=folder / FINDINGS_FILE)
