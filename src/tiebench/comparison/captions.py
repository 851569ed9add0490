"""A comparison in plain words: what all arms share, what the intervals mean, and what a reader should know beside."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from tiebench.comparison.checks import find_allowed_differences
from tiebench.experiment.corpus_config import SPLITS
from tiebench.experiment.differences import find_differences
from tiebench.experiment.embedding_config import UntiedLateConfig
from tiebench.results.curve import CurvePoint
from tiebench.results.record import Record

if TYPE_CHECKING:
    from tiebench.comparison.difference import Difference

_SCORED = {"best": "best", "last": "last", "both": "best"}
_SPLIT_WORDS = {"valid": "validation", "test": "test"}
_RULE_NAMES = {
    "welch": "Welch's t over seeds",
    "pooled": "a t over seeds with one variance for both arms",
    "paired": "a paired t over seeds",
}


def describe_common(arms: Mapping[str, Sequence[Record]], *, per_byte: bool = False, allow: Sequence[str] = ()) -> str:
    """What all arms share: corpus, vocabulary, architecture, budget and seeds. What differs is left out, or told where
    it is more than the arms declare: other devices, other vocabularies, and the paths that `allow` covers.
    """
    records = [found[0] for found in arms.values()]
    first = records[0].spec.model_dump(mode="json")
    specs = {str(place): record.spec.model_dump(mode="json") for place, record in enumerate(records)}
    differing = [path for path, _ in find_differences(specs)]
    architecture, training = (_shared_options(first, name, differing) for name in ("architecture", "training"))
    parts = [_corpus(records[0], per_byte=per_byte), _architecture(architecture), _training(training)]
    parts += [_seeds(arms), _devices(arms)]
    sentences = ["; ".join(part for part in parts if part)]
    if per_byte:
        vocabularies = ", ".join(f"{arm} {_vocabulary(found[0])}" for arm, found in arms.items())
        sentences.append(f"Vocabularies differ ({vocabularies}): compared on bits per byte of the same text")
    if across := find_allowed_differences(records, allow=allow):
        sentences.append(f"Compared across {', '.join(across)}, which the arms do not declare (--allow)")
    return ". ".join(sentences) + "."


def describe_method(
    headlines: Mapping[str, "Difference"],
    *,
    left_out: Mapping[str, list[int]],
    train_is_running: bool,
    while_looking: bool = False,
) -> list[str]:
    """What the intervals and p values mean, what each source gives by itself, and which runs were left out.

    `while_looking` says that seeds were added until it was decided, so that p and the interval are of two kinds.
    """
    notes = list(dict.fromkeys(_describe_interval(headline, while_looking) for headline in headlines.values()))
    if while_looking:
        notes.append(
            "p and the decision hold however often one looks, for other seeds on this text; the intervals in the table "
            "hold for a single look."
        )
    notes += _describe_sources({arm: headline for arm, headline in headlines.items() if headline.covers})
    notes += _doubt_two_seeds({arm: headline for arm, headline in headlines.items() if _is_wider_alone(headline)})
    if sum(headline.p is not None for headline in headlines.values()) > 1:
        has_margin = any(headline.p_within is not None for headline in headlines.values())
        what = "p and p within (that of the equivalence) are each" if has_margin else "p is"
        over = f"over the {len(headlines)} arms compared with the first (Holm)"
        notes.append(f"{what} adjusted {over}; intervals are not.")
    if any(headline.seed_rule == "welch" and len(set(headline.num_seeds)) > 1 for headline in headlines.values()):
        notes.append("Arms have unequal numbers of seeds: where an arm has very few, the interval is too narrow.")
    if train_is_running:
        notes.append("Train is the running perplexity over the epoch before the scored checkpoint, dropout included.")
    for arm, seeds in left_out.items():
        notes.append(f"Left out of {arm}, because not all arms have them: {_number_seeds(seeds)}.")
    return notes


def describe_versions(records: Sequence[Record]) -> list[str]:
    """A note where the runs compared were made by several versions of the program, or by one that was changed."""
    commits = list_commits(records)
    notes = []
    if len(commits) > 1:
        notes.append(f"These runs were made by {len(commits)} versions of the program: commits {', '.join(commits)}.")
    if changed := sum(bool(record.provenance.dirty) for record in records):
        notes.append(f"{changed} of {len(records)} runs were made with uncommitted changes.")
    return notes


def list_commits(records: Sequence[Record]) -> list[str]:
    """The versions of the program that made these runs, each by 12 hex digits; those that are known."""
    return sorted({record.provenance.commit[:12] for record in records if record.provenance.commit})


def describe_untying(arms: Mapping[str, Sequence[Record]]) -> list[str]:
    """A note on each arm that was untied while it was trained: how many parameters until when, and after."""
    notes = []
    for arm, records in arms.items():
        first, tie = records[0], records[0].spec.tie
        if isinstance(tie, UntiedLateConfig) and first.parameters_before:
            frozen = f", the {tie.freeze} embedding untrained from then on" if tie.freeze else ""
            notes.append(
                f"{arm}: {first.parameters_before.total:,} parameters until {tie.at:.0%} of training, "
                f"{first.parameters.total:,} after{frozen}."
            )
    return notes


def describe_checkpoints(
    arms: Mapping[str, Sequence[Record]], *, curve: Callable[[Record], Sequence[CurvePoint]]
) -> list[str]:
    """Validation perplexity at the best and at the last evaluation of the same runs, where these differ: what the other
    rule for the checkpoint would have scored. No note where a run has no learning curve.
    """
    best, last = {}, {}
    for arm, records in arms.items():
        curves = [[point.valid_perplexity for point in curve(record)] for record in records]
        if not all(curves):
            return []
        best[arm] = sum(min(points) for points in curves) / len(curves)
        last[arm] = sum(points[-1] for points in curves) / len(curves)
    if best == last:
        return []
    rules = sorted({_SCORED[record.spec.evaluation.checkpoint] for records in arms.values() for record in records})
    told = ", ".join(f"{arm} {last[arm]:.2f} and {best[arm]:.2f}" for arm in arms)
    return [
        f"The {' or the '.join(rules)} checkpoint was scored. Validation perplexity at the last and at the best "
        f"evaluation of the same runs: {told}.",
        *_describe_last(arms),
    ]


def _describe_last(arms: Mapping[str, Sequence[Record]]) -> list[str]:
    """What the last checkpoint gives on the test split, where every run was declared to score both."""
    found = {arm: [record.at_last.get("test") for record in records] for arm, records in arms.items()}
    nats = {arm: [each.nll_per_token for each in scored if each is not None] for arm, scored in found.items()}
    if any(len(nats[arm]) < len(scored) for arm, scored in found.items()):
        return []
    means = {arm: sum(values) / len(values) for arm, values in nats.items()}
    baseline, *names = means
    told = [f"{baseline} {math.exp(means[baseline]):.2f}"]
    told += [
        f"{arm} {math.exp(means[arm]):.2f} ({100 * math.expm1(means[arm] - means[baseline]):+.1f} %)" for arm in names
    ]
    return [f"Test perplexity at the last checkpoint, declared beside the best: {', '.join(told)}."]


def name_metric(difference: "Difference") -> str:
    """`test perplexity`, or `test bits per byte`."""
    return f"{_SPLIT_WORDS[difference.split]} {'perplexity' if difference.unit == 'token' else 'bits per byte'}"


def format_p(p: float) -> str:
    """`p = 0.31`, `p = 0.031`, or `p < 0.001`."""
    if p < 0.001:
        return "p < 0.001"
    return f"p = {p:.2f}" if p >= 0.1 else f"p = {p:.3f}"


def format_percent(percent: float) -> str:
    """An amount without its sign: one decimal, two where it is small."""
    return f"{abs(percent):.{1 if abs(percent) >= 0.1 else 2}f}"


def count_seeds(numbers: tuple[int, int]) -> str:
    """`1 seed`, `3 seeds`, `2 against 3 seeds`."""
    ours, baseline = numbers
    if ours != baseline:
        return f"{ours} against {baseline} seeds"
    return f"{ours} seed{'' if ours == 1 else 's'}"


def _describe_interval(difference: "Difference", while_looking: bool) -> str:
    figures = "Intervals (95 %)" if while_looking else "Intervals (95 %) and p"
    rule = _RULE_NAMES[difference.seed_rule]
    if difference.num_borrowed:
        rule += f", whose deviation is known from {difference.num_borrowed} other runs of the recipe"
    text = f"{difference.num_blocks} blocks of {difference.num_tokens // max(1, difference.num_blocks):,} tokens"
    text += " on average, each of whole articles" if difference.of_articles else ""
    if difference.covers == ("seeds", "text"):
        return (
            f"{figures} cover both how training varies ({rule}) and how the test text varies ({text}). A "
            "change below 0 is a lower perplexity."
        )
    if difference.covers == ("seeds",):
        return (
            f"{figures} cover how training varies ({rule}), not how the test text varies. A change below 0 is a "
            "lower perplexity."
        )
    if difference.covers:
        return (
            f"One seed per arm: intervals (95 %) cover only how the test text varies ({text}). Two runs of one and the "
            "same arm differ by more than that, so there is no p."
        )
    return (
        "No interval can be given: an arm has one seed, and there are no nats of every token for at least two blocks "
        "of text."
    )


def _describe_sources(headlines: Mapping[str, "Difference"]) -> list[str]:
    """The standard errors of the changes, by source, all arms in one sentence."""
    told = [f"{arm} {_list_errors(headline)}" for arm, headline in headlines.items()]
    return [f"Standard error of the change, in percentage points: {'; '.join(told)}."] if told else []


def _list_errors(difference: "Difference") -> str:
    singles = [("by seeds alone", difference.seeds), ("by test text alone", difference.text)]
    told = [f"{difference.in_percent(found.error):.2f} {name}" for name, found in singles if found]
    both = [f"{difference.in_percent(difference.error or 0.0):.2f} by both"] if len(told) > 1 else []
    return ", ".join([*told, *both])


def _is_wider_alone(difference: "Difference") -> bool:
    """Whether seeds alone have a larger p, as it is printed: so it may be with two seeds of each arm, by Welch."""
    alone, both = difference.seeds and difference.seeds.p, difference.p
    if difference.num_seeds != (2, 2) or alone is None or both is None:
        return False
    return alone > both and format_p(alone) != format_p(both)


def _doubt_two_seeds(headlines: Mapping[str, "Difference"]) -> list[str]:
    """A warning about arms whose p is larger by seeds alone, all in one sentence."""
    told = [
        f"{arm} {format_p(headline.seeds.p)}"
        for arm, headline in headlines.items()
        if headline.seeds and headline.seeds.p is not None
    ]
    if not told:
        return []
    return [
        f"By seeds alone: {', '.join(told)}. With two seeds per arm that is too cautious (Welch's interval covers more "
        "than 95 %), and the p over seeds and test text is not; a third seed tells more than either."
    ]


def _seeds(arms: Mapping[str, Sequence[Record]]) -> str:
    """`seeds 1, 2` where all arms have the same, else each arm's."""
    return _list_seeds({arm: [record.seed for record in records] for arm, records in arms.items()}, num_arms=len(arms))


