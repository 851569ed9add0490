"""Published beside measured: what the finished runs say about each claim, and the verdict.

An order is reproduced when the one-sided 95 % bound of its difference excludes 0, by Holm's adjustment over the orders
of the paper that were run, and contradicted when the bound on the other side does. A value or a difference is
reproduced when two one-sided tests at 5 % place it within its margin, and contradicted when its 90 % interval lies
outside. Everything else is inconclusive, and so is whatever rests on one seed. A check holds or does not. A claim whose
runs have another spec than it names is "altered", whatever they show. Where runs were added while looking at what
others showed (`compare --until-decided`), p and bounds are those that hold however often one looks.
"""

from dataclasses import dataclass, replace
from typing import Literal, NamedTuple, get_args

from tiebench.claims.claim import Claim, ClaimKind
from tiebench.claims.estimates import estimate_sum
from tiebench.claims.evidence import BySeed, Evidence
from tiebench.claims.papers import PaperClaims
from tiebench.comparison.bounds import CONFIDENCE, adjust_holm, check_order, check_value
from tiebench.comparison.captions import list_commits
from tiebench.comparison.estimate_error import EstimateError
from tiebench.comparison.spread import Spread, measure_spread
from tiebench.experiment.block import Block

Verdict = Literal["reproduced", "contradicted", "inconclusive", "holds", "does not hold", "altered", "not run"]
VERDICTS: tuple[Verdict, ...] = get_args(Verdict)
OF_DIFFERENCE = "half the published difference"


class ClaimResult(Block):
    """One claim, judged. `measured` has a spread for each of the claim's subjects, or none where nothing was run.

    `estimate` is the value, the difference, or for an order of one link what should be below 0. `low` to `high` is its
    90 % interval, each end a one-sided 95 % bound. `p` speaks for the claim when small and `p_opposite` against it,
    those of orders adjusted over the paper; none of these is known from one seed. `chance` is what chance gives.
    `commits` are the versions of the program that made the runs behind it; `while_looking` says that some of these were
    added while looking: then p and the interval are those that hold however often one looks.
    """

    paper: str
    id: str
    kind: ClaimKind
    source: str
    says: str
    measure: str
    subjects: list[str]
    published: float | None
    margin: float | None
    margin_source: str
    relation: str | None
    contrast: str | None
    chance: float | None
    measured: list[Spread]
    estimate: float | None
    low: float | None
    high: float | None
    p: float | None
    p_opposite: float | None
    verdict: Verdict
    same_as: str | None
    notes: str
    commits: list[str] = []
    while_looking: bool = False


class _Known(NamedTuple):
    """A `SumEstimate` from more than one seed."""

    value: float
    error: EstimateError


@dataclass(frozen=True)
class _Test:
    """What the runs say, before the paper's orders are adjusted together."""

    found: dict[str, BySeed]
    estimate: float | None = None
    low: float | None = None
    high: float | None = None
    p: float | None = None
    p_opposite: float | None = None
    commits: tuple[str, ...] = ()
    while_looking: bool = False


def judge_papers(papers: list[PaperClaims], *, evidence: Evidence, only: list[str]) -> list[ClaimResult]:
    """Every chosen claim with its verdict, paper by paper; p is adjusted over all orders of the paper, chosen or not.

    Raises UsageError where a claim rests on runs by versions of the program that compute differently.
    """
    results = []
    for paper in papers:
        tests = {id: _test_runs(claim, evidence) for id, claim in paper.claims.items()}
        altered = {id for id, claim in paper.claims.items() if evidence.is_altered(claim)}
        family = _list_orders(paper, tests, altered)
        adjusted = dict(zip(family, _adjust([tests[id] for id in family]), strict=True))
        for id, claim in paper.choose(only).items():
            p, p_opposite = adjusted.get(id) or (tests[id].p, tests[id].p_opposite)
            results.append(_describe(id, claim, tests[id], p, p_opposite, paper=paper, is_altered=id in altered))
    return results


def _list_orders(paper: PaperClaims, tests: dict[str, _Test], altered: set[str]) -> list[str]:
    """The family that Holm's adjustment is over: each order that was run, once."""
    orders = (id for id, claim in paper.claims.items() if claim.kind == "order" and claim.same_as is None)
    return [id for id in orders if tests[id].p is not None and id not in altered]


def _adjust(tests: list[_Test]) -> list[tuple[float, float]]:
    """Adjusted over the family: for each order, and for its opposite."""
    sides = [[test.p for test in tests], [test.p_opposite for test in tests]]
    return list(zip(*(adjust_holm([p for p in side if p is not None]) for side in sides), strict=True))


