"""`tiebench show`: show one finished run."""

import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tiebench.cli.options import AsJson
from tiebench.cli.output import find_width, print_json, print_line, print_runs, print_table
from tiebench.cli.workflow import find_run_folder
from tiebench.reporting.escaping import escape

CHECKSUM = re.compile(r"[0-9a-f]{64}")

if TYPE_CHECKING:
    from tiebench.reporting.tables import Table
    from tiebench.results.curve import CurvePoint


def show(
    run: Annotated[Path, typer.Argument(help="The folder of a run, such as results/quickstart/tied/seed-1.")],
    as_json: AsJson = False,
) -> None:
    """Show what one finished run found, what it cost and where its figures come from."""
    from tiebench.results.curve import read_curve
    from tiebench.results.record import read_record
    from tiebench.results.trials import describe_choice, describe_trials

    folder = find_run_folder(run)
    record = read_record(folder)
    if as_json:
        print_json(record.model_dump(mode="json"))
        return
    print_runs([record], as_json=False)
    if record.tuned:
        print_line(f"tuned by {describe_trials(record.tuned)}")
        print_line(f"  {describe_choice(record.arm, record.tuned)}")
    evaluations = {split: found.model_dump() for split, found in record.evaluations.items()}
    for name, block in (
        ("spec", record.spec.model_dump(mode="json")),
        ("evaluations", evaluations),
        *([("translation", record.translation.model_dump())] if record.translation else []),
        ("checkpoint", record.checkpoint.model_dump()),
        ("usage", record.usage.model_dump()),
        ("corpus", record.corpus.model_dump()),
        ("provenance", record.provenance.model_dump()),
    ):
        for line in _spell_block(name, block).splitlines():
            typer.echo(escape(line))
    if shares := [point for point in read_curve(folder, record=record) if point.gradient]:
        print_table(_gradients_table(shares))
    for warning in record.warnings:
        print_line(f"warning: {warning}")


def _spell_block(name: str, block: dict[str, Any]) -> str:
    """As YAML, at most as wide as the terminal, without what is missing; there a checksum is cut short."""
    import yaml

    room = find_width() - 20

    class Dumper(yaml.SafeDumper):
        """Writes a mapping on one line where it fits, else a line for each key."""

        def represent_mapping(self, tag: str, mapping: Any, flow_style: bool | None = None) -> yaml.MappingNode:
            node = super().represent_mapping(tag, mapping, flow_style)
            is_flat = not any(isinstance(part, dict) for part in mapping.values())
            node.flow_style = is_flat and len(", ".join(f"{key}: {part}" for key, part in mapping.items())) <= room
            return node

    return yaml.dump({name: _shorten(block, room=room)}, Dumper=Dumper, sort_keys=False, allow_unicode=True, width=room)


def _shorten(value: Any, *, room: int) -> Any:
    """Without what is missing; of a checksum that has no room, what tells it from others."""
    if isinstance(value, str) and len(value) > room and CHECKSUM.fullmatch(value):
        return f"{value[:12]}…"
    if not isinstance(value, dict):
        return value
    return {key: _shorten(part, room=room) for key, part in value.items() if part is not None}


def _gradients_table(points: "list[CurvePoint]") -> "Table":
    """A row for each evaluation before which the gradients of the two ends were measured."""
    from tiebench.reporting.tables import Column, Table

    names = ("input norm", "output norm", "output share", "cosine")
    columns = (Column("step", "count"), *(Column(name, "number") for name in names))
    found = [(point.step, point.gradient) for point in points if point.gradient]
    rows = tuple((step, share.input_norm, share.output_norm, share.of_output, share.cosine) for step, share in found)
    caption = (
        "The gradient that each end of the embedding asks for, as a matrix, before clipping: means over the measured "
        "steps since the last evaluation. The share is the output's part of both norms together."
    )
    return Table("gradient of the embedding by its ends", columns, rows, caption=caption)
