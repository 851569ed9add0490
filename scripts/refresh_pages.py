"""Rewrite the pages of results/ and the outputs in README.md from the published records, and from nothing else.

Published is what git tracks below results/; a user's own runs beside it do not count.
"""

import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from tiebench.claims.evidence import Evidence, plan_papers
from tiebench.claims.judging import judge_finished
from tiebench.claims.papers import ALL, load_papers
from tiebench.claims.verdicts import judge_papers
from tiebench.cli.grid import find_cell_records
from tiebench.comparison.cells import compare_cells
from tiebench.comparison.looking import find_looks_below
from tiebench.execution.settings import Settings
from tiebench.experiment.grid import list_bundled_grids
from tiebench.files import write_text
from tiebench.reporting.claims_table import render_claims
from tiebench.reporting.grid_page import render_grid_files
from tiebench.reporting.pages import render_results_readme
from tiebench.reporting.report import render_report
from tiebench.results.record import Record
from tiebench.results.store import Store

ROOT = Path(__file__).parents[1]
BLOCK = re.compile(r"```\n\$ (tiebench .*)\n(?:.*\n)*?```\n")
WIDTH = 120


def list_published(root: Path) -> list[Path]:
    """The files below results/ that git tracks, relative to `root`; in an unpacked archive, all of them."""
    asked = subprocess.run(["git", "-C", str(root), "ls-files", "results"], capture_output=True, text=True, check=False)
    if asked.returncode == 0:
        return [Path(line) for line in asked.stdout.splitlines()]
    return [file.relative_to(root) for file in sorted((root / "results").rglob("*")) if file.is_file()]


def copy_published(root: Path, folder: Path) -> Path:
    """A results folder with the published records and nothing else, so that a user's own runs do not show."""
    for file in list_published(root):
        (folder / file).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(root / file, folder / file)
    return folder / "results"


def run_command(command: str, *, results: Path) -> str:
    """What a command prints on stdout, without spaces at the ends of lines."""
    words = [sys.executable, "-m", "tiebench", *shlex.split(command)[1:], "--results", str(results)]
    asked = subprocess.run(
        words, capture_output=True, text=True, check=False, env={**os.environ, "COLUMNS": str(WIDTH)}
    )
    if asked.returncode not in (0, 3):
        raise SystemExit(f"{command} failed:\n{asked.stderr}")
    return "\n".join(line.rstrip() for line in asked.stdout.strip().splitlines())


def fill_blocks(text: str, *, results: Path) -> str:
    """The page with every block that begins with `$ tiebench ...` filled by that command."""
    return BLOCK.sub(lambda block: f"```\n$ {block[1]}\n{run_command(block[1], results=results)}\n```\n", text)


def render_grids(results: Path) -> dict[str, str]:
    """The pages and pictures of the bundled grids of which a cell lies in the folder, by the names of their files."""
    store = Store(results)
    settings = Settings(store=store, device="cpu")
    files = {}
    for grid in list_bundled_grids().values():
        records = [find_cell_records(cell, [], settings=settings) for cell in grid.cells]
        if any(records):
            compared = compare_cells(grid, records, token_nll=store.token_nll, curve=store.curve)
            files |= render_grid_files(grid, compared, records)
    return files


def render_results(results: Path) -> str:
    """results/README.md: every bundled claim judged by what lies in the folder, then every experiment in it.

    The cells of a grid stand on a page of their own.
    """
    store, papers = Store(results), load_papers(ALL)
    records = list_outside_grids(store)
    plans = plan_papers(papers, only=[], seeds=[], overrides=[])
    outcomes = judge_papers(papers, evidence=Evidence(store, plans), only=[])
    grids = sorted(Path(name).stem for name in render_grids(results) if name.endswith(".md"))
    pages = [f"Grids have pages of their own: {', '.join(f'[{name}]({name}.md)' for name in grids)}."] if grids else []
    opening = "\n\n".join([*pages, render_claims(outcomes, papers=papers)])
    read = {"token_nll": store.token_nll, "curve": store.curve, "decades": store.target_decades}
    read |= {"bleu_counts": store.bleu_counts, "looks": find_looks_below(store.root)}
    return render_results_readme(records, **read, opening=opening)


def list_outside_grids(store: Store) -> list[Record]:
    """The records that are of no cell of a bundled grid."""
    cells = {cell.experiment.name for grid in list_bundled_grids().values() for cell in grid.cells}
    return [record for record in store.records() if record.experiment not in cells]


def render_published_report(results: Path) -> str:
    """results/report.html: what `tiebench report` writes of the records in the folder, without the cells of grids."""
    store = Store(results)
    claims, papers = judge_finished(store)
    return render_report(list_outside_grids(store), store=store, claims=claims, papers=papers)


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as scratch:
        published = copy_published(ROOT, Path(scratch))
        for name, text in {"README.md": render_results(published), **render_grids(published)}.items():
            write_text(text, file=ROOT / "results" / name)
        write_text(render_published_report(published), file=ROOT / "results" / "report.html")
        readme = ROOT / "README.md"
        write_text(fill_blocks(readme.read_text("utf-8"), results=published), file=readme)
