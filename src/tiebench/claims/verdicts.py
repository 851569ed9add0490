"""Published beside measured: what the finished runs say about each claim, and the verdict.

A value is reproduced when the mean over seeds lies within the tolerance. A value outside it is "direction only" when
the paper's claims on the order of the same things hold. An order is reproduced when the means over the seeds that all
have are in it. Whatever was run with another spec than the claim names is "altered", and nothing else.
"""

import math
import operator
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Literal

from tiebench.claims.papers import Claim, PaperClaims
from tiebench.comparison.pairing import Spread, measure_spread
from tiebench.experiment.block import Block
from tiebench.experiment.loading import Experiment, load_experiment
from tiebench.experiment.run_spec import RunSpec
from tiebench.results.measurements import Measurement, is_current, read_measurements
from tiebench.results.record import RECORD_FILE, Record, read_record
from tiebench.results.store import Store

Verdict = Literal["reproduced", "direction only", "not reproduced", "not run", "altered"]
BySeed = dict[int, float]
ORDERS = {"<": operator.lt, ">": operator.gt}


class ClaimResult(Block):
    """One claim, judged. `measured` has a spread for each of the claim's subjects, or none where nothing was run.

    `difference` is measured minus published, or the first subject minus the second at equal seeds.
    """

    paper: str
    id: str
    source: str
    says: str
    measure: str
    subjects: list[str]
    published: float | None
    tolerance: float | None
    relation: str | None
    measured: list[Spread]
    difference: Spread | None
    verdict: Verdict
    notes: str


@dataclass(frozen=True)
class ClaimRuns:
    """What a claim needs of one experiment: its arms, at the seeds asked for (none: those of the file)."""

    experiment: Experiment
    arms: tuple[str, ...]
    seeds: tuple[int, ...] = ()

    @property
    def runs(self) -> list[RunSpec]:
        return self.experiment.list_runs(arms=list(self.arms), seeds=list(self.seeds))


@dataclass
class Evidence:
    """The finished runs and measurements of the experiments that claims name, read once each."""

    store: Store
    plans: dict[str, ClaimRuns]
    seeds: tuple[int, ...] = ()
    kept: dict[str, tuple[list[Record], list[Measurement]]] = field(default_factory=dict)

    def read(self, place: str) -> tuple[list[Record], list[Measurement]]:
        """The records and the measurements of an experiment (by the name that claims use) or of a study."""
        if place not in self.kept:
            plan = self.plans.get(place)
            folder = self.store.root / (plan.experiment.name if plan else place)
            records = [read_record(file.parent) for file in sorted(folder.glob(f"*/seed-*/{RECORD_FILE}"))]
            records = [record for record in records if self._wants(record.seed)]
            measurements = [measurement for measurement in read_measurements(folder) if self._wants(measurement.seed)]
            self.kept[place] = (
                records,
                [measurement for measurement in measurements if is_current(measurement, records)],
            )
        return self.kept[place]

    def measure(self, claim: Claim, subject: str) -> BySeed:
        """Seed to figure, for the seeds that have one."""
        if claim.place is None:
            return {}
        records, measurements = self.read(claim.place)
        if claim.measure in _RECORD_MEASURES:
            read = _RECORD_MEASURES[claim.measure]
            found = {record.seed: read(record) for record in records if record.arm == subject}
            return {seed: value for seed, value in found.items() if value is not None}
        arms, asked = claim.arms if claim.is_about_embeddings else [], (claim.measure, subject)
        fitting = [measurement for measurement in measurements if measurement.is_about(arms)]
        return {
            measurement.seed: measurement.value
            for measurement in fitting
            if (measurement.measure, measurement.of) == asked
        }

    def is_altered(self, claim: Claim) -> bool:
        """Whether anything was changed: by an override, or in a run that stands where the claim's should."""
        plan = self.plans.get(claim.experiment or "")
        if plan is None:
            return False
        records = [record for record in self.read(claim.experiment)[0] if record.arm in claim.arms]
        return bool(plan.experiment.altered) or any(not _is_as_planned(record, plan.experiment) for record in records)

    def _wants(self, seed: int) -> bool:
        return not self.seeds or seed in self.seeds


