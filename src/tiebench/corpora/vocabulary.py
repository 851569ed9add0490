"""Text to ids and back. A vocabulary is fitted on the training split only and knows no other text."""

import hashlib
import json
import re
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterable, Sequence
from functools import cached_property, partial
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tiebench.corpora.cache import keep_folder
from tiebench.corpora.corpus import Corpus
from tiebench.corpora.reading import read_lines, read_pieces
from tiebench.corpora.text_statistics import END_OF_LINE
from tiebench.errors import TiebenchError
from tiebench.experiment.corpus_config import BPEConfig, CheckpointVocabularyConfig, VocabularyConfig, WordsConfig
from tiebench.files import write_text

if TYPE_CHECKING:
    from tokenizers import Tokenizer

UNKNOWN = "<unk>"
MOST_KNOWN = 20_000_000
"""Characters of text whose tokens are kept in memory: most text consists of words that were there before."""
CHUNK = re.compile(r" *[^ \n]+| +|\n")
OTHER_SPACE = re.compile(r"[^\S \n]")
FITTING_VERSION = 1  # of fitting: raise it when the same text and options would give another vocabulary


class Vocabulary(ABC):
    """Ids 0 to `size - 1` for the tokens of a text.

    `boundary` is the id that ends every line and stands before the first token of a stream. `unknown` is the id
    of every word that the vocabulary does not have, or None when there can be none.
    """

    size: int
    boundary: int
    unknown: int | None = None

    @abstractmethod
    def encode_piece(self, piece: str) -> tuple[np.ndarray, int]:
        """The ids of whole lines, `(tokens,)`, and how many words became `<unk>` that were not `<unk>` in the text."""

    @abstractmethod
    def decode(self, ids: Iterable[int]) -> str:
        """Readable text; every end of line is a newline."""

    @abstractmethod
    def token(self, id: int) -> str:
        """One token as it is written in tables: distinct for distinct ids."""

    @abstractmethod
    def describe(self) -> dict[str, Any]:
        """Everything needed to make this vocabulary again, as JSON."""

    def encode(self, line: str) -> list[int]:
        """The ids of one line and of its end, whether or not `line` carries a newline."""
        return self.encode_piece(line.removesuffix("\n") + "\n")[0].tolist()

    @cached_property
    def identity(self) -> str:
        """16 hex digits over the content: equal exactly when text becomes the same ids."""
        return hashlib.sha256(json.dumps(self.describe(), sort_keys=True).encode()).hexdigest()[:16]


class WordVocabulary(Vocabulary):
    """Words between white space, and `<eos>` for the end of a line."""

    def __init__(self, tokens: Sequence[str]) -> None:
        self.tokens = list(tokens)
        self.size = len(self.tokens)
        self.boundary, self.unknown = self.tokens.index(END_OF_LINE), self.tokens.index(UNKNOWN)
        self._table = _WordTable({token: id for id, token in enumerate(self.tokens)})

    def encode_piece(self, piece: str) -> tuple[np.ndarray, int]:
        words = piece.replace("\n", f" {END_OF_LINE} ").split()
        before = self._table.num_missed
        ids = np.fromiter(map(self._table.__getitem__, words), dtype=np.uint32, count=len(words))
        return ids, self._table.num_missed - before

    def decode(self, ids: Iterable[int]) -> str:
        words = ("\n" if id == self.boundary else self.tokens[id] for id in ids)
        return " ".join(words).replace(" \n", "\n").replace("\n ", "\n")

    def token(self, id: int) -> str:
        return self.tokens[id]

    def describe(self) -> dict[str, Any]:
        return {"type": "words", "tokens": self.tokens}


class _WordTable(dict[str, int]):
    """Word to id; a word that is not there is counted and becomes `<unk>`."""

    num_missed = 0

    def __missing__(self, word: str) -> int:
        self.num_missed += 1
        return self[UNKNOWN]


def _cut_chunks(piece: str) -> list[str]:
    """Spaces with what stands behind them, and the ends of lines: no token reaches over the end of a chunk.

    For GPT-2's pattern cuts before every space that stands behind something else, whatever follows. Other white space
    is joined with spaces there, so a line that has some is one chunk.
    """
    if not OTHER_SPACE.search(piece):
        return CHUNK.findall(piece)
    chunks: list[str] = []
    for line in piece.split("\n"):
        chunks += [line, "\n"] if OTHER_SPACE.search(line) else [*CHUNK.findall(line), "\n"]
    return chunks[:-1]


