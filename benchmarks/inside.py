"""What trained embeddings look like and what rounding them costs, for finished runs that still have their weights.

    python benchmarks/inside.py RUN... [--data-dir FOLDER]

Writes inside.json (every figure) and inside.md (the tables) into results/: figures, no matrices.
"""

import argparse
import json
from pathlib import Path
from typing import Any

import torch

from tiebench.analysis.inspection import Inspection, inspect_run
from tiebench.analysis.quantisation import QuantisedScore, quantise_run
from tiebench.cli.inspect_ import measures_table, norms_table
from tiebench.cli.quantise import quantised_table
from tiebench.execution.environment import describe_provenance, utc_now
from tiebench.files import write_text
from tiebench.reporting.pages import list_provenance, render_markdown_body
from tiebench.results.record import read_record

ROOT = Path(__file__).parents[1]
COMMAND = "python benchmarks/inside.py RUN..."
OPENING = """Two questions on trained embeddings. What do the two matrices of an untied model look like beside the one
of a tied model? And may they be rounded to few bits: does one matrix that is used at both ends suffer more than two
matrices that are used at one end each?"""


def render_page(inspected: list[Inspection], scores: list[QuantisedScore], *, origins: str) -> str:
    parts = [f"# Inside trained embeddings\n\n{OPENING}"]
    for name in dict.fromkeys(found.experiment for found in inspected):
        parts.append(f"## {name}")
        for found in (found for found in inspected if found.experiment == name):
            parts += [f"### {found.arm}, seed {found.seed}", render_markdown_body(measures_table(found))]
            if all(matrix.norms for matrix in found.matrices.values()):
                parts.append(render_markdown_body(norms_table(found)))
        rounded = quantised_table([score for score in scores if score.experiment == name])
        parts += ["### Rounded to few bits", render_markdown_body(rounded)]
    return "\n\n".join([*parts, f"Made by `{COMMAND}`; the runs by\n\n{origins}"]) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", type=Path, nargs="+", metavar="RUN", help="the folder of a finished run")
    parser.add_argument("--data-dir", type=Path, help="the folder with downloaded corpora (or TIEBENCH_DATA)")
    parser.add_argument("--results", type=Path, default=ROOT / "results", help="where the figures go")
    asked = parser.parse_args()
    write_results(asked.runs, data_dir=asked.data_dir, folder=asked.results)


def write_results(runs: list[Path], *, data_dir: Path | None, folder: Path) -> None:
    started = utc_now()
    inspected = [inspect_run(run, data_dir=data_dir) for run in runs]
    scores = [score for run in runs for score in quantise_run(run, data_dir=data_dir, say=print)]
    made = describe_provenance(started=started, device=torch.device("cpu"), precision="fp32")
    content: dict[str, Any] = {
        "inspected": [found.model_dump(mode="json") for found in inspected],
        "quantised": [score.model_dump(mode="json") for score in scores],
        "provenance": made.model_copy(update={"command": COMMAND}).model_dump(exclude_none=True),
    }
    write_text(json.dumps(content, indent=1, sort_keys=True) + "\n", file=folder / "inside.json")
    origins = list_provenance(read_record(run) for run in runs)
    write_text(render_page(inspected, scores, origins=origins), file=folder / "inside.md")


if __name__ == "__main__":
    main()
