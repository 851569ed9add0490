"""The claims tables: what was published beside what was measured, one row per claim; and how many of each verdict."""

import textwrap
from collections import Counter
from dataclasses import replace
from itertools import pairwise

from tiebench.claims.papers import PaperClaims
from tiebench.claims.verdicts import VERDICTS, ClaimResult
from tiebench.comparison.captions import format_p
from tiebench.comparison.spread import Spread
from tiebench.reporting.render import MISSING, format_cell, format_number, measure_cell, render_table
from tiebench.reporting.tables import Column, Table

SPREAD = Column("measured", "spread")
COLUMNS = ("claim", "verdict", "measured", "published", "interval", "p", "measure", "source")
NUM_KEY_COLUMNS = 2  # the columns that the narrowest window keeps
GAP = 2
NARROWEST_MEASURED = 12
LOOKING = "(looking)"
OF_SEVERAL = {"holds": "hold", "does not hold": "do not hold"}
PLURALS = {"value": "values", "difference": "differences", "order": "orders", "check": "checks"}
METHOD = (
    "A value or a difference is reproduced when its 90 % interval lies within the margin, and contradicted when it "
    "lies outside. An order is reproduced when its one-sided 95 % bound excludes 0, and contradicted when the bound on "
    "the other side does (p is adjusted over the paper's orders, Holm). One seed is inconclusive. A check is exact: it "
    "holds or it does not."
)


def claims_table(outcomes: list[ClaimResult], *, papers: list[PaperClaims], width: int | None = None) -> Table:
    """The claims that were run, measured as mean ± s.d. over seeds (their number); the notes count those that were not
    run and say where the tolerances come from. In a window of `width` characters the claims of several papers stand
    below the name of each, and the last columns are left out: what was published is shown as long as there is room
    for the figures alone."""
    named = list(dict.fromkeys(outcome.paper for outcome in outcomes))
    run = [outcome for outcome in outcomes if outcome.verdict != "not run"]
    columns, narrow = COLUMNS, False
    rows = [_describe_row(outcome) for outcome in run]
    if width is not None:
        rows, narrow = _choose_rows(run, rows, width=width)
    if len(named) > 1 and width is None:
        columns, rows = ("paper", *columns), [(outcome.paper, *row) for outcome, row in zip(run, rows, strict=True)]
    elif len(named) > 1:
        rows = _head_papers(run, rows)
    if width is not None:
        rows = _fold_measured(rows, width=width)
    shown = _count_fitting(columns, rows, width=width)
    left_out = [*(["numbers of seeds", "margins"] if narrow else []), *columns[shown:]]
    hidden = f"A wider window shows also: {', '.join(left_out)}." if left_out else ""
    shows_margins = "published" in columns[:shown] and not narrow
    sources = [
        f"{paper.name}: {' '.join(paper.tolerances.split())}"
        for paper in papers
        if paper.name in named and shows_margins
    ]
    return Table(
        title="Published claims, reproduced" if len(named) > 1 else f"Published claims, reproduced: {''.join(named)}",
        columns=tuple(map(Column, columns[:shown])),
        rows=tuple(row[:shown] for row in rows),
        caption=hidden,
        notes=(
            *list_not_run(outcomes),
            _explain_figures(narrow=narrow),
            METHOD,
            *_describe_versions(run),
            *_describe_looks(run),
            *sources,
        )
        if run
        else tuple(list_not_run(outcomes)),
    )


def _describe_versions(run: list[ClaimResult]) -> list[str]:
    """A note where claims rest on runs by several versions of the program; nothing where no claim does."""
    mixed = [outcome for outcome in run if len(outcome.commits) > 1]
    if not mixed:
        return []
    commits = sorted({commit for outcome in mixed for commit in outcome.commits})
    rest = "rests" if len(mixed) == 1 else "rest"
    return [
        f"{_count_claims(len(mixed))} {rest} on runs by several versions of the program that compute alike: "
        f"commits {', '.join(commits)}."
    ]


def _describe_looks(run: list[ClaimResult]) -> list[str]:
    """A note where the runs behind claims were added while looking; nothing where those of no claim were."""
    number = sum(map(_holds_while_looking, run))
    if not number:
        return []
    rest = "rests" if number == 1 else "rest"
    return [
        f"{_count_claims(number)} {rest} on runs that were added while looking (compare --until-decided): p, marked "
        f"{LOOKING}, and the interval are those that hold however often one looks."
    ]


def _holds_while_looking(outcome: ClaimResult) -> bool:
    """Whether the claim's p is the one that stays valid under looking."""
    return outcome.while_looking and outcome.p is not None


