"""Measurements on trained embeddings that claims need: made once, where the weights are, then kept beside the runs."""

from collections.abc import Callable, Iterator
from itertools import combinations
from pathlib import Path
from typing import TYPE_CHECKING

from tiebench.claims.claim import EMBEDDINGS, STUDIES, Claim
from tiebench.claims.evidence import Evidence
from tiebench.claims.papers import PaperClaims
from tiebench.errors import TiebenchError
from tiebench.results.measurements import Measurement, add_measurements, identify_run, name_sampling_error
from tiebench.results.record import VOCABULARY_FILE, WEIGHTS_FILE, Record
from tiebench.results.store import Store

if TYPE_CHECKING:
    import numpy as np

STUDY_SEEDS = (1, 2, 3)  # one decides nothing
Embeddings = dict[str, "np.ndarray"]
Say = Callable[[str], None]


def complete_measurements(
    papers: list[PaperClaims], *, evidence: Evidence, only: list[str], say: Say, train: bool, data_dir: Path | None
) -> None:
    """Measure what the chosen claims say of embeddings, wherever both arms of a seed have weights; skip what is known.

    `train` also runs the studies, which have a training of their own.
    """
    claims = [claim for paper in papers for claim in paper.choose(only).values()]
    asked = [claim for claim in claims if claim.is_about_embeddings and claim.experiment]
    for claim in {(claim.experiment, claim.measure, *claim.arms): claim for claim in asked}.values():
        for untied, tied in _find_pairs(claim, evidence):
            _measure_pair(claim, untied, tied, store=evidence.store, say=say)
    missing = list_missing_studies(papers, evidence=evidence, only=only) if train else []
    for claim, subject, seed in missing:
        from tiebench.analysis.subspace_study import run_study

        say(f"{STUDIES[claim.measure]} seed {seed}: training {subject}")
        measurement = run_study(subject, measure=claim.measure, seed=seed, data_dir=data_dir)
        add_measurements([measurement], evidence.store.root / STUDIES[claim.measure])
    evidence.kept.clear()


def read_embeddings(untied: Record, tied: Record, *, store: Store) -> Embeddings:
    """`in`, `out` and `tied`, each `(words, width)` float32. Raises TiebenchError where one has no weights."""
    from tiebench.execution.run import open_model

    apart = open_model(untied, store.folder_of(untied)).embedding
    shared = open_model(tied, store.folder_of(tied)).embedding
    if apart.input_embedding is apart.output_embedding:
        hint = "name the untied arm first in the claim's 'arms'"
        raise TiebenchError(f"{untied.experiment}/{untied.arm} is tied", hint)
    matrices = dict(
        zip(EMBEDDINGS, (apart.input_embedding, apart.output_embedding, shared.input_embedding), strict=True)
    )
    return {name: matrix.detach().numpy() for name, matrix in matrices.items()}


def measure_embeddings(
    measure: str, matrices: Embeddings, *, words: dict[str, int]
) -> Iterator[tuple[str, float, dict[str, int | float | str]]]:
    """What was measured, the figure, and the facts that it rests on: the number of words or pairs, and the standard
    errors that other words would give, of the figure and of its difference from each other figure
    (`name_sampling_error`).
    """
    from tiebench.analysis import embedding_measures as measures
    from tiebench.analysis.jackknife import leave_out_items, leave_out_words, measure_error

    num_words = len(matrices["in"])
    values: dict[str, float] = {}
    without: dict[str, np.ndarray] = {}
    facts: dict[str, dict[str, int | float | str]] = {}
    if measure == "rank correlation":
        ranks = {name: measures.rank_distances(matrix) for name, matrix in matrices.items()}
        for first, second in combinations(EMBEDDINGS, 2):
            of = f"{first}-{second}"
            values[of] = measures.correlate_ranked(ranks[first], ranks[second])
            without[of] = leave_out_words(ranks[first], ranks[second], num_words=num_words)
            facts[of] = {"num_pairs": len(ranks[first])}
    elif measure == "aligned cosine":
        for first, second in combinations(EMBEDDINGS, 2):
            of, (left, right) = f"{first}-{second}", (matrices[first], matrices[second])
            values[of] = measures.measure_aligned_cosine(left, right)
            without[of] = leave_out_items(
                lambda kept, left=left, right=right: measures.measure_aligned_cosine(left[kept], right[kept]),
                num_items=num_words,
            )
            facts[of] = {"num_words": num_words, "chance": measures.measure_aligned_cosine(left, _shuffle(right))}
    else:
        for name, matrix in matrices.items():
            cosines, scores = measures.judge_pairs(matrix, words=words, dataset=measure)
            values[name] = measures.correlate_scores(cosines, scores)
            without[name] = leave_out_items(
                lambda kept, cosines=cosines, scores=scores: measures.correlate_scores(cosines[kept], scores[kept]),
                num_items=len(scores),
            )
            facts[name] = {"num_pairs": len(scores)}
    for of, value in values.items():
        errors = {name_sampling_error(): measure_error(without[of])}
        for other in values:
            if other != of:
                errors[name_sampling_error(other)] = measure_error(without[of] - without[other])
        yield of, value, facts[of] | errors


