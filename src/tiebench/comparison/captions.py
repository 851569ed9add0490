"""A comparison in plain words: the finding, what all arms share, and what the intervals mean."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from tiebench.comparison.statistics import BLOCK_TOKENS, NUM_RESAMPLES
from tiebench.experiment.differences import find_differences
from tiebench.results.record import SPLITS, Record

if TYPE_CHECKING:
    from tiebench.comparison.pairing import Contrast, Difference

LEVEL = 0.05
_SPLIT_WORDS = {"valid": "validation", "test": "test"}
_NOTES = {
    "seeds": (
        "Intervals (95 %) and p: paired t over seeds, on ln perplexity. They cover how training could vary (initial "
        "weights, order, dropout), not how the test text could."
    ),
    "text": (
        "One seed: intervals (95 %) and p are normal, with the standard error of a circular block bootstrap over the "
        f"test tokens ({NUM_RESAMPLES:,} resamples, blocks of {BLOCK_TOKENS} tokens or a twentieth of a "
        "short text). They cover how the test text could vary, not how training could."
    ),
    "none": "One seed and no per-token nats of both arms: no interval can be given.",
}


def describe_contrast(contrast: "Contrast") -> str:
    """One sentence: how much lower or higher, how sure, with how many parameters."""
    headline, seeds = contrast.headline, f"{contrast.num_seeds} seed{'s' if contrast.num_seeds > 1 else ''}"
    parameters = _parameters(contrast.parameters_percent)
    if headline is None:
        return f"{contrast.arm}: no split was scored that both arms share ({parameters}, {seeds})"
    change = f"{_change(headline)} with {parameters}"
    p, scope = headline.adjusted_p, ", test text only" if headline.source == "text" else ""
    if p is None:
        return f"{contrast.arm}: {change} ({seeds}, no interval)"
    if p < LEVEL:
        return f"{contrast.arm}: {change} ({format_p(p)}, {seeds}{scope})"
    unsure = f"not distinguishable from {contrast.baseline} with {seeds}"
    return f"{contrast.arm}: {unsure} ({change}, {format_p(p)}{scope})"


def describe_common(records: list[Record], *, seeds: list[int]) -> str:
    """What all arms share: corpus, vocabulary, architecture, budget and seeds. What differs is left out."""
    first = records[0]
    differing = [
        path
        for path, _ in find_differences(
            {str(place): each.spec.model_dump(mode="json") for place, each in enumerate(records)}
        )
    ]
    architecture, training = (
        _shared_options(first.spec.model_dump(mode="json"), name, differing) for name in ("architecture", "training")
    )
    parts = [_corpus(first), _architecture(architecture), _training(training)]
    numbers = ", ".join(map(str, seeds))
    parts.append(f"seed{'s' if len(seeds) > 1 else ''} {numbers}")
    return "; ".join(part for part in parts if part) + "."


def describe_method(
    contrasts: list["Contrast"], *, left_out: Mapping[str, list[int]], train_is_running: bool
) -> list[str]:
    """What the intervals and p values mean, and which runs were left out."""
    headlines = [contrast.headline for contrast in contrasts if contrast.headline]
    notes = [_NOTES[source] for source in dict.fromkeys(headline.source for headline in headlines)]
    if sum(headline.p is not None for headline in headlines) > 1:
        notes.append(f"p is adjusted over the {len(headlines)} arms compared with the first (Holm); intervals are not.")
    if train_is_running:
        notes.append("Train is the running perplexity over the epoch before the scored checkpoint, dropout included.")
    for arm, seeds in left_out.items():
        if seeds:
            numbers = ", ".join(map(str, seeds))
            notes.append(f"Left out of {arm}, for want of a partner: seed{'s' if len(seeds) > 1 else ''} {numbers}.")
    return notes


def format_p(p: float) -> str:
    """`p = 0.31`, `p = 0.031`, or `p < 0.001`."""
    if p < 0.001:
        return "p < 0.001"
    return f"p = {p:.2f}" if p >= 0.1 else f"p = {p:.3f}"


def _change(difference: "Difference") -> str:
    """Percentages point in the direction of the words: lower by 4.1 is [3.2, 5.0]."""
    percent, interval = difference.percent, difference.percent_interval
    sign, word = (-1, "lower") if percent < 0 else (1, "higher")
    decimals = 1 if abs(percent) >= 0.1 else 2
    limits = ""
    if interval is not None:
        low, high = sorted(round(sign * end, decimals) + 0.0 for end in interval)  # + 0.0: no "-0.0"
        limits = f" [{low:.{decimals}f}, {high:.{decimals}f}]"
    return f"{sign * percent:.{decimals}f} % {word} {_SPLIT_WORDS[difference.split]} perplexity{limits}"


def _parameters(percent: float) -> str:
    if percent == 0:
        return "as many parameters"
    amount = f"{abs(percent):.0f}" if abs(percent) >= 1 else f"{abs(percent):.2g}"
    return f"{amount} % {'fewer' if percent < 0 else 'more'} parameters"


def _corpus(record: Record) -> str:
    splits = record.corpus.splits
    counts = [f"{splits[split].tokens:,} {split}" for split in SPLITS if split in splits]
    tokens = f" ({' / '.join(counts)} tokens)" if counts else ""
    return f"{record.corpus.name}{tokens}, {record.vocabulary.size:,} {record.vocabulary.type}"


def _shared_options(spec: Mapping[str, Any], name: str, differing: list[str]) -> dict[str, Any]:
    """The options of a block that are equal in all arms; what an arm changes inside an option, it changes."""
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