def figures_table(outcomes: list[ClaimResult]) -> Table:
    """Every claim, run or not, with its figures as numbers, for programs."""
    numbers = ("published", "margin", "chance", "estimate", "low", "high", "p", "p_opposite")
    names = ("paper", "id", "kind", "source", "measure", "verdict", "same_as", "while_looking")
    columns = (*map(Column, names), *(Column(name, "number") for name in numbers))
    rows = tuple(tuple(getattr(outcome, name) for name in (*names, *numbers)) for outcome in outcomes)
    return Table(title="Published claims", columns=columns, rows=rows, caption=count_verdicts(outcomes))


def verdicts_table(outcomes: list[ClaimResult]) -> Table:
    """By paper and verdict, how many values, differences, orders and checks."""
    counted = [outcome for outcome in outcomes if outcome.same_as is None]
    counts = Counter((outcome.paper, outcome.verdict, outcome.kind) for outcome in counted)
    pairs = [(paper, verdict) for paper in _list_papers(outcomes) for verdict in VERDICTS]
    rows = [(*pair, *(counts[(*pair, kind)] for kind in PLURALS)) for pair in pairs]
    again = len(outcomes) - len(counted)
    repeats = "1 claim repeats" if again == 1 else f"{again} claims repeat"
    repeated = f"{repeats} another's measurement and {'is' if again == 1 else 'are'} not counted."
    return Table(
        title="Verdicts by paper",
        columns=(Column("paper"), Column("verdict"), *(Column(plural, "count") for plural in PLURALS.values())),
        rows=tuple(row for row in rows if any(row[2:])),
        caption=count_verdicts(counted),
        notes=(repeated,) if again else (),
    )


def count_verdicts(outcomes: list[ClaimResult]) -> str:
    """One sentence; checks are counted apart from what is reproduced."""
    claims = Counter(outcome.verdict for outcome in outcomes if outcome.kind != "check")
    checks = Counter(outcome.verdict for outcome in outcomes if outcome.kind == "check")
    parts = [f"{_count_claims(sum(claims.values()))}: {_list_counts(claims)}"] if claims else []
    if checks:
        number = sum(checks.values())
        parts.append(f"{number} check{'' if number == 1 else 's'}: {_list_counts(checks)}")
    return "; ".join(parts) + "."


def list_not_run(outcomes: list[ClaimResult]) -> list[str]:
    """A line for each table or figure of which claims were not run."""
    left = Counter((outcome.paper, outcome.source) for outcome in outcomes if outcome.verdict == "not run")
    return [f"not run: {paper}, {source}: {_count_claims(number)}" for (paper, source), number in left.items()]


def render_claims(outcomes: list[ClaimResult], *, papers: list[PaperClaims]) -> str:
    """The page's opening in Markdown: verdicts by paper, the claims that were run, and a line for the others."""
    counted = replace(verdicts_table(outcomes), title="")
    parts = ["## Published claims, reproduced", render_table(counted, format="markdown").strip()]
    table = replace(claims_table(outcomes, papers=papers), title="")
    notes = "\n".join(f"- {note}" for note in table.notes)
    parts.append(render_table(table, format="markdown").strip() if table.rows else notes)
    return "\n\n".join(parts)


def _describe_row(outcome: ClaimResult) -> tuple[str, ...]:
    return (
        outcome.id,
        outcome.verdict,
        _show_measured(outcome),
        _show_published(outcome),
        _show_interval(outcome),
        _show_p(outcome),
        outcome.measure,
        outcome.source,
    )


def _choose_rows(
    run: list[ClaimResult], rows: list[tuple[str, ...]], *, width: int
) -> tuple[list[tuple[str, ...]], bool]:
    """The fullest rows in which what was published fits beside what was measured, and whether these are the narrowest:
    as they are; with an order as its sign; also without numbers of seeds and margins; else as they are.
    """
    last = COLUMNS.index("published")
    signs = [_show_published(outcome, briefly=True) for outcome in run]
    brief = [(*row[:last], sign, *row[last + 1 :]) for row, sign in zip(rows, signs, strict=True)]
    briefest = [
        (*row[: last - 1], row[last - 1].rpartition(" (")[0], row[last].partition(" ± ")[0], *row[last + 1 :])
        for row in brief
    ]
    for choice in (rows, brief, briefest):
        if _count_fitting(COLUMNS, choice, width=width) > last:
            return choice, choice is briefest
    return rows, False


def _explain_figures(*, narrow: bool) -> str:
    seeds, margin = ("", "") if narrow else (" (how many)", " ± its margin")
    return f"Measured: mean ± standard deviation over seeds{seeds}. Published: the figure{margin}, or the order."


