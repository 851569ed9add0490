"""A corpus is named text in three splits, with the counts and the checksum that make a result comparable."""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from tiebench.corpora.reading import read_lines
from tiebench.corpora.text_statistics import TextStatistics, read_statistics
from tiebench.errors import TiebenchError
from tiebench.experiment.corpus_config import SPLITS


@dataclass(frozen=True)
class Corpus:
    """Text in exactly three splits, one UTF-8 file each, one sentence or paragraph a line.

    `checksum` is the sha256 over the sha256 digests of train, valid and test, in this order. `expected_tokens`
    (words plus one `<eos>` per line) and `expected_vocabulary` (words of the training split plus `<eos>`) are what
    the catalogue publishes, already checked, or None when nothing is published. `facts` are the things outside the
    catalogue that the checksum depends on. `source_nats` is the loss by split, in nats summed over its tokens, of the
    source that the text was drawn from; it is empty for text that people wrote. `source_files` are those
    that `files` translate, line by line, in a corpus for translation; the checksum is then over these, too. With
    `has_titles`, each article begins with its title in WikiText's way (`corpora.articles`).
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
    source_nats: dict[str, float] = field(default_factory=dict)
    source_files: dict[str, Path] = field(default_factory=dict)
    has_titles: bool = False

    def lines(self, split: str) -> Iterator[str]:
        """The lines of a split without their newlines, read as they are asked for."""
        return read_lines(self.files[split])


def read_corpus(
    name: str,
    *,
    title: str,
    citation: str,
    licence: str,
    files: dict[str, Path],
    expected_tokens: dict[str, int] | None = None,
    expected_vocabulary: int | None = None,
    facts: dict[str, str] | None = None,
    has_titles: bool = False,
) -> Corpus:
    """A corpus from its three files: counted, checked against what is expected, and given its checksum.

    Raises TiebenchError for an empty split, text that is not UTF-8, or another count than expected.
    """
    checksum = verify_files(files, expected_tokens=expected_tokens, expected_vocabulary=expected_vocabulary)
    return Corpus(
        name,
        title,
        citation,
        licence,
        files,
        checksum,
        expected_tokens,
        expected_vocabulary,
        facts or {},
        has_titles=has_titles,
    )


def verify_files(
    files: dict[str, Path], *, expected_tokens: dict[str, int] | None, expected_vocabulary: int | None
) -> str:
    """Count the three files, compare with what is expected, and return the corpus's checksum (sha256, hex).

    Raises TiebenchError that shows both numbers and the file.
    """
    digest = hashlib.sha256()
    for split in SPLITS:
        file = files[split]
        statistics = read_statistics(file, distinct=split == "train" and expected_vocabulary is not None)
        _check_not_empty(statistics, file=file, split=split)
        if expected_tokens:
            _check_count(statistics.num_tokens, expected=expected_tokens[split], unit="tokens", file=file)
        if statistics.num_distinct is not None:
            _check_count(statistics.num_distinct, expected=expected_vocabulary, unit="different words", file=file)
        digest.update(bytes.fromhex(statistics.sha256))
    return digest.hexdigest()


def _check_not_empty(statistics: TextStatistics, *, file: Path, split: str) -> None:
    if not statistics.num_words:
        raise TiebenchError(f"{file}: the {split} split has no words", "Every split needs some text.")


def _check_count(found: int, *, expected: int | None, unit: str, file: Path) -> None:
    if found != expected:
        raise TiebenchError(
            f"{file} has {found:,} {unit}, the catalogue expects {expected:,} (with <eos>)",
            "The file is another version of the corpus, or was cut off. Download it again, "
            "or use it as your own text: corpus: {type: text, train: ..., valid: ..., test: ...}",
        )
