import gzip
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from blocks import open_block
from conftest import DATA

from tiebench.corpora.stream import ParallelStream, open_streams
from tiebench.corpora.vocabulary import fit_vocabulary
from tiebench.errors import TiebenchError
from tiebench.experiment.corpus_config import SPLITS, BPEConfig, BytesConfig

ENGLISH = {"train": "A dog.\nTwo cats sit.\n\nA man\n", "valid": "A dog sits.\n", "test": "Two men\nA cat\n"}
GERMAN = {"train": "Ein Hund.\nZwei Katzen sitzen.\n\nEin Mann\n", "valid": "Ein Hund sitzt.\n", "test": "Zwei\nEine\n"}


@pytest.fixture
def write_pairs(tmp_path: Path) -> Callable[..., dict]:
    """Write three small files in each of two languages, some replaced, and return the `corpus:` block."""

    def write(**replaced: str) -> dict:
        block: dict = {"type": "parallel", "source": {}, "target": {}}
        for side, texts in (("source", ENGLISH), ("target", GERMAN)):
            for split, text in texts.items():
                file = tmp_path / f"{split}.{side}"
                file.write_text(replaced.get(f"{side}_{split}", text), "utf-8")
                block[side][split] = str(file)
        return block

    return write


def test_every_line_stands_beside_its_translation(write_pairs):
    corpus = open_block(write_pairs())
    vocabulary = fit_vocabulary(BytesConfig(type="bytes"), corpus=corpus)
    streams = open_streams(corpus, vocabulary=vocabulary)
    for split, stream in streams.items():
        assert isinstance(stream, ParallelStream)
        lines = []
        for ids, starts in zip((stream.source.ids, stream.ids), stream.find_boundaries(), strict=True):
            lines.append([vocabulary.decode(ids[start + 1 : end + 1]) for start, end in pairwise(starts)])
        assert lines[0] == ENGLISH[split].splitlines(keepends=True)
        assert lines[1] == GERMAN[split].splitlines(keepends=True)
        assert stream.num_tokens == len(GERMAN[split].encode()), "the counts are those of the target"


def test_one_vocabulary_is_fitted_on_both_languages_together(write_pairs):
    both = fit_vocabulary(BPEConfig(type="bpe", size=300), corpus=open_block(write_pairs()))
    learned = {both.token(id) for id in range(256, both.size)}
    assert {"do", "og"} & learned and {"Hu", "un", "nd"} & learned, learned
    streams = open_streams(open_block(write_pairs()), vocabulary=both)
    assert both.decode(streams["test"].source.ids[1:]) == ENGLISH["test"]
    assert both.decode(streams["test"].ids[1:]) == GERMAN["test"]


@pytest.mark.parametrize(
    ("replaced", "message"),
    [
        ({"source_valid": "A dog sits.\nA cat.\n"}, r"valid\.source has 2 lines, and .*valid\.target has 1"),
        ({"target_train": "Ein Hund.\n"}, r"train\.source has 4 lines, and .*train\.target has 1"),
        ({"target_test": "\n\n"}, r"test\.target: the test split has no words"),
    ],
)
def test_lines_without_a_counterpart_are_refused_with_file_and_counts(write_pairs, replaced, message):
    with pytest.raises(TiebenchError, match=message):
        open_block(write_pairs(**replaced))


def test_a_missing_file_is_named_by_its_key(write_pairs):
    block = write_pairs()
    Path(block["source"]["test"]).unlink()
    with pytest.raises(TiebenchError, match=r"the source\.test file of the corpus was not found"):
        open_block(block)


def test_the_checksum_is_over_both_languages_and_their_order(write_pairs):
    first = open_block(write_pairs())
    assert open_block(write_pairs(source_test="Three men\nA cat\n")).checksum != first.checksum
    block = write_pairs()
    turned = block | {"source": block["target"], "target": block["source"]}
    assert open_block(turned).checksum != open_block(block).checksum == first.checksum


@pytest.mark.parametrize("direction", ["en-de", "de-en"])
def test_multi30k_has_the_published_lines_in_either_direction(direction):
    if not (DATA / "multi30k").is_dir():
        pytest.skip("needs multi30k: set TIEBENCH_DATA to the folder of the corpora")
    corpus = open_block({"type": "multi30k", "direction": direction}, data_dir=DATA)
    files = {"de": corpus.files, "en": corpus.source_files}
    english, german = (files["en"], files["de"]) if direction == "en-de" else (files["de"], files["en"])
    assert english["test"].read_text("utf-8").startswith("A man in an orange hat starring at something.\n")
    assert german["test"].read_text("utf-8").startswith("Ein Mann mit einem orangefarbenen Hut")
    counts = {split: sum(1 for _ in corpus.lines(split)) for split in SPLITS}
    assert counts == {"train": 29_000, "valid": 1_014, "test": 1_000}
    assert corpus.facts == {"direction": direction}


@pytest.fixture
def upstream(tmp_path: Path, monkeypatch) -> Path:
    """A few lines under the names that Multi30k has upstream, packed."""
    folder = tmp_path / "multi30k-dataset" / "data" / "task1" / "raw"
    folder.mkdir(parents=True)
    for language, texts in (("en", ENGLISH), ("de", GERMAN)):
        for split, name in (("train", "train"), ("valid", "val"), ("test", "test_2016_flickr")):
            (folder / f"{name}.{language}.gz").write_bytes(gzip.compress(texts[split].encode()))
    counts = {split: text.count("\n") for split, text in ENGLISH.items()}
    monkeypatch.setattr("tiebench.corpora.parallel.MULTI30K_LINES", counts)
    return folder


def test_multi30k_is_found_packed_or_not_under_its_upstream_names(upstream, tmp_path):
    corpus = open_block({"type": "multi30k"}, data_dir=tmp_path)
    assert list(corpus.lines("valid")) == ["Ein Hund sitzt."]
    packed = upstream / "val.de.gz"
    (upstream / "val.de").write_bytes(gzip.decompress(packed.read_bytes()))
    packed.unlink()
    assert open_block({"type": "multi30k"}, data_dir=tmp_path).checksum == corpus.checksum


def test_multi30k_that_is_damaged_cut_off_or_not_there_is_refused(upstream, tmp_path):
    packed = upstream / "train.en.gz"
    whole = packed.read_bytes()
    packed.write_bytes(whole[:-12])
    with pytest.raises(TiebenchError, match=r"train\.en\.gz is damaged"):
        open_block({"type": "multi30k"}, data_dir=tmp_path)
    for language in ("en", "de"):
        (upstream / f"train.{language}.gz").write_bytes(gzip.compress(b"A dog.\n"))
    with pytest.raises(TiebenchError, match=r"has 1 lines, the catalogue expects 4"):
        open_block({"type": "multi30k"}, data_dir=tmp_path)
    packed.unlink()
    with pytest.raises(TiebenchError, match=r"train\.en\.gz not found"):
        open_block({"type": "multi30k"}, data_dir=tmp_path)


def test_streams_keep_every_id_below_the_vocabulary(write_pairs):
    corpus = open_block(write_pairs())
    vocabulary = fit_vocabulary(BPEConfig(type="bpe", size=300), corpus=corpus)
    for stream in open_streams(corpus, vocabulary=vocabulary).values():
        for ids in (stream.ids, stream.source.ids):
            assert ids[0] == ids[-1] == vocabulary.boundary and int(np.max(ids)) < vocabulary.size
