"""BLEU from counts is sacrebleu's, and its differences are as sure as resampled sentences and seeds allow."""

import math

import numpy as np
import pytest

from tiebench.comparison.bleu import compute_bleu, estimate_bleu, summarise_translations
from tiebench.comparison.bounds import adjust_holm
from tiebench.comparison.pairing import compare_arms
from tiebench.errors import TiebenchError
from tiebench.reporting.render import render_table
from tiebench.reporting.translation_table import translation_table
from tiebench.results.translation_files import read_bleu_counts, write_bleu_counts

SENTENCES = 400
TRANSLATION = {
    "bleu": 30.0,
    "chrf": 55.0,
    "bleu_signature": "nrefs:1|case:mixed|eff:no|tok:13a|smooth:exp|version:2.6.0",
    "chrf_signature": "nrefs:1|case:mixed|eff:yes|nc:6|nw:0|space:no|version:2.6.0",
    "sentences": SENTENCES,
    "beam": 5,
    "length_penalty": 1.0,
}


def draw_counts(quality: float, *, seed: int) -> np.ndarray:
    """Counts of sentences of 8 to 16 tokens of which a share `quality` is right; sentences differ in how hard they are,
    and are as hard for every system.
    """
    lengths = np.random.default_rng(0).integers(8, 17, SENTENCES)
    ease = np.random.default_rng(1).uniform(-0.2, 0.2, SENTENCES)
    generator = np.random.default_rng(seed)
    totals = np.stack([lengths - order for order in range(4)], axis=1)
    shares = np.clip(quality + ease, 0.05, 0.95)[:, None] ** np.arange(1, 5)
    matches = generator.binomial(totals, shares)
    return np.concatenate([matches, totals, lengths[:, None], lengths[:, None]], axis=1).astype(np.int32)


@pytest.fixture
def make_arms(make_record):
    """`make_arms(untied=[0.6], tied=[0.5, 0.52])`: records, and what reads their counts."""

    def make(**qualities):
        arms, counts = {}, {}
        for place, (arm, values) in enumerate(qualities.items()):
            arms[arm] = [
                make_record(arm, seed, changes=[("translation", dict(TRANSLATION))])
                for seed, _ in enumerate(values, start=1)
            ]
            for record, value in zip(arms[arm], values, strict=True):
                counts[arm, record.seed] = draw_counts(value, seed=100 * place + record.seed)
        return arms, lambda record: counts[record.arm, record.seed]

    return make


def estimate(arms, counts, **options):
    (found,) = estimate_bleu(arms, counts=counts, seed_rule=options.get("seed_rule", "welch"))
    return found


def test_bleu_from_counts_is_sacrebleus():
    bleu = pytest.importorskip("sacrebleu.metrics.bleu").BLEU
    words = ["a", "man", "in", "the", "red", "hat", "is", "riding", "his", "bike", "down", "a", "small", "street"]
    generator = np.random.default_rng(3)
    for num_sentences, change in ((1, 0.9), (1, 0.3), (3, 0.6), (40, 0.2), (40, 0.0)):
        references, hypotheses = [], []
        for _ in range(num_sentences):
            sentence = list(generator.choice(words, generator.integers(1, 12)))
            references.append(" ".join(sentence))
            kept = [generator.choice(words) if generator.random() < change else word for word in sentence]
            hypotheses.append(" ".join(kept[: generator.integers(1, 12)]))
        parts = [
            bleu(effective_order=True).sentence_score(*pair)
            for pair in zip(hypotheses, [[line] for line in references], strict=True)
        ]
        counts = np.array([[*part.counts, *part.totals, part.sys_len, part.ref_len] for part in parts]).sum(axis=0)
        assert compute_bleu(counts) == pytest.approx(bleu().corpus_score(hypotheses, [references]).score, abs=1e-9)


def test_nothing_right_and_nothing_said_is_nothing():
    assert compute_bleu(np.array([0, 0, 0, 0, 9, 8, 7, 6, 9, 9])) == 0.0
    assert compute_bleu(np.array([0, 0, 0, 0, 0, 0, 0, 0, 0, 9])) == 0.0
    assert compute_bleu(np.array([9, 8, 7, 6, 9, 8, 7, 6, 9, 9])) == pytest.approx(100.0)
    assert compute_bleu(np.array([9, 8, 7, 6, 9, 8, 7, 6, 9, 18])) == pytest.approx(100 / math.e)


def test_one_run_per_arm_gives_an_interval_of_the_text_and_no_p(make_arms):
    found = estimate(*make_arms(untied=[0.6], tied=[0.6]))
    assert found.covers == ("text",) and found.p is None and found.num_sentences == SENTENCES
    assert found.low < found.difference < found.high and found.difference == pytest.approx(found.bleu - found.baseline)
    better = estimate(*make_arms(untied=[0.6], tied=[0.75]))
    assert 0 < better.low < better.difference < better.high
    assert estimate(*make_arms(untied=[0.6], tied=[0.75])) == better, "always the same draws"