def _test_runs(claim: Claim, evidence: Evidence) -> _Test:
    commits = tuple(list_commits(evidence.find_claim_runs(claim)))
    looked = evidence.was_looked_at(claim)
    return replace(_test_claim(claim, evidence, while_looking=looked), commits=commits, while_looking=looked)


def _test_claim(claim: Claim, evidence: Evidence, *, while_looking: bool) -> _Test:
    found = {subject: evidence.measure(claim, subject) for subject in claim.subjects}
    if claim.is_about_embeddings:  # embeddings of one pair of runs: only the seeds that have all of them
        common = set.intersection(*(set(values) for values in found.values()))
        found = {subject: {seed: values[seed] for seed in sorted(common)} for subject, values in found.items()}
    if not all(found.values()):
        return _Test(found={})
    estimates = [
        estimate_sum(
            contrast,
            {name: found[name] for name in contrast},
            paired=claim.is_about_embeddings,
            sampling_error=evidence.measure_sampling_error(claim, contrast),
            while_looking=while_looking,
        )
        for contrast in claim.contrasts
    ]
    known = [_Known(each.value, each.error) for each in estimates if each.error is not None]
    if claim.kind == "check" or len(known) < len(estimates):
        return _Test(found, estimate=estimates[0].value if len(estimates) == 1 else None)
    if claim.published is None or claim.bound is None:
        return _test_order(found, known)
    return _test_value(found, known[0], published=claim.published, margin=claim.bound)


def _test_order(found: dict[str, BySeed], links: list[_Known]) -> _Test:
    """A chain holds when each link does (the largest p), and fails when any does (the smallest, by Bonferroni)."""
    tests = [check_order(link.value, error=link.error) for link in links]
    p, opposite = max(test.p_below for test in tests), min(1.0, len(tests) * min(test.p_above for test in tests))
    if len(tests) > 1:
        return _Test(found, p=p, p_opposite=opposite)
    return _Test(found, links[0].value, tests[0].low, tests[0].high, p, opposite)


def _test_value(found: dict[str, BySeed], known: _Known, *, published: float, margin: float) -> _Test:
    test = check_value(known.value, published=published, margin=margin, error=known.error)
    return _Test(found, known.value, test.low, test.high, test.p_within, test.p_outside)


def _describe(
    id: str,
    claim: Claim,
    test: _Test,
    p: float | None,
    p_opposite: float | None,
    *,
    paper: PaperClaims,
    is_altered: bool,
) -> ClaimResult:
    return ClaimResult(
        paper=paper.name,
        id=id,
        kind=claim.kind,
        source=claim.source,
        says=claim.says,
        measure=claim.measure,
        subjects=claim.subjects,
        published=claim.published,
        margin=claim.bound if claim.published is not None else None,
        margin_source=_find_margin_source(claim, paper),
        relation=claim.relation,
        contrast=claim.difference,
        chance=claim.chance,
        measured=[spread for values in test.found.values() if (spread := measure_spread(values.values()))],
        estimate=test.estimate,
        low=test.low,
        high=test.high,
        p=p,
        p_opposite=p_opposite,
        verdict=_reach_verdict(claim, test, p, p_opposite, is_altered=is_altered),
        same_as=claim.same_as,
        notes=claim.notes,
        commits=list(test.commits) if test.found else [],
        while_looking=test.while_looking,
    )


def _find_margin_source(claim: Claim, paper: PaperClaims) -> str:
    if claim.published is None:
        return ""
    if claim.difference is None:
        return " ".join(paper.tolerances.split())
    return OF_DIFFERENCE if claim.margin is None else claim.notes or OF_DIFFERENCE


def _reach_verdict(
    claim: Claim, test: _Test, p: float | None, p_opposite: float | None, *, is_altered: bool
) -> Verdict:
    if not test.found:
        return "not run"
    if is_altered:
        return "altered"
    if claim.kind == "check":
        return "holds" if _is_exact(claim, test) else "does not hold"
    if p is not None and p < 1 - CONFIDENCE:
        return "reproduced"
    return "contradicted" if p_opposite is not None and p_opposite < 1 - CONFIDENCE else "inconclusive"


def _is_exact(claim: Claim, test: _Test) -> bool:
    """Counts do not vary with the seed: the printed figure, or the order, holds or it does not."""
    means = {name: sum(values.values()) / len(values) for name, values in test.found.items()}
    sums = [sum(weight * means[name] for name, weight in contrast.items()) for contrast in claim.contrasts]
    if claim.published is None or claim.bound is None:
        return all(value < 0 for value in sums)
    return abs(sums[0] - claim.published) <= claim.bound
