"""How far two arms' translations stand apart in BLEU: a paired bootstrap over sentences, and seeds as for perplexity.

The sentences of the test split are drawn anew, with replacement, the same ones for both arms; each run's BLEU is
computed from the counts of those drawn, and averaged over the seeds of its arm (Koehn 2004, section 4). How much
seeds vary is found from the BLEU of the runs, as for perplexity.
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from tiebench.comparison.bounds import adjust_holm
from tiebench.comparison.sources import SeedRule, vary_seeds
from tiebench.comparison.spread import Spread, measure_spread
from tiebench.comparison.variance import VariationSource, describe_total
from tiebench.experiment.block import Block
from tiebench.results.record import Record
from tiebench.results.translation import Translation

if TYPE_CHECKING:
    import numpy as np

NUM_RESAMPLES = 1000
RESAMPLING_SEED = 2004
LARGEST_ORDER = 4

BleuCounts = Callable[[Record], "np.ndarray | None"]


class TranslationSummary(Block):
    """BLEU and chrF of an arm over its seeds, and by what they were scored."""

    bleu: Spread
    chrf: Spread
    scored_by: str


class BleuDifference(Block):
    """The mean BLEU of an arm minus that of the baseline, in points of 100.

    `low` to `high` is the 95 % interval. From one run per arm it covers the text alone: the middle 95 % of what
    resampled sentences give, and there is no p. From more it covers the seeds too, and `p` is two-sided, adjusted over
    the arms compared with the baseline (Holm 1979).
    """

    arm: str
    bleu: float
    baseline: float
    difference: float
    low: float
    high: float
    p: float | None
    covers: tuple[VariationSource, ...]
    num_seeds: tuple[int, int]
    num_sentences: int


def summarise_translations(records: Sequence[Record]) -> TranslationSummary | None:
    """None where a run does not translate."""
    found = [record.translation for record in records]
    bleu, chrf = (measure_spread(each and getattr(each, name) for each in found) for name in ("bleu", "chrf"))
    if bleu is None or chrf is None:
        return None
    ways = dict.fromkeys(_describe_scoring(each) for each in found if each is not None)
    return TranslationSummary(bleu=bleu, chrf=chrf, scored_by=" ".join(ways))


def _describe_scoring(found: Translation) -> str:
    return (
        f"Scored from raw text by sacrebleu: BLEU {found.bleu_signature}, chrF {found.chrf_signature}; "
        f"beam {found.beam}, length penalty {found.length_penalty:g}."
    )


def estimate_bleu(
    arms: Mapping[str, Sequence[Record]], *, counts: BleuCounts, seed_rule: SeedRule
) -> list[BleuDifference]:
    """Every arm but the first against the first; an empty list where a run has no counts.

    Scores with different signatures, beams or numbers of sentences are not compared either.
    """
    import numpy as np

    runs = [record for records in arms.values() for record in records]
    scored = [record.translation for record in runs if record.translation is not None]
    facts = {(each.bleu_signature, each.sentences, each.beam, each.length_penalty) for each in scored}
    if len(scored) < len(runs) or len(facts) != 1:
        return []
    found = {arm: [counts(record) for record in records] for arm, records in arms.items()}
    stacked = {arm: [each for each in parts if each is not None] for arm, parts in found.items()}
    if any(len(stacked[arm]) < len(parts) for arm, parts in found.items()):
        return []
    num_sentences = scored[0].sentences
    drawn = {arm: np.empty(NUM_RESAMPLES) for arm in arms}
    for place, weights in enumerate(_draw_sentences(num_sentences)):
        for arm, parts in stacked.items():
            drawn[arm][place] = np.mean([compute_bleu(weights @ part) for part in parts])
    baseline, *names = arms
    own = {arm: np.array([[compute_bleu(part.sum(axis=0))] for part in parts]) for arm, parts in stacked.items()}
    differences = [
        _describe_arm(
            arm,
            own[arm],
            own[baseline],
            resampled=drawn[arm] - drawn[baseline],
            num_sentences=num_sentences,
            seed_rule=seed_rule,
        )
        for arm in names
    ]
    return _adjust_p(differences)


def _adjust_p(differences: list[BleuDifference]) -> list[BleuDifference]:
    """The differences with their known p values adjusted as one family."""
    known = {each.arm: each.p for each in differences if each.p is not None}
    adjusted = dict(zip(known, adjust_holm(list(known.values())), strict=True))
    return [each.model_copy(update={"p": adjusted.get(each.arm)}) for each in differences]


def compute_bleu(counts: "np.ndarray") -> float:
    """BLEU, 0 to 100, of the summed counts `(10,)` of some sentences (Papineni et al. 2002, section 2.3).

    Where no n-gram of a length matches, half, a quarter and so on of a match is assumed, as sacrebleu does by default
    ("exp", Chen & Cherry 2014).
    """
    matches, totals = counts[:LARGEST_ORDER], counts[LARGEST_ORDER : 2 * LARGEST_ORDER]
    length, reference = int(counts[-2]), int(counts[-1])
    if not matches.any() or not totals.all():
        return 0.0
    assumed, logarithms = 1.0, 0.0
    for match, total in zip(matches.tolist(), totals.tolist(), strict=True):
        assumed = assumed if match else assumed / 2
        logarithms += math.log((match or assumed) / total)
    brevity = min(0.0, 1 - reference / length)
    return 100 * math.exp(brevity + logarithms / LARGEST_ORDER)


def _draw_sentences(num_sentences: int) -> "Iterator[np.ndarray]":
    """How often each sentence is drawn, int64 `(sentences,)`, once for each resampling; always the same draws."""
    import numpy as np

    generator = np.random.Generator(np.random.PCG64(RESAMPLING_SEED))
    shares = np.full(num_sentences, 1 / num_sentences)
    for _ in range(NUM_RESAMPLES):
        yield generator.multinomial(num_sentences, shares)


def _describe_arm(
    arm: str,
    ours: "np.ndarray",
    baseline: "np.ndarray",
    *,
    resampled: "np.ndarray",
    num_sentences: int,
    seed_rule: SeedRule,
) -> BleuDifference:
    """From the BLEU of each run, `(seeds, 1)`, and the differences of the resampled texts, `(resamples,)`."""
    import numpy as np

    difference = float(ours.mean() - baseline.mean())
    by_seed = vary_seeds(ours, baseline, np.ones(1), seed_rule, None)
    covers: tuple[VariationSource, ...] = ("text",) if by_seed is None else ("seeds", "text")
    if by_seed is None:
        low, high = (float(end) for end in np.quantile(resampled, (0.025, 0.975)))
        p = None
    else:
        text = float(resampled.var(ddof=1))
        sure = describe_total(difference, by_seed=by_seed, text=text, text_freedom=max(1, num_sentences - 1))
        low, high, p = sure.low, sure.high, sure.p
    return BleuDifference(
        arm=arm,
        bleu=float(ours.mean()),
        baseline=float(baseline.mean()),
        difference=difference,
        low=low,
        high=high,
        p=p,
        covers=covers,
        num_seeds=(len(ours), len(baseline)),
        num_sentences=num_sentences,
    )
