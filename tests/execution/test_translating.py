"""From sentences to translations and their scores, and what a run that translates leaves behind."""

from pathlib import Path

import numpy as np
import pytest

from tiebench.corpora.vocabulary import load_vocabulary
from tiebench.errors import UsageError
from tiebench.execution import translating
from tiebench.execution.run import execute_run, open_model
from tiebench.execution.settings import Settings
from tiebench.execution.translating import choose_search, score_translations, translate_lines
from tiebench.experiment.loading import load_experiment
from tiebench.models.beam_search import BeamSearch
from tiebench.results.record import VOCABULARY_FILE, read_record
from tiebench.results.store import Store

sacrebleu = pytest.importorskip("sacrebleu", reason="needs the extra: pip install 'tiebench[translation]'")
HYPOTHESES = ["Ein Hund läuft über den Rasen .", "Zwei Männer stehen da.", ""]
REFERENCES = ["Ein Hund läuft über grünes Gras.", "Zwei Männer stehen an einer Straße.", "Niemand."]
BLOCKS = {
    "vocabulary": {"type": "bpe", "size": 300},
    "architecture": {"type": "encoder_decoder", "layers": 1, "width": 16, "heads": 2},
    "arms": {"untied": {"tie": "untied"}, "decoder": {"tie": "tied"}, "three-way": {"tie": "three-way"}},
    "training": {
        "epochs": 2,
        "batch_size": 8,
        "window": 80,
        "optimizer": {"type": "adamw", "learning_rate": 0.01},
        "objective": {"type": "cross_entropy", "label_smoothing": 0.1},
    },
    "evaluation": {"beam": 2, "length_penalty": 0.5},
}


def test_scores_are_sacrebleus_with_its_signatures():
    search = BeamSearch(3, 0.7)
    found, counts = score_translations(HYPOTHESES, REFERENCES, search=search)
    assert found.bleu == pytest.approx(sacrebleu.corpus_bleu(HYPOTHESES, [REFERENCES]).score)
    assert found.chrf == pytest.approx(sacrebleu.corpus_chrf(HYPOTHESES, [REFERENCES]).score)
    assert "|tok:13a|" in found.bleu_signature and found.bleu_signature.endswith(f"version:{sacrebleu.__version__}")
    assert (found.sentences, found.beam, found.length_penalty) == (3, 3, 0.7)
    assert counts.shape == (3, 10) and counts.dtype == np.int32
    assert counts[1].tolist() == [4, 2, 1, 0, 5, 4, 3, 2, 5, 7], "n-grams that match, all n-grams, both lengths"


def test_beam_and_penalty_have_their_defaults(make_arm):
    plain, asked = (
        make_arm("tied", architecture="encoder_decoder", evaluation=block)
        for block in ({}, {"beam": 7, "length_penalty": 0.0})
    )
    assert choose_search(plain) == BeamSearch(5, 1.0)
    assert choose_search(asked) == BeamSearch(7, 0.0)


@pytest.fixture
def runs(write_experiment, parallel_corpus):
    return load_experiment(write_experiment(corpus=parallel_corpus, **BLOCKS)).list_runs()


def test_a_run_leaves_scores_translations_and_counts(runs, tmp_path: Path):
    settings = Settings(store=Store(tmp_path / "results"), device="cpu")
    records = {run.arm: execute_run(run, settings=settings) for run in runs}
    totals = {arm: record.parameters.total for arm, record in records.items()}
    table = records["untied"].parameters.output
    assert totals["untied"] - totals["decoder"] == totals["decoder"] - totals["three-way"] == table
    for arm, record in records.items():
        folder = settings.store.folder_of(record)
        lines = (folder / "test-translations.txt").read_text("utf-8").splitlines()
        found = record.translation
        assert found is not None and (found.beam, found.length_penalty) == (2, 0.5), arm
        assert found.sentences == len(lines) == len(np.load(folder / "test-bleu.npy")) == 26
        assert {"test-translations.txt", "test-bleu.npy"} <= set(record.provenance.files)
        assert read_record(folder) == record
        assert record.evaluations["test"].protocol == {"context": "each sentence given its source"}
        assert record.evaluations["test"].tokens == record.corpus.splits["test"].tokens
        corpus = record.spec.corpus
        assert corpus.type == "parallel"
        sources = Path(corpus.source.test).read_text("utf-8").splitlines()
        vocabulary = load_vocabulary(folder / VOCABULARY_FILE)
        again = translate_lines(
            open_model(record, folder), sources, vocabulary=vocabulary, search=choose_search(record.spec)
        )
        assert again == lines, "what is kept is what the kept weights say"
    again = execute_run(runs[2], settings=Settings(store=Store(tmp_path / "again"), device="cpu"))
    assert again.evaluations == records["three-way"].evaluations, "one seed, one result"
    assert again.translation == records["three-way"].translation
    assert again.usage.tokens == runs[2].spec.training.epochs * again.corpus.splits["train"].tokens, "no padding"


def test_without_sacrebleu_nothing_is_trained(runs, tmp_path, monkeypatch):
    monkeypatch.setattr(translating, "find_spec", lambda name: None)
    with pytest.raises(UsageError, match="sacrebleu, which is not installed") as caught:
        execute_run(runs[0], settings=Settings(store=Store(tmp_path / "results"), device="cpu"))
    assert caught.value.hint == "pip install 'tiebench[translation]'"
    assert not (tmp_path / "results").exists()
