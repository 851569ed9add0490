"""Your own text: where its files are looked for, and one file split by its lines."""

from pathlib import Path

import pytest
from pydantic import ValidationError

from tiebench.corpora.opening import open_corpus
from tiebench.corpora.reading import PIECE_BYTES, read_lines, read_pieces
from tiebench.corpora.text import cut_lines
from tiebench.errors import TiebenchError
from tiebench.experiment.corpus_config import TextConfig

PARTS = (0.9, 0.05, 0.05)


def write_lines(file: Path, num_lines: int) -> Path:
    file.write_text("".join(f"line {number}\n" for number in range(num_lines)), "utf-8")
    return file


def test_the_splits_are_blocks_in_the_order_of_the_file(tmp_path):
    write_lines(tmp_path / "all.txt", 100)
    corpus = open_corpus(TextConfig(type="text", file="all.txt", split=PARTS), near=tmp_path)
    splits = {split: list(corpus.lines(split)) for split in corpus.files}
    assert {split: len(lines) for split, lines in splits.items()} == {"train": 90, "valid": 5, "test": 5}
    assert [line for lines in splits.values() for line in lines] == [f"line {number}" for number in range(100)]
    assert corpus.facts == {"split": "train lines 1 to 90, valid lines 91 to 95, test lines 96 to 100"}


def test_one_file_and_the_same_in_three_are_the_same_text(tmp_path):
    write_lines(tmp_path / "all.txt", 40)
    one = open_corpus(TextConfig(type="text", file="all.txt", split=(0.5, 0.25, 0.25)), near=tmp_path)
    names = {split: str(file) for split, file in one.files.items()}
    assert open_corpus(TextConfig(type="text", **names)).checksum == one.checksum
    other = open_corpus(TextConfig(type="text", file="all.txt", split=(0.5, 0.3, 0.2)), near=tmp_path)
    assert other.checksum != one.checksum


@pytest.mark.parametrize("num_lines", [3, 10, 97, 1_000_003])
def test_every_line_is_in_exactly_one_split(num_lines):
    cuts = cut_lines(num_lines, parts=PARTS)
    assert [cuts["train"].start, cuts["train"].stop, cuts["valid"].stop] == [0, cuts["valid"].start, cuts["test"].start]
    assert cuts["test"].stop == num_lines


def test_too_few_lines_are_said(tmp_path):
    write_lines(tmp_path / "all.txt", 1)
    with pytest.raises(TiebenchError, match="all.txt has 1 line: nothing is left for"):
        open_corpus(TextConfig(type="text", file="all.txt", split=PARTS), near=tmp_path)


@pytest.mark.parametrize(
    ("keys", "says"),
    [
        ({"file": "a"}, "'file' and 'split' go together"),
        ({"train": "a", "valid": "b", "test": "c", "split": PARTS}, "'file' and 'split' go together"),
        ({"file": "a", "train": "b", "split": PARTS}, "give 'file' or 'train', not both"),
        ({"train": "a"}, "'valid', 'test' needed"),
        ({"file": "a", "split": (0.5, 0.4, 0.2)}, "must add up to 1, not 1.1"),
    ],
)
def test_three_files_or_one(keys, says):
    with pytest.raises(ValidationError, match=says):
        TextConfig(type="text", **keys)


def test_files_are_looked_for_beside_the_experiment_first(tmp_path, monkeypatch):
    folders = [tmp_path / name for name in ("near", "here", "data")]
    for number, folder in enumerate(folders, start=1):
        folder.mkdir()
        write_lines(folder / "all.txt", 10 * number)
    monkeypatch.chdir(folders[1])
    config = TextConfig(type="text", **dict.fromkeys(("train", "valid", "test"), "all.txt"))
    for folder in folders:
        corpus = open_corpus(config, near=folders[0], data_dir=folders[2])
        assert corpus.files["train"] == folder / "all.txt"
        (folder / "all.txt").unlink()
    with pytest.raises(TiebenchError, match="train file of the corpus was not found: tried") as caught:
        open_corpus(config, near=folders[0], data_dir=folders[2])
    assert all(str(folder) in caught.value.message for folder in folders)


def test_a_folder_and_an_unknown_home_are_no_file(tmp_path):
    for name in (str(tmp_path), "~nobody-of-that-name/x.txt"):
        with pytest.raises(TiebenchError, match="file of the corpus was not found"):
            open_corpus(TextConfig(type="text", **dict.fromkeys(("train", "valid", "test"), name)))


@pytest.mark.parametrize("text", [
    "", "a", "a\n", "\n\n", "a\nb", " " * 5, "x" * (2 * PIECE_BYTES + 7), "x" * PIECE_BYTES + " y" * PIECE_BYTES + "\n",
    ("z" * (PIECE_BYTES - 1) + "\n") * 2 + " end", "\u00e9" * PIECE_BYTES + "\n" + " a\n",
])  # fmt: skip
def test_pieces_and_lines_are_the_text(text, tmp_path):
    (tmp_path / "x.txt").write_text(text, "utf-8", newline="\n")
    whole = text if text.endswith("\n") or not text else text + "\n"
    pieces = list(read_pieces(tmp_path / "x.txt"))
    assert "".join(pieces) == whole and all(pieces)
    assert list(read_lines(tmp_path / "x.txt")) == whole.split("\n")[:-1]


def test_a_line_of_many_pieces_is_one_block(tmp_path, monkeypatch):
    import tiebench.corpora.reading as reading

    monkeypatch.setattr(reading, "PIECE_BYTES", 64)
    (tmp_path / "x.txt").write_text("x" * 64 * 1_000 + "\n", "utf-8")
    blocks = list(reading._read_blocks(tmp_path / "x.txt"))
    assert len(blocks) == 1 and len(blocks[0]) == 64_001


def test_a_byte_order_mark_is_no_part_of_the_text(tmp_path):
    (tmp_path / "x.txt").write_bytes(b"\xef\xbb\xbfword\n")
    assert "".join(read_pieces(tmp_path / "x.txt")) == "word\n"
