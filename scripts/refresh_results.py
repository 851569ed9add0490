"""Rewrite results/README.md, table.md and table.csv from the records in results/, and from nothing else."""

import sys
from pathlib import Path

from tiebench.results.atomic import write_text
from tiebench.results.claims import ALL, load_papers
from tiebench.results.claims_table import render_claims
from tiebench.results.report import refresh_tables, render_results_readme
from tiebench.results.store import Store
from tiebench.results.verdicts import Evidence, judge_papers, plan_papers


def refresh_results(root: Path) -> None:
    """Judge every bundled claim by what lies below `root`, and write the three pages there."""
    store, papers = Store(root), load_papers(ALL)
    plans = plan_papers(papers, only=[], seeds=[], overrides=[])
    outcomes = judge_papers(papers, evidence=Evidence(store, plans), only=[])
    opening = render_claims(outcomes, papers=papers)
    page = render_results_readme(store.records(), token_nats=store.token_nats, opening=opening)
    write_text(page, file=root / "README.md")
    refresh_tables(store)


if __name__ == "__main__":
    refresh_results(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parents[1] / "results")
