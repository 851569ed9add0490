import os
import time
from dataclasses import replace

import pytest
from blocks import open_block

from tiebench.corpora import catalogue
from tiebench.corpora.catalogue import CATALOGUE, restore_files
from tiebench.corpora.hub import read_column
from tiebench.errors import TiebenchError
from tiebench.experiment.corpus_config import SPLITS

NAMES = list(CATALOGUE)


def make_rows(lines, *, column="text"):
    datasets = pytest.importorskip("datasets")
    return read_column(datasets.Dataset.from_list([{column: line} for line in lines]), column=column)


@pytest.fixture
def offline(monkeypatch):
    """An address where nothing listens."""
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)


@pytest.mark.parametrize("name", NAMES)
def test_offline_fails_fast_and_says_what_to_do(name, offline, cache):
    start = time.monotonic()
    with pytest.raises(TiebenchError) as failure:
        open_block({"type": name})
    assert time.monotonic() - start < 5
    layout = CATALOGUE[name].layouts[0].format(split="{train,valid,test}")
    for part in (name, "Download", f"DATA/{layout}", "--data-dir"):
        assert part in str(failure.value)
    assert not (cache / "hub" / name).exists()


@pytest.mark.parametrize("name", ["ptb", "wikitext-2"])
def test_hub_rows_become_the_published_files(name, open_real, tmp_path):
    corpus = open_real(name)
    source = CATALOGUE[name]
    as_on_hub = str.strip if name == "ptb" else lambda line: line + "\n" if line.strip() else ""
    rows = {
        split: make_rows([as_on_hub(line) for line in corpus.lines(split)], column=source.hub.column)
        for split in SPLITS
    }
    for split, file in restore_files(source, rows=rows, folder=tmp_path).items():
        assert file.read_bytes() == corpus.files[split].read_bytes()


def test_hub_text_is_fetched_once_and_kept(monkeypatch):
    source = replace(
        CATALOGUE["wikitext-2"], expected_tokens={"train": 9, "valid": 3, "test": 3}, expected_vocabulary=4
    )
    fetched = []

    def deliver(hub):
        fetched.append(hub.config)
        return {
            "train": make_rows(["", " = A cat = \n", "", " A"]),
            "valid": make_rows([" x y \n"]),
            "test": make_rows([" x y \n"]),
        }

    monkeypatch.setattr(catalogue, "fetch_rows", deliver)
    corpora = [catalogue.open_source(source, data_dir=None) for _ in range(2)]
    assert corpora[0] == corpora[1] and fetched == ["wikitext-2-v1"]
    assert list(corpora[0].lines("train")) == [" ", " = A cat = ", " ", " A"]


def test_hub_text_with_other_counts_is_not_kept(monkeypatch, cache):
    monkeypatch.setattr(catalogue, "fetch_rows", lambda hub: {split: make_rows(["too little"]) for split in SPLITS})
    with pytest.raises(TiebenchError, match="has 3 tokens, the catalogue expects 929,589"):
        catalogue.open_source(CATALOGUE["ptb"], data_dir=None)
    assert not (cache / "hub" / "ptb").exists()


@pytest.mark.parametrize("layout", CATALOGUE["ptb"].layouts)
def test_each_layout_is_found_and_an_incomplete_one_named(layout, open_real, tmp_path):
    original = open_real("ptb")
    files = {split: tmp_path / "data" / layout.format(split=split) for split in SPLITS}
    for split, file in files.items():
        file.parent.mkdir(parents=True, exist_ok=True)
        os.symlink(original.files[split], file)
    assert open_block({"type": "ptb"}, data_dir=tmp_path / "data").checksum == original.checksum
    files["valid"].unlink()
    with pytest.raises(TiebenchError, match=f"ptb is incomplete: .*{files['valid'].name} not found"):
        open_block({"type": "ptb"}, data_dir=tmp_path / "data")