class BPEVocabulary(Vocabulary):
    """Byte-level byte pair encoding: any text comes back as it was, newlines included (Sennrich et al. 2016)."""

    def __init__(self, serialized: str) -> None:
        from tokenizers import Tokenizer

        self._tokenizer = Tokenizer.from_str(serialized)
        self.size = self._tokenizer.get_vocab_size()
        self.boundary = self._tokenizer.encode("\n").ids[0]
        self._known: dict[str, list[int]] = {}
        self._num_known = 0

    def encode_piece(self, piece: str) -> tuple[np.ndarray, int]:
        chunks = _cut_chunks(piece)
        if self._num_known > MOST_KNOWN:
            self._known, self._num_known = {}, 0
        unknown = [chunk for chunk in set(chunks) if chunk not in self._known]
        encodings = self._tokenizer.encode_batch_fast(unknown)
        self._known.update(zip(unknown, (encoding.ids for encoding in encodings), strict=True))
        self._num_known += sum(map(len, unknown))
        ids = chain.from_iterable(map(self._known.__getitem__, chunks))
        return np.fromiter(ids, dtype=np.uint32), 0

    def decode(self, ids: Iterable[int]) -> str:
        return self._tokenizer.decode([int(id) for id in ids], skip_special_tokens=False)

    def token(self, id: int) -> str:
        return self._tokenizer.id_to_token(int(id)) or ""

    def describe(self) -> dict[str, Any]:
        return {"type": "bpe", "tokenizer": self._tokenizer.to_str()}


class ByteVocabulary(Vocabulary):
    """The 256 byte values of UTF-8."""

    size, boundary = 256, ord("\n")

    def encode_piece(self, piece: str) -> tuple[np.ndarray, int]:
        return np.frombuffer(piece.encode("utf-8"), dtype=np.uint8), 0

    def decode(self, ids: Iterable[int]) -> str:
        return bytes(int(id) for id in ids).decode("utf-8", errors="replace")

    def token(self, id: int) -> str:
        return ascii(chr(id))[1:-1] if id < 128 else f"\\x{int(id):02x}"

    def describe(self) -> dict[str, Any]:
        return {"type": "bytes"}


class TokenizerVocabulary(Vocabulary):
    """The tokenizer of a checkpoint, whatever it is: a text becomes what that tokenizer makes of it.

    The ends of lines are text like any other, and `boundary` stands before the first token of a stream and nowhere
    else. `size` is that of the model, which may have rows to spare. With `splits_special`, text that looks like a
    special token is ordinary text. Raises ValueError for what is no tokenizer, or one with more tokens than `size`.
    """

    def __init__(self, serialized: str, *, boundary: int, size: int, splits_special: bool) -> None:
        self._tokenizer = open_tokenizer(serialized)
        self._tokenizer.no_truncation()
        self._tokenizer.no_padding()
        self._tokenizer.encode_special_tokens = splits_special
        self.size, self.boundary, self.splits_special = size, boundary, splits_special
        largest = max(self._tokenizer.get_vocab().values(), default=0)
        if not max(largest, boundary) < size:
            raise ValueError(f"the model has {size:,} tokens, and the tokenizer numbers them up to {largest:,}")
        missing = json.loads(self._tokenizer.to_str())["model"].get("unk_token")
        self.unknown = self._tokenizer.token_to_id(missing) if missing else None

    def encode_piece(self, piece: str) -> tuple[np.ndarray, int]:
        ids = np.array(self._tokenizer.encode(piece, add_special_tokens=False).ids, dtype=np.uint32)
        missed = 0 if self.unknown is None else int((ids == self.unknown).sum()) - piece.split().count(UNKNOWN)
        return ids, max(missed, 0)

    def encode(self, line: str) -> list[int]:
        """The ids of one line, and the boundary."""
        return [*self._tokenizer.encode(line.removesuffix("\n"), add_special_tokens=False).ids, self.boundary]

    def decode(self, ids: Iterable[int]) -> str:
        return self._tokenizer.decode([int(id) for id in ids], skip_special_tokens=False)

    def token(self, id: int) -> str:
        return self._tokenizer.id_to_token(int(id)) or f"<unused {int(id)}>"

    def describe(self) -> dict[str, Any]:
        facts = {"boundary": self.boundary, "size": self.size, "splits_special": self.splits_special}
        return {"type": "tokenizer", "tokenizer": self._tokenizer.to_str(), **facts}


