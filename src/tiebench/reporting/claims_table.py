"""The claims table: what was published beside what was measured, one row per claim, and the verdict."""

import itertools
from collections import Counter
from dataclasses import replace

from tiebench.claims.papers import PaperClaims
from tiebench.claims.verdicts import ClaimResult
from tiebench.comparison.pairing import Spread
from tiebench.reporting.render import MISSING, format_cell, format_number, render_table
from tiebench.reporting.tables import Column, Table

SPREAD = Column("measured", "spread")
COLUMNS = ("claim", "source", "measure", "published", "measured")


def claims_table(outcomes: list[ClaimResult], *, papers: list[PaperClaims]) -> Table:
    """Measured is mean ± s.d. over seeds (their number); the notes say where the tolerances come from."""
    columns = (*map(Column, COLUMNS), Column("difference", "spread"), Column("verdict"))
    named = list(dict.fromkeys(outcome.paper for outcome in outcomes))
    several = len(named) > 1
    rows = tuple(_describe_row(outcome) for outcome in outcomes)
    if several:
        rows = tuple((outcome.paper, *row) for outcome, row in zip(outcomes, rows, strict=True))
    return Table(
        title="Published claims, reproduced" if several else f"Published claims, reproduced: {''.join(named)}",
        columns=(Column("paper"), *columns) if several else columns,
        rows=rows,
        caption=_count_verdicts(outcomes),
        notes=tuple(f"{paper.name}: {' '.join(paper.tolerances.split())}" for paper in papers if paper.name in named),
    )


def _describe_row(outcome: ClaimResult) -> tuple:
    return (
        outcome.id,
        outcome.source,
        outcome.measure,
        outcome.relation or f"{_show(outcome.published)} ± {_show(outcome.tolerance)}",
        _show_measured(outcome),
        outcome.difference,
        outcome.verdict,
    )


def _show_measured(outcome: ClaimResult) -> str:
    """A value with its spread; for an order, the means with the signs that hold between them."""
    if not outcome.measured:
        return MISSING
    if outcome.relation is None:
        return _show_spread(outcome.measured[0])
    means = [spread.mean for spread in outcome.measured]
    signs = [_compare(left, right) for left, right in itertools.pairwise(means)]
    words = [word for mean, sign in zip(means, [*signs, ""], strict=True) for word in (format_number(mean), sign)]
    return f"{' '.join(words).strip()} ({outcome.measured[0].num_seeds})"


def _show_spread(spread: Spread) -> str:
    if spread.mean >= 1e5 and not spread.deviation:
        return f"{spread.mean:,.0f} ({spread.num_seeds})"
    text = format_cell(spread, SPREAD)
    return text if text.endswith(")") else f"{text} ({spread.num_seeds})"


def _show(value: float) -> str:
    """A published figure with the digits that it has."""
    return f"{value:,.0f}" if value >= 1000 else f"{value:g}"


def _compare(left: float, right: float) -> str:
    return "<" if left < right else ">" if left > right else "="


def render_claims(outcomes: list[ClaimResult], *, papers: list[PaperClaims]) -> str:
    """The page's opening in Markdown: the claims that were run as a table, those that were not by their source."""
    run = [outcome for outcome in outcomes if outcome.verdict != "not run"]
    parts = ["## Published claims, reproduced", _count_verdicts(outcomes)]
    if run:
        table = replace(claims_table(run, papers=papers), title="", caption="")
        parts.append(render_table(table, format="markdown").strip())
    left = Counter((outcome.paper, outcome.source) for outcome in outcomes if outcome.verdict == "not run")
    lines = [f"- not run: {paper}, {source}: {_count(number)}" for (paper, source), number in left.items()]
    parts.append("\n".join(lines))
    return "\n\n".join(part for part in parts if part)


def _count_verdicts(outcomes: list[ClaimResult]) -> str:
    counts = Counter(outcome.verdict for outcome in outcomes)
    return f"{_count(len(outcomes))}: {', '.join(f'{count} {verdict}' for verdict, count in counts.items())}."


def _count(number: int) -> str:
    return f"{number} claim{'' if number == 1 else 's'}"