def _devices(arms: Mapping[str, Sequence[Record]]) -> str:
    """Which seeds ran where; nothing where all runs were made on one device."""
    found: dict[str, dict[str, list[int]]] = {}
    for arm, records in arms.items():
        for record in records:
            found.setdefault(_name_device(record), {}).setdefault(arm, []).append(record.seed)
    if len(found) < 2:
        return ""
    told = [f"{_list_seeds(seeds, num_arms=len(arms))} on {device}" for device, seeds in found.items()]
    return f"on different devices: {' and '.join(told)}"


def _name_device(record: Record) -> str:
    """`cuda (NVIDIA H200)`, or the processor's name where no GPU was used."""
    hardware = record.provenance.hardware
    device = str(hardware.get("device", "an unknown device")).partition(":")[0]
    name = hardware.get("gpu") or hardware.get("cpu")
    return f"{device} ({name})" if name else device


def _list_seeds(numbers: Mapping[str, list[int]], *, num_arms: int) -> str:
    """The seeds of arms: once where all arms are there and have the same."""
    first = next(iter(numbers.values()))
    if len(numbers) == num_arms and all(seeds == first for seeds in numbers.values()):
        return _number_seeds(first)
    return ", ".join(f"{arm} {_number_seeds(seeds)}" for arm, seeds in numbers.items())


