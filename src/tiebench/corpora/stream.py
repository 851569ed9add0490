"""A token stream is one split as one long row of ids, memory-mapped: every token of the split is a target once."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from tiebench.corpora.cache import keep_folder
from tiebench.corpora.corpus import Corpus
from tiebench.corpora.reading import read_pieces
from tiebench.corpora.vocabulary import UNKNOWN, Vocabulary
from tiebench.experiment.corpus_config import SPLITS

HEADER = "streams.json"
STREAM_VERSION = 2  # of the files: raise it when the same text and vocabulary would be written differently


@dataclass(frozen=True)
class TokenStream:
    """The ids of one split, `(num_tokens + 1,)`, little-endian uint16, or uint32 for vocabularies above 65,536.

    `ids[0]` is the vocabulary's boundary, so that `ids[:-1]` are the inputs, `ids[1:]` the targets, and every token
    of the split is a target. `num_words` are words between white space (no `<eos>`), `num_bytes` the UTF-8 bytes
    with newlines, `num_unknown` the words that are lost: they became `<unk>`, or are `<unk>` in the text already.
    """

    ids: np.ndarray
    num_tokens: int
    num_words: int
    num_bytes: int
    num_unknown: int


@dataclass(frozen=True)
class ParallelStream(TokenStream):
    """The target language's ids, as above, and those of the `source` that they translate, line by line.

    A line is the ids after a boundary, up to and including the next one.
    """

    source: TokenStream

    def find_boundaries(self) -> tuple[np.ndarray, np.ndarray]:
        """The places of the boundaries in source and target, int64 `(pairs + 1,)` each; the first is 0.

        Where the ids were cut short, only those of whole pairs.
        """
        source, target = (np.flatnonzero(ids == self.ids[0]) for ids in (self.source.ids, self.ids))
        whole = min(len(source), len(target))
        return source[:whole], target[:whole]


def open_streams(corpus: Corpus, *, vocabulary: Vocabulary) -> dict[str, TokenStream]:
    """The streams of train, valid and test, kept in the cache by corpus checksum and vocabulary identity.

    Those of a corpus for translation are `ParallelStream`s.

    The files are verified at every opening, as `keep_folder` describes, and encoded again when damaged. Encoding
    reads the text in pieces, so its memory does not depend on the length of the text.

    Raises TiebenchError when the text cannot be read or the cache cannot be written.
    """
    name = f"streams/{corpus.name}-{corpus.checksum[:16]}-{vocabulary.identity}-{STREAM_VERSION}"
    streams = _open_side(name, files=corpus.files, vocabulary=vocabulary)
    if not corpus.source_files:
        return streams
    sources = _open_side(f"{name}-source", files=corpus.source_files, vocabulary=vocabulary)
    return {split: ParallelStream(**vars(stream), source=sources[split]) for split, stream in streams.items()}


def _open_side(name: str, *, files: dict[str, Path], vocabulary: Vocabulary) -> dict[str, TokenStream]:
    folder = keep_folder(name, build=partial(_write_streams, files, vocabulary))
    header = json.loads((folder / HEADER).read_text("utf-8"))
    return {split: _map_stream(folder / f"{split}.bin", counts=header[split], size=vocabulary.size) for split in SPLITS}


def _map_stream(file: Path, *, counts: dict[str, int], size: int) -> TokenStream:
    ids = np.memmap(file, dtype=_choose_dtype(size), mode="r", shape=(counts["num_tokens"] + 1,))
    return TokenStream(ids, **counts)


def _choose_dtype(size: int) -> np.dtype:
    return np.dtype("<u2" if size <= 2**16 else "<u4")


def _write_streams(files: dict[str, Path], vocabulary: Vocabulary, folder: Path) -> None:
    header = {
        split: _write_stream(read_pieces(files[split]), file=folder / f"{split}.bin", vocabulary=vocabulary)
        for split in SPLITS
    }
    (folder / HEADER).write_text(json.dumps(header, indent=1), "utf-8")


def _write_stream(pieces: Iterator[str], *, file: Path, vocabulary: Vocabulary) -> dict[str, int]:
    """Write the boundary and the ids of every piece; return the counts."""
    dtype = _choose_dtype(vocabulary.size)
    counts: dict[str, int] = dict.fromkeys(("num_tokens", "num_words", "num_bytes", "num_unknown"), 0)
    with file.open("wb") as out:
        np.array([vocabulary.boundary], dtype).tofile(out)
        for piece in pieces:
            ids, num_unknown = vocabulary.encode_piece(piece)
            ids.astype(dtype).tofile(out)
            counts["num_tokens"] += len(ids)
            words = piece.split()
            counts["num_words"] += len(words)
            counts["num_bytes"] += len(piece.encode("utf-8"))
            counts["num_unknown"] += num_unknown + words.count(UNKNOWN)
    return counts
