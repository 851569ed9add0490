"""The digest of a text file and the numbers of its bytes, lines and words, remembered until the file changes."""

import hashlib
import json
import time
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from tiebench.corpora.reading import read_pieces
from tiebench.files import cache_folder, compute_digest, write_text

END_OF_LINE = "<eos>"
SETTLED_SECONDS = 2.0
COUNTING_VERSION = 2  # of counting: raise it when the same file would be counted differently


@dataclass(frozen=True)
class TextStatistics:
    """The counts of one file. Words are what stands between white space; every line adds one `<eos>` token.

    `num_distinct` is the number of different words, `<eos>` included, or None when they were not counted.
    """

    sha256: str
    num_bytes: int
    num_lines: int
    num_words: int
    num_distinct: int | None = None

    @property
    def num_tokens(self) -> int:
        """Words, and one `<eos>` for every line."""
        return self.num_words + self.num_lines


def read_statistics(file: Path, *, distinct: bool = False) -> TextStatistics:
    """Count a file, or recall its counts when path, size and modification time are those of an earlier count.

    `distinct` also counts the different words, whose set is held in memory meanwhile. A file changed within the
    last two seconds is counted but not remembered, since it might change again within one tick of its clock. Where the
    counts cannot be written to the cache, the file is counted again next time.

    Raises TiebenchError when the file is not UTF-8.
    """
    memory = _find_memory(file, distinct=distinct)
    statistics = _recall_statistics(memory)
    if statistics is None:
        statistics = _count_file(file, distinct=distinct)
        if time.time() - file.stat().st_mtime > SETTLED_SECONDS:
            with suppress(OSError):
                _remember_statistics(statistics, memory)
    return statistics


def _find_memory(file: Path, *, distinct: bool) -> Path:
    status = file.stat()
    key = json.dumps([COUNTING_VERSION, str(file.resolve()), status.st_size, status.st_mtime_ns, distinct])
    return cache_folder() / "text-statistics" / f"{hashlib.sha256(key.encode()).hexdigest()[:32]}.json"


def _remember_statistics(statistics: TextStatistics, memory: Path) -> None:
    """The counts and a digest over them."""
    counts = asdict(statistics)
    write_text(json.dumps(counts | {"digest": _digest_counts(counts)}), file=memory)


def _recall_statistics(memory: Path) -> TextStatistics | None:
    """None where nothing is remembered, or something damaged."""
    try:
        counts = json.loads(memory.read_text("utf-8"))
        return TextStatistics(**counts) if counts.pop("digest") == _digest_counts(counts) else None
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None


def _digest_counts(counts: dict[str, Any]) -> str:
    return compute_digest(json.dumps(counts, sort_keys=True).encode())


def _count_file(file: Path, *, distinct: bool) -> TextStatistics:
    digest, different = hashlib.sha256(), {END_OF_LINE}
    num_bytes = num_lines = num_words = 0
    for piece in read_pieces(file):
        encoded, words = piece.encode("utf-8"), piece.split()
        digest.update(encoded)
        num_bytes += len(encoded)
        num_lines += piece.count("\n")
        num_words += len(words)
        if distinct:
            different.update(words)
    return TextStatistics(digest.hexdigest(), num_bytes, num_lines, num_words, len(different) if distinct else None)