def _number_seeds(seeds: Sequence[int]) -> str:
    return f"seed{'' if len(seeds) == 1 else 's'} {', '.join(map(str, seeds))}"


def _vocabulary(record: Record) -> str:
    return f"{record.vocabulary.size:,} {record.vocabulary.type}"


def _corpus(record: Record, *, per_byte: bool) -> str:
    splits = record.corpus.splits
    unit = "bytes" if per_byte else "tokens"
    counts = [f"{getattr(splits[split], unit):,} {split}" for split in SPLITS if split in splits]
    told = f"{record.corpus.name} ({' / '.join(counts)} {unit})" if counts else record.corpus.name
    return told if per_byte else f"{told}, {_vocabulary(record)}"


def _shared_options(spec: Mapping[str, Any], name: str, differing: list[str]) -> dict[str, Any]:
    """The options of a block that are equal in all arms; one of which an arm changes a part is not."""
    changed = {path.split(".")[1] for path in differing if path.startswith(f"{name}.")}
    return {key: value for key, value in spec.get(name, {}).items() if key not in changed and value is not None}


def _architecture(options: Mapping[str, Any]) -> str:
    """The type and every option that is in use; what is null, false or zero is off."""
    told = [_tell(key, value) for key, value in sorted(options.items()) if key != "type" and value]
    return ", ".join([options["type"], *told] if "type" in options else told)


def _tell(key: str, value: Any) -> str:
    """`layers 2`, `init uniform 0.1`, and for a switch its name alone."""
    if isinstance(value, Mapping):
        return ", ".join(_tell(f"{key} {inner}", part) for inner, part in value.items() if part)
    return key if value is True else f"{key} {value}"


def _training(options: Mapping[str, Any]) -> str:
    budgets = [(options[key], key) for key in ("epochs", "steps", "tokens") if key in options]
    parts = [f"{number:,} {name if number > 1 else name.removesuffix('s')}" for number, name in budgets]
    parts += [f"{key.removesuffix('_size')} {options[key]}" for key in ("batch_size", "window") if key in options]
    if "optimizer" in options:
        parts.append(f"{options['optimizer']['type']} at {options['optimizer']['learning_rate']}")
    return ", ".join(parts)