def plan_papers(
    papers: list[PaperClaims], *, only: list[str], seeds: list[int], overrides: list[str]
) -> dict[str, ClaimRuns]:
    """Experiment name to what the chosen claims need of it. Raises UsageError for one, or an arm, that is not there."""
    arms: dict[str, dict[str, None]] = {}
    for paper in papers:
        for claim in paper.choose(only).values():
            if claim.experiment is not None:
                arms.setdefault(claim.experiment, {}).update(dict.fromkeys(claim.arms))
    plans = {}
    for name, chosen in arms.items():
        experiment = load_experiment(name, overrides=overrides)
        experiment.list_runs(arms=list(chosen))
        plans[name] = ClaimRuns(experiment, tuple(chosen), tuple(seeds))
    return plans


def judge_papers(papers: list[PaperClaims], *, evidence: Evidence, only: list[str]) -> list[ClaimResult]:
    """Every chosen claim with its verdict, paper by paper."""
    return [
        judge_claim(id, claim, paper=paper, evidence=evidence)
        for paper in papers
        for id, claim in paper.choose(only).items()
    ]


def judge_claim(id: str, claim: Claim, *, paper: PaperClaims, evidence: Evidence) -> ClaimResult:
    """One claim with its verdict; the paper's other claims are asked for the direction."""
    found = [evidence.measure(claim, subject) for subject in claim.subjects]
    common = sorted(set.intersection(*map(set, found)))
    spreads = [measure_spread(values[seed] for seed in common) for values in found] if common else []
    return ClaimResult(
        paper=paper.name,
        id=id,
        source=claim.source,
        says=claim.says,
        measure=claim.measure,
        subjects=claim.subjects,
        published=claim.published,
        tolerance=claim.tolerance,
        relation=claim.relation,
        measured=spreads,
        difference=_find_difference(claim, found, common),
        verdict=_reach_verdict(claim, [spread.mean for spread in spreads], paper=paper, evidence=evidence),
        notes=claim.notes,
    )


def _reach_verdict(claim: Claim, means: list[float], *, paper: PaperClaims, evidence: Evidence) -> Verdict:
    if not means:
        return "not run"
    if evidence.is_altered(claim):
        return "altered"
    if claim.relation is not None:
        return _judge_order(claim, means)
    return _judge_value(claim, means[0], paper=paper, evidence=evidence)


def _judge_order(claim: Claim, means: list[float]) -> Verdict:
    pairs = zip(claim.signs, pairwise(means), strict=True)
    return "reproduced" if all(ORDERS[sign](*pair) for sign, pair in pairs) else "not reproduced"


def _judge_value(claim: Claim, mean: float, *, paper: PaperClaims, evidence: Evidence) -> Verdict:
    if abs(mean - claim.published) <= claim.tolerance:
        return "reproduced"
    verdicts = [
        judge_claim(id, other, paper=paper, evidence=evidence).verdict
        for id, other in paper.claims.items()
        if other.relation is not None
        and (other.place, other.measure) == (claim.place, claim.measure)
        and claim.subjects[0] in other.subjects
    ]
    judged = [verdict for verdict in verdicts if verdict != "not run"]
    return "direction only" if judged and set(judged) == {"reproduced"} else "not reproduced"


def _find_difference(claim: Claim, found: list[BySeed], common: list[int]) -> Spread | None:
    if claim.published is not None:
        return measure_spread(found[0][seed] - claim.published for seed in common)
    return measure_spread(found[0][seed] - found[1][seed] for seed in common) if len(found) == 2 else None


def _is_as_planned(record: Record, experiment: Experiment) -> bool:
    if record.arm not in experiment.arms:
        return False
    return experiment.list_runs(arms=[record.arm], seeds=[record.seed])[0].signature == record.signature


def _read_perplexity(split: str) -> Callable[[Record], float | None]:
    return lambda record: record.evaluations[split].perplexity if split in record.evaluations else None


def _read_train_perplexity(record: Record) -> float | None:
    """A full pass with the best checkpoint where there was one, else the running perplexity."""
    return _read_perplexity("train")(record) or record.training_perplexity


def _measure_overfitting(record: Record) -> float | None:
    """ln of the validation perplexity minus ln of the train perplexity, in nats per token."""
    train, valid = _read_train_perplexity(record), _read_perplexity("valid")(record)
    return math.log(valid / train) if train and valid else None


_RECORD_MEASURES: dict[str, Callable[[Record], float | None]] = {
    "test perplexity": _read_perplexity("test"),
    "valid perplexity": _read_perplexity("valid"),
    "train perplexity": _read_train_perplexity,
    "running train perplexity": lambda record: record.training_perplexity,
    "overfitting": _measure_overfitting,
    "parameters": lambda record: float(record.parameters.total),
}
