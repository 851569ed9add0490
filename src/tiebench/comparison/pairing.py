"""Arms against the first of them: how far each stands from it, how sure that is, and what is decided.

Differences are those of nats per token, arm minus baseline, the natural logarithm of the ratio of perplexities;
`percent` says the same as a ratio. Arms with different vocabularies are compared in nats per byte of the same text.
"""

import logging
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from tiebench.comparison.bleu import (
    BleuCounts,
    BleuDifference,
    TranslationSummary,
    estimate_bleu,
    summarise_translations,
)
from tiebench.comparison.blocks import CutText
from tiebench.comparison.captions import (
    describe_checkpoints,
    describe_common,
    describe_method,
    describe_untying,
    describe_versions,
)
from tiebench.comparison.checks import check_comparable, find_common_seeds, find_split_names, has_other_vocabularies
from tiebench.comparison.contrast import Contrast
from tiebench.comparison.difference import (
    ArmMeans,
    TokenDecades,
    TokenNLL,
    Unit,
    estimate_differences,
    read_block_means,
)
from tiebench.comparison.excess import describe_excess, measure_excess
from tiebench.comparison.frequency import estimate_by_frequency
from tiebench.comparison.looking import FindLooks, recall_looks
from tiebench.comparison.planning import SeedPlan, plan_seeds
from tiebench.comparison.prices import Price, price_arms
from tiebench.comparison.seed_effects import describe_seeds
from tiebench.comparison.sequential import Decision
from tiebench.comparison.sources import SeedRule
from tiebench.comparison.spread import Spread, measure_spread
from tiebench.comparison.tuning_notes import describe_tuning
from tiebench.experiment import differences
from tiebench.experiment.block import Block
from tiebench.experiment.corpus_config import SPLITS
from tiebench.results.curve import CurvePoint
from tiebench.results.record import Parameters, Record
from tiebench.results.selection import Arms

logger = logging.getLogger(__name__)


class ArmSummary(Block):
    """One arm over the seeds compared. A split that was not scored is not in `perplexity`.

    `bits_per_byte` is that of the text as it was scored, `<unk>` included; `excess_nats` what stands above the loss of
    the text's own source per token, where that is known; `translation` is there where every run translates; `epochs`
    are those of the checkpoints.
    """

    arm: str
    parameters: Parameters
    perplexity: dict[str, Spread]
    bits_per_byte: dict[str, Spread] = {}
    excess_nats: dict[str, Spread] = {}
    translation: TranslationSummary | None = None
    epochs: tuple[float, ...] = ()


class Comparison(Block):
    """What a comparison found. `caption` holds what all arms share, `notes` what the figures mean.

    `prices` say what the arms with fewer parameters pay for each million saved, and `bleu` how far translations of the
    test split stand apart.
    """

    experiment: str
    baseline: str
    unit: Unit
    seeds: dict[str, list[int]]
    left_out: dict[str, list[int]]
    arms: list[ArmSummary]
    contrasts: list[Contrast]
    prices: list[Price] = []
    bleu: list[BleuDifference] = []
    caption: str
    notes: list[str]


def compare_arms(
    records_by_arm: Arms,
    *,
    token_nll: TokenNLL,
    curve: Callable[[Record], Sequence[CurvePoint]] = lambda record: (),
    decades: TokenDecades = lambda record: None,
    bleu_counts: BleuCounts = lambda record: None,
    seed_rule: SeedRule = "welch",
    margin: float | None = None,
    allow: Sequence[str] = (),
    others: Iterable[Record] = (),
    decision: Decision | None = None,
    looks: FindLooks = lambda experiment, arms: None,
) -> Comparison:
    """Compare every arm with the first, over all the seeds that each of them has.

    `token_nll(record)` gives the nats of the test tokens, shape (tokens,), or None; `curve(record)` the learning curve,
    for what the other rule for the checkpoint would have scored; `decades(record)` how often each target of the test
    split stands in training, for who gains (`comparison.frequency`); `bleu_counts(record)` what BLEU counts in each
    sentence (`comparison.bleu`). `seed_rule` is chosen before looking: `paired`
    takes only the seeds that all arms share. `margin`, in percent, asks for an equivalence; `allow` are paths in which
    arms may differ undeclared; `others` are records that may tell how much seeds vary where an arm has one run.
    `decision` is what came of adding seeds to two arms while looking; where it is not given, `looks` tells whether
    these runs came about in that way (`comparison.looking.recall_looks`).

    Raises UsageError, naming the field, when the runs may not be compared.
    """
    check_comparable(records_by_arm, allow=allow)
    arms = {arm: sorted(records, key=lambda record: record.seed) for arm, records in records_by_arm.items()}
    if seed_rule == "paired":
        common = find_common_seeds(arms)
        arms = {arm: [record for record in records if record.seed in common] for arm, records in arms.items()}
    seeds = {arm: [record.seed for record in records] for arm, records in arms.items()}
    looking: list[str] = []
    if decision is None:
        decision, looking = recall_looks(arms, find=looks, margin=margin, allow=allow, is_paired=seed_rule == "paired")
    left_out = {arm: _left_out(records, seeds[arm]) for arm, records in records_by_arm.items()}
    left_out = {arm: missing for arm, missing in left_out.items() if missing}
    everything = [record for records in arms.values() for record in records]
    unit: Unit = "byte" if has_other_vocabularies(everything) else "token"
    has_text = unit == "token" and "test" in find_split_names(everything)
    text, arm_means = None, dict.fromkeys(arms)
    if has_text:
        text, arm_means = read_block_means(arms, token_nll=token_nll, decades=decades)
        lacking = [arm for arm, means in arm_means.items() if means is None]
        if text is not None and lacking:
            logger.warning(
                "not every run of %s has the nats of its test tokens (test-nll.npy) any more: "
                "the comparison is without what other text would change",
                " and ".join(lacking),
            )
    contrasts = _contrast(
        arms,
        unit=unit,
        text=text,
        arm_means=arm_means,
        seed_rule=seed_rule,
        margin=margin,
        others=others,
        decision=decision,
    )
    if text is not None:
        contrasts = [_split_by_frequency(contrast, text=text, arm_means=arm_means) for contrast in contrasts]
    headlines = {contrast.arm: contrast.headline for contrast in contrasts if contrast.headline}
    notes = describe_tuning(arms)
    notes += describe_method(
        headlines,
        left_out=left_out,
        train_is_running=not has_train_pass(everything),
        while_looking=decision is not None,
    )
    notes += describe_seeds(arms)
    return Comparison(
        experiment=" and ".join(dict.fromkeys(record.experiment for record in everything)),
        baseline=next(iter(arms)),
        unit=unit,
        seeds=seeds,
        left_out=left_out,
        arms=summarise_arms(arms),
        contrasts=contrasts,
        prices=price_arms(contrasts, parameters={arm: records[0].parameters for arm, records in arms.items()}),
        bleu=estimate_bleu(arms, counts=bleu_counts, seed_rule=seed_rule),
        caption=describe_common(arms, per_byte=unit == "byte", allow=allow),
        notes=[
            *(describe_excess(arms) if unit == "token" else []),
            *notes,
            *looking,
            *describe_checkpoints(arms, curve=curve),
            *describe_untying(arms),
            *describe_versions(everything),
        ],
    )


