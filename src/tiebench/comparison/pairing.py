"""Arms paired by seed: how far each stands from the first, and how sure that is.

Differences are those of the natural logarithm of the perplexity, arm minus baseline, which is a difference of nats
per token; `percent` says the same as a ratio of perplexities.
"""

import math
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, Literal

from pydantic import computed_field

from tiebench.comparison.captions import describe_common, describe_contrast, describe_method
from tiebench.comparison.checks import check_comparable, find_common_seeds, find_split_names
from tiebench.comparison.statistics import (
    Estimate,
    adjust_holm,
    estimate_over_seeds,
    estimate_over_text,
    sample_deviation,
)
from tiebench.experiment.block import Block
from tiebench.experiment.differences import find_differences
from tiebench.results.record import SPLITS, Parameters, Record

if TYPE_CHECKING:
    import numpy as np

TokenNLL = Callable[[Record], "np.ndarray | None"]
Arms = dict[str, list[Record]]


class Spread(Block):
    """A mean over seeds and the sample standard deviation (None with one seed)."""

    mean: float
    deviation: float | None
    num_seeds: int


class Difference(Block):
    """ln perplexity of the arm minus that of the baseline on one split; `low` to `high` is the 95 % interval.

    `source: seeds` is a paired t over seeds, `source: text` a block bootstrap over the tokens of one run, and
    `source: none` has neither interval nor p. `adjusted_p` is Holm's, over the arms compared with the baseline.
    """

    split: str
    ln_ratio: float
    low: float | None = None
    high: float | None = None
    p: float | None = None
    adjusted_p: float | None = None
    source: Literal["seeds", "text", "none"]

    @computed_field
    def percent(self) -> float:
        """By how many percent the arm's perplexity is higher."""
        return math.expm1(self.ln_ratio) * 100

    @computed_field
    def percent_interval(self) -> tuple[float, float] | None:
        """The 95 % interval of `percent`."""
        if self.low is None or self.high is None:
            return None
        return math.expm1(self.low) * 100, math.expm1(self.high) * 100


class ArmSummary(Block):
    """One arm over the seeds compared. A split that was not scored is not in `perplexity`."""

    arm: str
    parameters: Parameters
    perplexity: dict[str, Spread]


class Contrast(Block):
    """One arm against the baseline. The headline is the test split, or validation where no test was scored."""

    arm: str
    baseline: str
    num_seeds: int
    parameters_percent: float
    differences: dict[str, Difference]

    @property
    def headline(self) -> Difference | None:
        return self.differences.get("test") or self.differences.get("valid")

    @computed_field
    def sentence(self) -> str:
        """The finding in words."""
        return describe_contrast(self)


class Comparison(Block):
    """What a comparison found. `caption` holds what all arms share, `notes` what the figures mean."""

    experiment: str
    baseline: str
    seeds: list[int]
    left_out: dict[str, list[int]]
    arms: list[ArmSummary]
    contrasts: list[Contrast]
    caption: str
    notes: list[str]


def compare_arms(records_by_arm: Arms, *, token_nll: TokenNLL) -> Comparison:
    """Compare every arm with the first, over the seeds that all of them have.

    `token_nll(record)` gives the nats of the test tokens, shape (tokens,), or None; it is asked only when there is
    one seed. Raises UsageError, naming the field, when the runs may not be compared.
    """
    check_comparable(records_by_arm)
    seeds = find_common_seeds(records_by_arm)
    arms = {arm: _with_seeds(records, seeds) for arm, records in records_by_arm.items()}
    baseline, *others = arms
    everything = [record for records in arms.values() for record in records]
    splits = [split for split in find_split_names(everything) if split != "train"]
    by_split = {split: _find_differences(arms, split, token_nll) for split in splits}
    contrasts = [_contrast(arms, arm, {split: found[arm] for split, found in by_split.items()}) for arm in others]
    left_out = {arm: _left_out(records, seeds) for arm, records in records_by_arm.items()}
    return Comparison(
        experiment=" and ".join(dict.fromkeys(record.experiment for record in everything)),
        baseline=baseline,
        seeds=seeds,
        left_out={arm: missing for arm, missing in left_out.items() if missing},
        arms=summarise_arms(arms),
        contrasts=contrasts,
        caption=describe_common([records[0] for records in arms.values()], seeds=seeds),
        notes=describe_method(contrasts, left_out=left_out, train_is_running=not has_train_pass(everything)),
    )


def difference_table(specs: Mapping[str, Mapping[str, Any]]) -> list[tuple[str, dict[str, Any]]]:
    """In what the specs of arms differ: a row (dotted path, {arm: value}) per leaf, None where an arm lacks it."""
    return find_differences(specs, spell_out=True)