def open_tokenizer(serialized: str) -> "Tokenizer":
    """Raises ValueError for text that the tokenizers library cannot read."""
    from tokenizers import Tokenizer

    try:
        return Tokenizer.from_str(serialized)
    except Exception as error:  # the library has no class of its own for it
        raise ValueError(f"it is no tokenizer: {error}") from error


def fit_vocabulary(options: VocabularyConfig, *, corpus: Corpus) -> Vocabulary:
    """The vocabulary of the corpus's training split, kept in the cache by corpus checksum and options.

    A corpus for translation has one vocabulary for both languages, fitted on the two together.

    Words are numbered by descending frequency, equally frequent ones alphabetically. `<eos>` and `<unk>` are
    always among them, with as many occurrences as the training text has lines and words out of vocabulary.

    Raises TiebenchError when the training split cannot be read. The vocabulary of a checkpoint is not fitted but read
    (corpora/checkpoint_tokenizer.py).
    """
    assert not isinstance(options, CheckpointVocabularyConfig)
    if options.type == "bytes":
        return ByteVocabulary()
    content = json.dumps([FITTING_VERSION, corpus.checksum, options.model_dump(mode="json")], sort_keys=True)
    name = f"vocabularies/{corpus.name}-{hashlib.sha256(content.encode()).hexdigest()[:16]}"
    files = [side["train"] for side in (corpus.source_files, corpus.files) if side]
    folder = keep_folder(name, build=partial(_keep_vocabulary, options, files))
    return load_vocabulary(folder / "vocabulary.json")


def save_vocabulary(vocabulary: Vocabulary, file: Path) -> None:
    """Write a vocabulary as JSON, renamed into place."""
    write_text(json.dumps(vocabulary.describe(), ensure_ascii=False, sort_keys=True), file=file)


def load_vocabulary(file: Path, *, identity: str | None = None) -> Vocabulary:
    """Raises TiebenchError when the file is missing, is not a vocabulary or not the one with this identity."""
    try:
        content = json.loads(file.read_text("utf-8"))
        makers = {
            "words": lambda: WordVocabulary(content["tokens"]),
            "bpe": lambda: BPEVocabulary(content["tokenizer"]),
            "bytes": ByteVocabulary,
            "tokenizer": lambda: TokenizerVocabulary(
                content["tokenizer"],
                boundary=content["boundary"],
                size=content["size"],
                splits_special=content["splits_special"],
            ),
        }
        vocabulary = makers[content["type"]]()
        if identity is not None and vocabulary.identity != identity:
            raise ValueError(f"its identity is {vocabulary.identity}, not {identity}")
        return vocabulary
    except FileNotFoundError as error:
        hint = "published records come without vocabulary and weights: train the run again"
        raise TiebenchError(f"{file} is missing", hint) from error
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise TiebenchError(
            f"{file} is not a vocabulary ({error!r})",
            "It is written when a run starts: delete the run's folder and train it again.",
        ) from error


def _keep_vocabulary(options: WordsConfig | BPEConfig, files: list[Path], folder: Path) -> None:
    fitted = _fit_words(options, files=files) if options.type == "words" else _fit_bpe(options, files=files)
    save_vocabulary(fitted, folder / "vocabulary.json")


def _fit_words(options: WordsConfig, *, files: list[Path]) -> WordVocabulary:
    counts: Counter[str] = Counter()
    for piece in chain.from_iterable(map(read_pieces, files)):
        counts.update(piece.replace("\n", f" {END_OF_LINE} ").split())
    specials = {END_OF_LINE: counts.pop(END_OF_LINE), UNKNOWN: counts.pop(UNKNOWN, 0)}
    room = None if options.size is None else max(options.size - len(specials), 0)
    frequent = _sort_by_frequency({word: count for word, count in counts.items() if count >= options.min_count})
    kept = {word: counts[word] for word in frequent[:room]}
    specials[UNKNOWN] += counts.total() - sum(kept.values())
    return WordVocabulary(_sort_by_frequency(kept | specials))


def _sort_by_frequency(counts: dict[str, int]) -> list[str]:
    return sorted(counts, key=lambda word: (-counts[word], word))


def _fit_bpe(options: BPEConfig, *, files: list[Path]) -> BPEVocabulary:
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=options.size, initial_alphabet=alphabet, show_progress=False)
    tokenizer.train_from_iterator(chain.from_iterable(map(read_lines, files)), trainer=trainer)
    return BPEVocabulary(tokenizer.to_str())
