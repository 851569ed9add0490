"""Sentences through a trained model by beam search, and how good translations are, by sacrebleu."""

from collections.abc import Callable, Iterable
from importlib.util import find_spec

import numpy as np

from tiebench.corpora.vocabulary import Vocabulary
from tiebench.errors import UsageError
from tiebench.experiment.schema import TRANSLATED, ArmSpec
from tiebench.models.beam_search import BeamSearch
from tiebench.models.language_model import LanguageModel
from tiebench.results.translation import Translation

SENTENCES_AT_ONCE = 64
BEAM, LENGTH_PENALTY = 5, 1.0
INSTALL = "pip install 'tiebench[translation]'"


def check_sacrebleu(spec: ArmSpec) -> None:
    """Raises UsageError where translations are to be scored, and what scores them is not installed."""
    if isinstance(spec.corpus, TRANSLATED) and find_spec("sacrebleu") is None:
        raise UsageError("translations are scored by the package sacrebleu, which is not installed", INSTALL)


def choose_search(spec: ArmSpec) -> BeamSearch:
    """The beam search that `evaluation:` asks for."""
    asked = spec.evaluation
    penalty = LENGTH_PENALTY if asked.length_penalty is None else asked.length_penalty
    return BeamSearch(asked.beam or BEAM, penalty)


def translate_lines(
    model: LanguageModel,
    lines: Iterable[str],
    *,
    vocabulary: Vocabulary,
    search: BeamSearch,
    advance: Callable[[int], None] = lambda num_tokens: None,
) -> list[str]:
    """The translation of each line, without newlines. `advance` is told how many more source tokens are done."""
    sources = [vocabulary.encode(line) for line in lines]
    order = sorted(range(len(sources)), key=lambda place: len(sources[place]))
    found = [""] * len(sources)
    was_training = model.training
    model.eval()
    for start in range(0, len(order), SENTENCES_AT_ONCE):
        chosen = order[start : start + SENTENCES_AT_ONCE]
        hypotheses = search.translate(model, [sources[place] for place in chosen], boundary=vocabulary.boundary)
        for place, hypothesis in zip(chosen, hypotheses, strict=True):
            found[place] = " ".join(vocabulary.decode(hypothesis).split())
        advance(sum(len(sources[place]) for place in chosen))
    model.train(was_training)
    return found


def score_translations(
    hypotheses: list[str], references: list[str], *, search: BeamSearch
) -> tuple[Translation, np.ndarray]:
    """BLEU and chrF of the whole, and of each sentence the counts that BLEU is made of, int32 `(sentences, 10)`.

    Counts as `comparison.bleu` reads them: matching n-grams of 1 to 4 tokens, all such n-grams, and the lengths of
    translation and reference (Papineni et al. 2002, section 2; tokens are sacrebleu's own).
    """
    from sacrebleu.metrics.bleu import BLEU  # pyright: ignore[reportMissingImports]  (an extra)
    from sacrebleu.metrics.chrf import CHRF  # pyright: ignore[reportMissingImports]

    bleu, chrf, by_sentence = BLEU(), CHRF(), BLEU(effective_order=True)
    scores = [metric.corpus_score(hypotheses, [references]).score for metric in (bleu, chrf)]
    parts = [
        by_sentence.sentence_score(hypothesis, [reference])
        for hypothesis, reference in zip(hypotheses, references, strict=True)
    ]
    counts = np.array([[*part.counts, *part.totals, part.sys_len, part.ref_len] for part in parts], dtype=np.int32)
    translation = Translation(
        bleu=scores[0],
        chrf=scores[1],
        bleu_signature=str(bleu.get_signature()),
        chrf_signature=str(chrf.get_signature()),
        sentences=len(hypotheses),
        beam=search.beam,
        length_penalty=search.length_penalty,
    )
    return translation, counts
