"""The bundled claims that finished runs already say something about."""

from collections.abc import Sequence

from tiebench.claims.evidence import Evidence, plan_papers
from tiebench.claims.papers import ALL, PaperClaims, load_papers
from tiebench.claims.verdicts import ClaimResult, judge_papers
from tiebench.results.store import Store


def judge_finished(store: Store, *, experiments: Sequence[str] = ()) -> tuple[list[ClaimResult], list[PaperClaims]]:
    """The claims of every paper of which at least one claim was run, judged by what lies in the store; and these
    papers.

    With `experiments`, only claims that rest on those and on no others.
    """
    papers = load_papers(ALL)
    plans = plan_papers(papers, only=[], seeds=[], overrides=[])
    found = judge_papers(papers, evidence=Evidence(store, plans), only=[])
    if experiments:
        needs = {
            (paper.name, id): {plans[place].experiment.name for place in claim.needs if place in plans}
            for paper in papers
            for id, claim in paper.claims.items()
        }
        wanted = set(experiments)
        found = [each for each in found if (need := needs[each.paper, each.id]) and need <= wanted]
    run = {each.paper for each in found if each.verdict != "not run"}
    return [each for each in found if each.paper in run], [paper for paper in papers if paper.name in run]
