import platform
import subprocess
import sys

import pytest
from blocks import open_block

from tiebench.corpora import prose, pydocs
from tiebench.corpora.cache import keep_folder
from tiebench.corpora.vocabulary import fit_vocabulary
from tiebench.experiment.corpus_config import SPLITS, WordsConfig


@pytest.fixture(scope="module")
def text(tmp_path_factory):
    """The three splits as lists of lines."""
    folder = tmp_path_factory.mktemp("pydocs")
    pydocs.write_splits(folder)
    return {split: (folder / f"{split}.txt").read_text("utf-8").splitlines() for split in SPLITS}


def test_size_and_vocabulary(text):
    num_tokens = {split: sum(len(line.split()) + 1 for line in lines) for split, lines in text.items()}
    assert 200_000 < num_tokens["train"] < 600_000
    assert min(num_tokens["valid"], num_tokens["test"]) >= 30_000
    assert 3000 < len({word for line in text["train"] for word in line.split()}) < 10_000


@pytest.mark.parametrize("split", SPLITS)
def test_it_reads_like_prose(split, text):
    tokens = [token for line in text[split] for token in line.split()]
    assert tokens.count("<unk>") / len(tokens) < 0.08
    assert sum(token.isalpha() and token.islower() for token in tokens) / len(tokens) > 0.7
    assert {"the", "and", "which", "is"} <= set(tokens[:20_000])
    assert not any(mark in line for line in text[split] for mark in (">>>", "`", "\\", "::", "Copyright"))
    assert sum(line.startswith(" = ") and line.endswith(" = ") for line in text[split]) > 30


def test_splits_share_no_paragraph_and_the_vocabulary_is_the_training_splits(text):
    long = {
        split: {line for line in lines if len(line.split()) > 8 and "<unk>" not in line}
        for split, lines in text.items()
    }
    assert not long["train"] & long["valid"] and not long["train"] & long["test"] and not long["valid"] & long["test"]
    known = {word for line in text["train"] for word in line.split()}
    assert {word for split in ("valid", "test") for line in text[split] for word in line.split()} <= known


def test_it_is_made_once_and_always_the_same(text, monkeypatch):
    corpus = open_block({"type": "pydocs"})
    assert {split: list(corpus.lines(split)) for split in SPLITS} == text
    assert corpus.facts == {"python": platform.python_version()}
    monkeypatch.setattr(pydocs, "write_splits", lambda folder: pytest.fail("made again"))
    assert open_block({"type": "pydocs"}) == corpus
    vocabulary = fit_vocabulary(WordsConfig(type="words"), corpus=corpus)
    assert vocabulary.decode(vocabulary.encode("the list of names")) == "the list of names\n"


def test_code_tables_and_markup_are_left_out():
    documentation = """Return the *value* of ``name`` in a list; it isn't Python's.

    >>> find(3)
    3
    ======  ====
    Column  Text
    ======  ====
    .. note:: This is a directive, which is not for reading.

    result = find(x=3, y=[4, 5]) if a else {b: c}

    - The first item of a well-
      known list is here, e.g. "this" one.
    """
    found = [" ".join(tokens) for tokens in prose.extract_prose(documentation)]
    assert found == [
        "Return the value of name in a list ; it isn't Python 's .",
        "The first item of a well @-@ known list is here , e.g. this one .",
    ]


def test_two_processes_build_once(tmp_path, cache):
    program = (
        "import sys, time; from pathlib import Path; from tiebench.corpora.cache import keep_folder\n"
        "def build(folder):\n"
        "    time.sleep(0.5); (folder / 'file').write_text('x')\n"
        "    with open(sys.argv[1], 'a') as log: log.write('built ')\n"
        "keep_folder('shared', build=build)"
    )
    log = tmp_path / "log"
    both = [subprocess.Popen([sys.executable, "-c", program, str(log)]) for _ in range(2)]
    assert [process.wait(timeout=30) for process in both] == [0, 0]
    assert log.read_text() == "built "
    assert (keep_folder("shared", build=lambda folder: pytest.fail("built again")) / "file").read_text() == "x"