def _head_papers(outcomes: list[ClaimResult], rows: list[tuple[str, ...]]) -> list[tuple[str, ...]]:
    """A row with the name of a paper before those of its claims."""
    found, last = [], None
    for outcome, row in zip(outcomes, rows, strict=True):
        if outcome.paper != last:
            found.append((f"{outcome.paper}:", *([""] * (len(COLUMNS) - 1))))
            last = outcome.paper
        found.append(row)
    return found


def _show_published(outcome: ClaimResult, *, briefly: bool = False) -> str:
    """A figure with its margin, or an order: `tied < untied`, and briefly its signs alone."""
    if outcome.published is None or outcome.margin is None:
        order = outcome.relation or MISSING
        signs = [word for word in order.split() if word in ("<", ">", "=")]
        return " ".join(signs) if briefly and signs else order
    signed = "+" if outcome.contrast and outcome.published > 0 else ""
    text = f"{signed}{_show(outcome.published)} ± {_show(outcome.margin)}"
    return text if outcome.chance is None else f"{text} (chance {_show(outcome.chance)})"


def _show_measured(outcome: ClaimResult) -> str:
    """A value with its spread; a difference; for an order, the means with the signs that hold between them."""
    seeds = ", ".join(map(str, dict.fromkeys(spread.num_seeds for spread in outcome.measured)))
    if outcome.contrast is not None or (outcome.relation is not None and "+" in outcome.relation.split()):
        return f"{_sign(outcome.estimate)} ({seeds})"
    if outcome.relation is None:
        return _show_spread(outcome.measured[0])
    means = [spread.mean for spread in outcome.measured]
    signs = [_compare(left, right) for left, right in pairwise(means)]
    words = [word for mean, sign in zip(means, [*signs, ""], strict=True) for word in (format_number(mean), sign)]
    return f"{' '.join(words).strip()} ({seeds})"


def _show_interval(outcome: ClaimResult) -> str:
    """The 90 % interval: of a value its own, of an order that of the difference that should be below 0."""
    if outcome.low is None or outcome.high is None:
        return MISSING
    show = format_number if outcome.relation is None and outcome.contrast is None else _sign
    return f"[{show(outcome.low)}, {show(outcome.high)}]"


def _show_p(outcome: ClaimResult) -> str:
    """The p of the verdict: against the claim where it is contradicted, else for it."""
    p = outcome.p_opposite if outcome.verdict == "contradicted" else outcome.p
    if p is None:
        return MISSING
    told = format_p(p).removeprefix("p ").removeprefix("= ")
    return f"{told} {LOOKING}" if _holds_while_looking(outcome) else told


def _show_spread(spread: Spread) -> str:
    if spread.mean >= 1e5 and not spread.deviation:
        return f"{spread.mean:,.0f} ({spread.num_seeds})"
    text = format_cell(spread, SPREAD)
    return text if text.endswith(")") else f"{text} ({spread.num_seeds})"


def _sign(value: float | None) -> str:
    if value is None:
        return MISSING
    return ("+" if value > 0 else "") + format_number(value)


def _show(value: float) -> str:
    """A published figure with the digits that it has."""
    return f"{value:,.0f}" if value >= 1000 else f"{value:g}"


def _compare(left: float, right: float) -> str:
    return "<" if left < right else ">" if left > right else "="


def _count_fitting(columns: tuple[str, ...], rows: list[tuple[str, ...]], *, width: int | None) -> int:
    """How many columns fit side by side; at least the claim and its verdict."""
    if width is None:
        return len(columns)
    least, taken = len(columns) - len(COLUMNS) + NUM_KEY_COLUMNS, 0
    for place, column in enumerate(zip(columns, *rows, strict=True)):
        taken += max(map(measure_cell, column)) + GAP
        if taken - GAP > width and place >= least:
            return place
    return len(columns)


def _fold_measured(rows: list[tuple[str, ...]], *, width: int) -> list[tuple[str, ...]]:
    """The rows with `measured` broken into lines that fit beside name and verdict, where there is room for a figure."""
    place = COLUMNS.index("measured")
    room = width - sum(max((len(row[i]) for row in rows), default=0) + GAP for i in range(place))
    if room < NARROWEST_MEASURED:
        return rows
    return [(*row[:place], textwrap.fill(row[place], room), *row[place + 1 :]) for row in rows]


def _list_papers(outcomes: list[ClaimResult]) -> list[str]:
    return list(dict.fromkeys(outcome.paper for outcome in outcomes))


def _list_counts(counts: Counter[str]) -> str:
    return ", ".join(f"{counts[each]} {_inflect(each, counts[each])}" for each in VERDICTS if counts[each])


def _inflect(verdict: str, number: int) -> str:
    return verdict if number == 1 else OF_SEVERAL.get(verdict, verdict)


def _count_claims(number: int) -> str:
    return f"{number} claim{'' if number == 1 else 's'}"