def _shuffle(matrix: "np.ndarray") -> "np.ndarray":
    """The rows in a random order, so that words no longer correspond: what is found then is chance."""
    import numpy as np

    return np.random.default_rng(0).permutation(matrix)


def _find_pairs(claim: Claim, evidence: Evidence) -> list[tuple[Record, Record]]:
    """The runs of both arms at each seed where both have weights and the measure, or its error, is not there yet."""
    if claim.experiment is None:
        return []
    records, measurements = evidence.read(claim.experiment)
    about = [found for found in measurements if found.measure == claim.measure and found.is_about(claim.arms)]
    known = {found.seed for found in about if name_sampling_error() in found.facts}
    weighty = {
        (record.arm, record.seed): record
        for record in records
        if record.seed not in known and (evidence.store.folder_of(record) / WEIGHTS_FILE).exists()
    }
    untied, tied = claim.arms
    seeds = [seed for arm, seed in weighty if arm == untied and (tied, seed) in weighty]
    return [(weighty[untied, seed], weighty[tied, seed]) for seed in seeds]


def _measure_pair(claim: Claim, untied: Record, tied: Record, *, store: Store, say: Say) -> None:
    from tiebench.execution import environment

    say(f"{untied.experiment} seed {untied.seed}: measuring {claim.measure}")
    started = environment.utc_now()
    matrices = read_embeddings(untied, tied, store=store)
    runs = {record.arm: identify_run(record) for record in (untied, tied)}
    try:
        found = list(measure_embeddings(claim.measure, matrices, words=_read_words(store.folder_of(untied))))
    except TiebenchError as error:
        say(f"{claim.measure} is not measured: {error.message}" + (f" ({error.hint})" if error.hint else ""))
        return
    place = environment.choose_device("cpu")
    made = environment.describe_provenance(started=started, device=place)
    measurements = [
        Measurement(
            measure=claim.measure, of=of, seed=untied.seed, value=value, runs=runs, facts=facts, provenance=made
        )
        for of, value, facts in found
    ]
    add_measurements(measurements, store.root / untied.experiment)


def _read_words(folder: Path) -> dict[str, int]:
    from tiebench.corpora.vocabulary import load_vocabulary

    vocabulary = load_vocabulary(folder / VOCABULARY_FILE)
    return {vocabulary.token(id): id for id in range(vocabulary.size)}


def list_missing_studies(
    papers: list[PaperClaims], *, evidence: Evidence, only: list[str]
) -> list[tuple[Claim, str, int]]:
    """The studies that chosen claims need and that are not made yet: claim, subject, seed."""
    claims = [claim for paper in papers for claim in paper.choose(only).values() if claim.measure in STUDIES]
    wanted = {
        (STUDIES[claim.measure], subject, seed): (claim, subject, seed)
        for claim in claims
        for subject in claim.subjects
        for seed in evidence.seeds or STUDY_SEEDS
        if seed not in evidence.measure(claim, subject)
    }
    return list(wanted.values())