def summarise_arms(records_by_arm: Arms) -> list[ArmSummary]:
    """Parameters and mean perplexities of each arm, over all its records.

    `train` is a full pass where every record of every arm has one, else the running perplexity of training.
    """
    full_pass = has_train_pass(record for records in records_by_arm.values() for record in records)
    return [_summarise(arm, records, full_pass=full_pass) for arm, records in records_by_arm.items()]


def group_by_arm(records: Iterable[Record]) -> Arms:
    """Records by arm: the arm that a comparison starts from, an untied one, first; the others by name."""
    arms: Arms = {}
    for record in sorted(records, key=_reading_order):
        arms.setdefault(record.arm, []).append(record)
    return arms


def has_train_pass(records: Iterable[Record]) -> bool:
    """Whether every record was scored on the whole training split."""
    return "train" in find_split_names(records)


def measure_spread(values: Iterable[float | None]) -> Spread | None:
    """The mean over seeds; None when a seed has no value, for a mean over fewer seeds would be another figure."""
    found = list(values)
    if not found or None in found:
        return None
    deviation = sample_deviation(found) if len(found) > 1 else None
    return Spread(mean=math.fsum(found) / len(found), deviation=deviation, num_seeds=len(found))


def _reading_order(record: Record) -> tuple[bool, bool, str, int]:
    tie = record.spec.tie.type
    return record.arm != "untied", tie != "untied", record.arm, record.seed


def _summarise(arm: str, records: list[Record], *, full_pass: bool) -> ArmSummary:
    spreads = {split: measure_spread(_perplexity(record, split) for record in records) for split in ("valid", "test")}
    if full_pass:
        spreads["train"] = measure_spread(_perplexity(record, "train") for record in records)
    else:
        spreads["train"] = measure_spread(record.training_perplexity for record in records)
    found = {split: spreads[split] for split in SPLITS if spreads[split] is not None}
    return ArmSummary(arm=arm, parameters=records[0].parameters, perplexity=found)


def _contrast(arms: Arms, arm: str, differences: dict[str, Difference]) -> Contrast:
    baseline = next(iter(arms))
    total, reference = (arms[name][0].parameters.total for name in (arm, baseline))
    return Contrast(
        arm=arm,
        baseline=baseline,
        num_seeds=len(arms[arm]),
        parameters_percent=(total / reference - 1) * 100,
        differences=differences,
    )


def _find_differences(arms: Arms, split: str, token_nll: TokenNLL) -> dict[str, Difference]:
    """Every arm but the first against the first, with p values adjusted over these arms."""
    baseline, *others = arms.values()
    found = [_difference(records, baseline, split, token_nll) for records in others]
    p_values = [difference.p for difference in found if difference.p is not None]
    adjusted = iter(adjust_holm(p_values))
    complete = [
        difference if difference.p is None else difference.model_copy(update={"adjusted_p": next(adjusted)})
        for difference in found
    ]
    return dict(zip(list(arms)[1:], complete, strict=True))


def _difference(records: list[Record], baseline: list[Record], split: str, token_nll: TokenNLL) -> Difference:
    pairs = list(zip(records, baseline, strict=True))
    gaps = [ours.evaluations[split].nll_per_token - theirs.evaluations[split].nll_per_token for ours, theirs in pairs]
    if len(gaps) > 1:
        return _as_difference(split, estimate_over_seeds(gaps), source="seeds")
    nats = [token_nll(record) for record in pairs[0]] if split == "test" else [None]
    if any(found is None for found in nats):
        return Difference(split=split, ln_ratio=gaps[0], source="none")
    by_token = nats[0].astype("float64") - nats[1]
    return _as_difference(split, estimate_over_text(gaps[0], differences_by_token=by_token), source="text")


def _as_difference(split: str, estimate: Estimate, *, source: Literal["seeds", "text"]) -> Difference:
    low, high = estimate.low, estimate.high
    return Difference(split=split, ln_ratio=estimate.difference, low=low, high=high, p=estimate.p, source=source)


def _perplexity(record: Record, split: str) -> float | None:
    evaluation = record.evaluations.get(split)
    return evaluation.perplexity if evaluation else None


def _with_seeds(records: list[Record], seeds: list[int]) -> list[Record]:
    return sorted((record for record in records if record.seed in seeds), key=lambda record: record.seed)


def _left_out(records: list[Record], seeds: list[int]) -> list[int]:
    return sorted(record.seed for record in records if record.seed not in seeds)