def test_pairing_takes_out_how_hard_the_sentences_are(make_arms):
    """The same system twice, one of them with a match less here and there: far surer than of other sentences."""
    arms, counts = make_arms(untied=[0.6], tied=[0.6])
    first = counts(arms["untied"][0])
    almost = first.copy()
    almost[::40, 0] = np.maximum(almost[::40, 0] - 1, 0)
    paired = estimate(arms, lambda record: first if record.arm == "untied" else almost)
    apart = estimate(arms, counts)
    assert paired.high - paired.low < (apart.high - apart.low) / 4
    same = estimate(arms, lambda record: first)
    assert same.difference == same.low == same.high == 0.0


def test_the_interval_covers_the_truth_as_often_as_it_says(make_arms):
    """Of equal systems 95 % of the intervals hold 0; 60 pairs are off by at most 4 standard errors."""
    inside = 0
    for seed in range(60):
        ours, theirs = (draw_counts(0.6, seed=1000 + 2 * seed + place) for place in range(2))
        arms, _ = make_arms(untied=[0.6], tied=[0.6])
        found = estimate(arms, lambda record, ours=ours, theirs=theirs: ours if record.arm == "tied" else theirs)
        inside += found.low <= 0 <= found.high
    assert inside / 60 > 0.95 - 4 * math.sqrt(0.95 * 0.05 / 60)


def test_more_seeds_bring_their_own_variation_in(make_arms):
    alike = estimate(*make_arms(untied=[0.6, 0.6, 0.6], tied=[0.6, 0.6, 0.6]))
    apart = estimate(*make_arms(untied=[0.5, 0.6, 0.7], tied=[0.5, 0.6, 0.7]))
    assert alike.covers == apart.covers == ("seeds", "text") and alike.num_seeds == (3, 3)
    assert alike.p is not None and apart.high - apart.low > 3 * (alike.high - alike.low)
    paired = estimate(*make_arms(untied=[0.5, 0.6, 0.7], tied=[0.5, 0.6, 0.7]), seed_rule="paired")
    assert paired.high - paired.low < apart.high - apart.low, "where seeds are alike, pairing helps"


def test_p_is_of_one_family_of_arms(make_arms):
    qualities = {"untied": [0.6, 0.61], "tied": [0.63, 0.64], "tied-b": [0.66, 0.67]}
    arms, counts = make_arms(**qualities)
    together = estimate_bleu(arms, counts=counts, seed_rule="welch")
    alone = [estimate({"untied": arms["untied"], each.arm: arms[each.arm]}, counts) for each in together]
    assert [each.p for each in together] == pytest.approx(adjust_holm([each.p for each in alone]))
    assert together[0].p > alone[0].p or together[1].p > alone[1].p


def test_arms_scored_otherwise_or_without_counts_are_not_compared(make_arms):
    arms, counts = make_arms(untied=[0.6], tied=[0.6])
    assert estimate_bleu(arms, counts=lambda record: None, seed_rule="welch") == []
    for change in ({"beam": 4}, {"bleu_signature": "another"}, {"sentences": 7}):
        translation = arms["tied"][0].translation.model_copy(update=change)
        other = {**arms, "tied": [arms["tied"][0].model_copy(update={"translation": translation})]}
        assert estimate_bleu(other, counts=counts, seed_rule="welch") == []
    plain = {**arms, "tied": [arms["tied"][0].model_copy(update={"translation": None})]}
    assert estimate_bleu(plain, counts=counts, seed_rule="welch") == []
    assert summarise_translations(plain["tied"]) is None


def test_the_comparison_and_its_table_hold_them(make_arms):
    arms, counts = make_arms(untied=[0.6, 0.62], tied=[0.7, 0.72])
    comparison = compare_arms(arms, token_nll=lambda record: None, bleu_counts=counts)
    (found,) = comparison.bleu
    table = translation_table(comparison)
    assert table is not None
    text = render_table(table, width=80)
    assert f"{found.difference:+.2f} [{found.low:+.2f}, {found.high:+.2f}]" in text
    said = " ".join(text.split())
    assert "sentences and seeds" in said and "tok:13a" in said and "beam 5, length penalty 1." in said
    assert max(map(len, text.splitlines())) <= 80
    untranslated = {
        arm: [record.model_copy(update={"translation": None}) for record in records] for arm, records in arms.items()
    }
    plain = compare_arms(untranslated, token_nll=lambda record: None)
    assert translation_table(plain) is None and plain.bleu == []


def test_counts_of_another_run_are_refused(make_record, tmp_path):
    record = make_record(changes=[("translation", TRANSLATION)])
    assert read_bleu_counts(record, tmp_path) is None
    write_bleu_counts(draw_counts(0.6, seed=1), tmp_path)
    found = read_bleu_counts(record, tmp_path)
    assert found is not None and found.shape == (SENTENCES, 10)
    write_bleu_counts(draw_counts(0.6, seed=1)[:-1], tmp_path)
    with pytest.raises(TiebenchError, match="test-bleu.npy is damaged"):
        read_bleu_counts(record, tmp_path)
    assert read_bleu_counts(make_record(), tmp_path) is None
    (tmp_path / "test-bleu.npy").write_bytes(b"no array")
    with pytest.raises(TiebenchError, match="test-bleu.npy is damaged"):
        read_bleu_counts(record, tmp_path)
    provenance = record.provenance.model_copy(update={"files": {"test-bleu.npy": "0"}})
    other = record.model_copy(update={"provenance": provenance})
    with pytest.raises(TiebenchError, match="SHA-256"):
        read_bleu_counts(other, tmp_path)
