"""Every test has a cache of its own; the real corpora are read where they lie, beside the project."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from blocks import open_block

from tiebench.corpora.corpus import Corpus

DATA = Path(os.environ.get("TIEBENCH_DATA") or "no data folder")
COUNTS = {"ptb": (929_589, 73_760, 82_430, 10_000), "wikitext-2": (2_088_628, 217_646, 245_569, 33_278)}


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("TIEBENCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("TIEBENCH_DATA", raising=False)
    return tmp_path / "cache"


@pytest.fixture
def open_real() -> Callable[[str], Corpus]:
    def open_named(name: str) -> Corpus:
        if not (DATA / name).is_dir():
            pytest.skip(f"needs the corpus {name}: set TIEBENCH_DATA to the folder of the corpora")
        return open_block({"type": name}, data_dir=DATA)

    return open_named


@pytest.fixture
def write_corpus(tmp_path: Path) -> Callable[..., dict[str, str]]:
    """Write three small files and return the `corpus:` block that names them."""

    def write(train: str = "a cat sat\nthe cat\n", valid: str = "a dog sat\n", test: str = "the cat sat\n"):
        block = {"type": "text"}
        for split, text in (("train", train), ("valid", valid), ("test", test)):
            (tmp_path / f"{split}.txt").write_bytes(text.encode("utf-8"))
            block[split] = str(tmp_path / f"{split}.txt")
        return block

    return write
