import dataclasses
import hashlib
import os
import time
from pathlib import Path

import pytest
from blocks import open_block
from pydantic import ValidationError

from tiebench.corpora import reading, text_statistics
from tiebench.corpora.corpus import read_corpus
from tiebench.errors import TiebenchError, UsageError
from tiebench.experiment.corpus_config import SPLITS
from tiebench.experiment.schema import CORPORA


@pytest.mark.parametrize("name", ["ptb", "wikitext-2"])
def test_real_corpus_has_the_published_counts(name, open_real):
    corpus = open_real(name)
    counted = {split: sum(len(line.split()) + 1 for line in corpus.lines(split)) for split in SPLITS}
    assert counted == corpus.expected_tokens
    assert (
        len({word for line in corpus.lines("train") for word in line.split()} | {"<eos>"}) == corpus.expected_vocabulary
    )


def test_checksum_is_over_the_three_splits_in_order(open_real):
    corpus = open_real("ptb")
    digests = (hashlib.sha256(corpus.files[split].read_bytes()).digest() for split in SPLITS)
    assert corpus.checksum == hashlib.sha256(b"".join(digests)).hexdigest()
    with pytest.raises(dataclasses.FrozenInstanceError):
        corpus.checksum = "another"


def test_checksum_follows_content_not_place(write_corpus):
    first = open_block(write_corpus()).checksum
    assert open_block(write_corpus(valid="a dog sits\n")).checksum != first
    assert open_block(write_corpus()).checksum == first


def test_reopening_reads_no_text(write_corpus, monkeypatch):
    block = write_corpus()
    long_ago = time.time() - 100
    for split in SPLITS:
        os.utime(block[split], (long_ago, long_ago))
    first = open_block(block)
    monkeypatch.setattr(text_statistics, "read_pieces", lambda file: pytest.fail(f"{file} was read again"))
    assert open_block(block) == first


def test_a_file_rewritten_within_one_tick_is_counted_again(write_corpus):
    block = write_corpus(test="the cat sat\n")
    before, status = open_block(block).checksum, os.stat(block["test"])
    write_corpus(test="the dog sat\n")
    os.utime(block["test"], ns=(status.st_atime_ns, status.st_mtime_ns))
    assert open_block(block).checksum != before


def test_every_catalogue_entry_says_what_it_is_and_refuses_unknown_options():
    named = {"ptb", "wikitext-2", "wikitext-103", "wikitext-2-raw", "wikitext-103-raw"}
    assert named | {"text", "pydocs", "synthetic", "multi30k", "parallel"} == set(CORPORA)
    for name in list(CORPORA):
        assert 40 < len(CORPORA[name].__doc__.split("\n\n")[0]) < 150
        with pytest.raises(ValidationError, match="colour"):
            open_block({"type": name, "colour": "red"})


def test_data_folder_that_is_not_there_is_an_error(tmp_path):
    with pytest.raises(UsageError, match="nowhere does not exist"):
        open_block({"type": "ptb"}, data_dir=tmp_path / "nowhere")


def test_data_folder_from_the_environment(write_corpus, monkeypatch, tmp_path):
    block = write_corpus() | {split: f"{split}.txt" for split in SPLITS}
    with pytest.raises(TiebenchError, match="train file of the corpus was not found"):
        open_block(block)
    monkeypatch.setenv("TIEBENCH_DATA", str(tmp_path))
    assert list(open_block(block).lines("valid")) == ["a dog sat"]


def test_own_text_not_utf8_names_file_and_line(write_corpus, tmp_path):
    block = write_corpus()
    (tmp_path / "valid.txt").write_bytes(b"fine\n" * 500_000 + b"caf\xe9 closed\n")
    with pytest.raises(TiebenchError, match=r"valid\.txt, line 500001: not UTF-8 text \(byte 0xe9"):
        open_block(block)


def test_empty_split_is_an_error(write_corpus):
    with pytest.raises(TiebenchError, match="the test split has no words"):
        open_block(write_corpus(test="\n \n"))


def test_count_that_differs_shows_both_numbers_and_the_file(write_corpus):
    block = write_corpus()
    files = {split: Path(block[split]) for split in SPLITS}
    about = {"title": "", "citation": "", "licence": "", "files": files}
    tokens = {"train": 7, "valid": 4, "test": 4}
    assert read_corpus("tiny", **about, expected_tokens=tokens, expected_vocabulary=5).expected_tokens == tokens
    with pytest.raises(TiebenchError, match=r"test\.txt has 4 tokens, the catalogue expects 1,234"):
        read_corpus("tiny", **about, expected_tokens=tokens | {"test": 1234})
    with pytest.raises(TiebenchError, match=r"train\.txt has 5 different words, the catalogue expects 6"):
        read_corpus("tiny", **about, expected_tokens=tokens, expected_vocabulary=6)


def test_pieces_are_the_text_whatever_its_lines(tmp_path, monkeypatch):
    monkeypatch.setattr(reading, "PIECE_BYTES", 1000)
    file = tmp_path / "text"
    text = "word " * 700 + "\r\n\n" + "ü\u2028x\x0b\n" * 1000 + "last"
    file.write_bytes(text.encode("utf-8"))
    pieces = list(reading.read_pieces(file))
    assert "".join(pieces) == text + "\n"
    assert len(pieces) > 3 and max(map(len, pieces)) <= 2000
    assert list(reading.read_lines(file)) == text.split("\n")
