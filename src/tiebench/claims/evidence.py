"""What claims rest on: the finished runs and measurements of the experiments that they name."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from tiebench.claims.claim import Claim
from tiebench.claims.contrasts import SignedArms
from tiebench.claims.papers import PaperClaims
from tiebench.comparison.checks import check_numerics
from tiebench.experiment.loading import Experiment, load_experiment
from tiebench.experiment.run_spec import RunSpec
from tiebench.results.curve import CurvePoint
from tiebench.results.measurements import Measurement, is_current, name_sampling_error, read_measurements
from tiebench.results.record import RECORD_FILE, Record
from tiebench.results.store import Store

BySeed = dict[int, float]


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
    experiments: dict[str, Experiment] = field(default_factory=dict)

    def read(self, place: str, *, is_study: bool = False) -> tuple[list[Record], list[Measurement]]:
        """The records and the measurements of an experiment (by the name that claims use) or of a study."""
        if place not in self.kept:
            folder = self.store.root / (place if is_study else self._find_experiment(place).name)
            files = sorted(folder.glob(f"*/seed-*/{RECORD_FILE}"))
            records = self.store.read_all(file.parent for file in files)
            records = [record for record in records if self._wants(record.seed)]
            measurements = [measurement for measurement in read_measurements(folder) if self._wants(measurement.seed)]
            current = [measurement for measurement in measurements if is_current(measurement, records)]
            self.kept[place] = (records, current)
        return self.kept[place]

    def measure(self, claim: Claim, subject: str) -> BySeed:
        """Seed to figure, for the seeds that have one."""
        place, name = claim.locate(subject)
        if place is None:
            return {}
        if claim.measure == "overfitting":
            return self._measure_overfitting(claim, place, name)
        if claim.measure in _RECORD_MEASURES:
            read = _RECORD_MEASURES[claim.measure]
            found = {record.seed: read(record) for record in self.read(place)[0] if record.arm == name}
            return {seed: value for seed, value in found.items() if value is not None}
        return {found.seed: found.value for found in self._find_measurements(claim) if found.of == subject}

    def measure_sampling_error(self, claim: Claim, contrast: SignedArms) -> float | None:
        """The standard error of a sum that words (or pairs of words) other than these would give; the root of its mean
        square over the seeds. None where it was not measured."""
        first, *others = [name for name, weight in contrast.items() if weight]
        if not claim.is_about_embeddings or len(others) > 1 or sum(contrast.values()) not in (0, 1):
            return None
        fact = name_sampling_error(*others)
        errors = [found.facts.get(fact) for found in self._find_measurements(claim) if found.of == first]
        known = [float(error) for error in errors if error is not None]
        return math.sqrt(math.fsum(error**2 for error in known) / len(known)) if known else None

    def is_altered(self, claim: Claim) -> bool:
        """Whether an override changed the recipe, or a run of another recipe lies where the claim's should."""
        places = claim.needs.items()
        return any(self._find_experiment(place).altered or self._find_others(place, arms) for place, arms in places)

    def count_others(self) -> int:
        """How many of the finished runs that the plans name have another recipe than is asked for."""
        return sum(len(self._find_others(place, plan.arms)) for place, plan in self.plans.items())

    def find_claim_runs(self, claim: Claim) -> list[Record]:
        """The finished runs of the arms that a claim is about. Raises UsageError where they are by versions of the
        program that compute differently: their figures are none of one experiment."""
        runs = [run for place, arms in claim.needs.items() for arm in arms for run in self._find_runs(place, arm)]
        check_numerics({f"{run.experiment}/{run.arm}, seed {run.seed}": run for run in runs})
        return runs

    def _find_others(self, place: str, arms: Sequence[str]) -> list[Record]:
        experiment = self._find_experiment(place)
        records = [record for record in self.read(place)[0] if record.arm in arms]
        return [record for record in records if not _is_as_planned(record, experiment)]

    def _measure_overfitting(self, claim: Claim, place: str, arm: str) -> BySeed:
        """ln of the validation perplexity minus ln of the running train perplexity, in nats per token, at the last
        epoch that every run of the claim's arms has in its curve: more steps overfit more."""
        curves = {
            (each, name): {run.seed: _read_gaps(self.store.curve(run)) for run in self._find_runs(each, name)}
            for each, arms in claim.needs.items()
            for name in arms
        }
        epochs = [set(gaps) for by_seed in curves.values() for gaps in by_seed.values()]
        common = set.intersection(*epochs) if epochs else set()
        if not common or not all(curves.values()):
            return {}
        return {seed: gaps[max(common)] for seed, gaps in curves[place, arm].items()}

    def _find_runs(self, place: str, arm: str) -> list[Record]:
        return [record for record in self.read(place)[0] if record.arm == arm]

    def _find_measurements(self, claim: Claim) -> list[Measurement]:
        place, _ = claim.locate(claim.subjects[0])
        if place is None:
            return []
        arms = claim.arms if claim.is_about_embeddings else []
        found = self.read(place, is_study=not claim.experiment)[1]
        return [each for each in found if each.measure == claim.measure and each.is_about(arms)]

    def _find_experiment(self, name: str) -> Experiment:
        if name in self.plans:
            return self.plans[name].experiment
        if name not in self.experiments:
            self.experiments[name] = load_experiment(name)
        return self.experiments[name]

    def _wants(self, seed: int) -> bool:
        return not self.seeds or seed in self.seeds


def plan_papers(
    papers: list[PaperClaims], *, only: list[str], seeds: list[int], overrides: list[str]
) -> dict[str, ClaimRuns]:
    """Experiment name to what the chosen claims need of it. Raises UsageError for an unknown experiment or arm."""
    arms: dict[str, dict[str, None]] = {}
    for paper in papers:
        for claim in paper.choose(only).values():
            for place, names in claim.needs.items():
                arms.setdefault(place, {}).update(dict.fromkeys(names))
    plans = {}
    for name, chosen in arms.items():
        experiment = load_experiment(name, overrides=overrides)
        experiment.list_runs(arms=list(chosen))
        plans[name] = ClaimRuns(experiment, tuple(chosen), tuple(seeds))
    return plans


def _is_as_planned(record: Record, experiment: Experiment) -> bool:
    if record.arm not in experiment.arms or record.seed in experiment.tuning_seeds:
        return False
    return experiment.list_runs(arms=[record.arm], seeds=[record.seed])[0].signature == record.signature


def _read_gaps(curve: list[CurvePoint]) -> dict[float, float]:
    """Epoch to ln validation perplexity minus the training nats per token of the same epoch."""
    return {
        point.epoch: math.log(point.valid_perplexity) - point.train_nll_per_token
        for point in curve
        if point.train_nll_per_token is not None
    }


def _read_perplexity(split: str) -> Callable[[Record], float | None]:
    return lambda record: record.evaluations[split].perplexity if split in record.evaluations else None


def _read_train_perplexity(record: Record) -> float | None:
    """A full pass with the scored checkpoint where there was one, else the running perplexity."""
    return _read_perplexity("train")(record) or record.training_perplexity


_RECORD_MEASURES: dict[str, Callable[[Record], float | None]] = {
    "test perplexity": _read_perplexity("test"),
    "valid perplexity": _read_perplexity("valid"),
    "train perplexity": _read_train_perplexity,
    "running train perplexity": lambda record: record.training_perplexity,
    "ln test perplexity": lambda record: (
        record.evaluations["test"].nll_per_token if "test" in record.evaluations else None
    ),
    "test bleu": lambda record: record.translation.bleu if record.translation else None,
    "parameters": lambda record: float(record.parameters.total),
}