def difference_table(specs: Mapping[str, Mapping[str, Any]]) -> list[tuple[str, dict[str, Any]]]:
    """In what the specs of arms differ: a row (dotted path, {arm: value}) per leaf, None where an arm lacks it."""
    return differences.find_differences(specs, spell_out=True)


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


def _reading_order(record: Record) -> tuple[bool, bool, str, int]:
    tie = record.spec.tie.type
    return record.arm != "untied", tie != "untied", record.arm, record.seed


def _summarise(arm: str, records: list[Record], *, full_pass: bool) -> ArmSummary:
    spreads = {split: measure_spread(_perplexity(record, split) for record in records) for split in ("valid", "test")}
    if full_pass:
        spreads["train"] = measure_spread(_perplexity(record, "train") for record in records)
    else:
        spreads["train"] = measure_spread(record.training_perplexity for record in records)
    found = {split: spread for split in SPLITS if (spread := spreads[split]) is not None}
    splits = [split for split in find_split_names(records) if split != "train"]
    excess = {split: measure_spread(measure_excess(record, split) for record in records) for split in splits}
    per_byte = {split: measure_spread(_bits_per_byte(record, split) for record in records) for split in splits}
    return ArmSummary(
        arm=arm,
        parameters=records[0].parameters,
        perplexity=found,
        bits_per_byte={split: spread for split, spread in per_byte.items() if spread is not None},
        excess_nats={split: spread for split, spread in excess.items() if spread is not None},
        translation=summarise_translations(records),
        epochs=tuple(record.checkpoint.epoch for record in records),
    )


def _contrast(
    arms: Arms,
    *,
    unit: Unit,
    text: CutText | None,
    arm_means: ArmMeans,
    seed_rule: SeedRule,
    margin: float | None,
    others: Iterable[Record],
    decision: Decision | None,
) -> list[Contrast]:
    baseline, *names = arms
    others = list(others)
    splits = find_split_names(record for records in arms.values() for record in records)
    by_split = {
        split: estimate_differences(
            arms,
            split=split,
            unit=unit,
            text=text,
            arm_means=arm_means,
            seed_rule=seed_rule,
            others=others,
            margin=margin,
        )
        for split in splits
        if split != "train"
    }
    reference = arms[baseline][0].parameters.total
    contrasts = []
    for arm in names:
        contrast = Contrast(
            arm=arm,
            baseline=baseline,
            parameters_percent=(arms[arm][0].parameters.total / reference - 1) * 100,
            differences={split: found[arm] for split, found in by_split.items()},
            margin=margin,
            decision=decision,
        )
        contrasts.append(contrast.model_copy(update={"plan": _plan(contrast)}))
    return contrasts


def _split_by_frequency(contrast: Contrast, *, text: CutText, arm_means: ArmMeans) -> Contrast:
    """The contrast with its bins, where the nats of both arms and the frequencies are known."""
    ours, baseline, headline = arm_means[contrast.arm], arm_means[contrast.baseline], contrast.headline
    if ours is None or baseline is None or headline is None:
        return contrast
    bins = estimate_by_frequency(ours, baseline, text=text, seed_rule=headline.seed_rule)
    return contrast.model_copy(update={"by_frequency": bins})


def _plan(contrast: Contrast) -> SeedPlan | None:
    """How many more seeds would settle an undecided contrast on this text; None where nothing is known of seeds."""
    found = contrast.headline
    if contrast.outcome != "undecided" or found is None or found.deviation is None:
        return None
    margin = None if contrast.margin is None else found.in_nats(contrast.margin)
    return plan_seeds(found.ln_ratio, deviation=found.deviation, num_seeds=min(found.num_seeds), margin=margin)


def _perplexity(record: Record, split: str) -> float | None:
    evaluation = record.evaluations.get(split)
    return evaluation.perplexity if evaluation else None


def _bits_per_byte(record: Record, split: str) -> float | None:
    evaluation = record.evaluations[split]
    return evaluation.nll / math.log(2) / evaluation.bytes if evaluation.bytes else None


def _left_out(records: list[Record], seeds: list[int]) -> list[int]:
    return sorted(record.seed for record in records if record.seed not in seeds)
