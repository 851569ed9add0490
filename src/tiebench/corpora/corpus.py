"""A corpus is named text in three splits, with the counts and the checksum that make a result comparable."""

import hashlib
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tiebench import registry
from tiebench.corpora.text_statistics import Census, take_census
from tiebench.corpora.reading import read_lines
from tiebench.errors import TiebenchError, UsageError

SPLITS = ("train", "valid", "test")


@dataclass(frozen=True)
class Corpus:
    """Text in exactly three splits, one UTF-8 file each, one sentence or paragraph a line.

    `checksum` is the sha256 over the sha256 digests of train, valid and test, in this order. `expected_tokens`
    (words plus one `<eos>` per line) and `expected_vocabulary` (words of the training split plus `<eos>`) are what
    the catalogue publishes, already checked, or None when nothing is published. `facts` are the things outside the
    catalogue that the checksum depends on.
    """

    name: str
    title: str
    citation: str
    licence: str
    files: dict[str, Path]
    checksum: str
    expected_tokens: dict[str, int] | None = None
    expected_vocabulary: int | None = None
    facts: dict[str, str] = field(default_factory=dict)

    def lines(self, split: str) -> Iterator[str]:
        """The lines of a split without their newlines, read as they are asked for."""
        return read_lines(self.files[split])


def open_corpus(block: dict[str, Any], *, data_dir: Path | None = None) -> Corpus:
    """The corpus that a `corpus:` block names, with every count verified.

    `data_dir` is the folder with downloaded corpora; without it, the environment variable `TIEBENCH_DATA`.

    Raises UsageError for an unknown name or a data folder that does not exist, TiebenchError for text that cannot
    be found, cannot be read or is not what the catalogue expects.
    """
    chosen = data_dir or os.environ.get("TIEBENCH_DATA") or None
    folder = Path(chosen) if chosen else None
    if folder and not folder.is_dir():
        raise UsageError(f"the data folder {folder} does not exist",
                         "Name the folder that holds the corpora with --data-dir or TIEBENCH_DATA.")
    return registry.corpora.build(block, data_dir=folder)


def read_corpus(name: str, *, title: str, citation: str, licence: str, files: dict[str, Path],
                expected_tokens: dict[str, int] | None = None, expected_vocabulary: int | None = None,
                facts: dict[str, str] | None = None) -> Corpus:
    """A corpus from its three files: counted, checked against what is expected, and given its checksum.

    Raises TiebenchError for an empty split, text that is not UTF-8, or another count than expected.
    """
    checksum = verify_files(files, expected_tokens=expected_tokens, expected_vocabulary=expected_vocabulary)
    return Corpus(name, title, citation, licence, files, checksum, expected_tokens, expected_vocabulary, facts or {})


def verify_files(files: dict[str, Path], *, expected_tokens: dict[str, int] | None,
                 expected_vocabulary: int | None) -> str:
    """Count the three files, compare with what is expected, and return the corpus's checksum (sha256, hex).

    Raises TiebenchError that shows both numbers and the file.
    """
    digest = hashlib.sha256()
    for split in SPLITS:
        file = files[split]
        census = take_census(file, distinct=split == "train" and expected_vocabulary is not None)
        _check_not_empty(census, file=file, split=split)
        if expected_tokens:
            _check_count(census.num_tokens, expected=expected_tokens[split], unit="tokens", file=file)
        if census.num_distinct is not None:
            _check_count(census.num_distinct, expected=expected_vocabulary, unit="different words", file=file)
        digest.update(bytes.fromhex(census.sha256))
    return digest.hexdigest()


def _check_not_empty(census: Census, *, file: Path, split: str) -> None:
    if not census.num_words:
        raise TiebenchError(f"{file}: the {split} split has no words", "Every split needs some text.")


def _check_count(found: int, *, expected: int | None, unit: str, file: Path) -> None:
    if found != expected:
        raise TiebenchError(f"{file} has {found:,} {unit}, the catalogue expects {expected:,} (with <eos>)",
                            "The file is another version of the corpus, or was cut off. Download it again, "
                            "or use it as your own text: corpus: {type: text, train: ..., valid: ..., test: ...}")
