"""The documentation that every Python carries, as English prose: always there, about 400,000 tokens.

The language reference and the standard library's docstrings and comments, laid out the way WikiText is: an article
per topic or module, punctuation split off, rare words replaced by `<unk>`. The text depends on the Python version,
and so does its checksum; the version is among the corpus's facts.
"""

import hashlib
import platform
from collections import Counter
from itertools import chain
from pathlib import Path

from tiebench.corpora import prose, standard_library
from tiebench.corpora.cache import keep_folder
from tiebench.corpora.corpus import Corpus, read_corpus
from tiebench.corpora.vocabulary import UNKNOWN
from tiebench.experiment.corpus_config import SPLITS

MIN_COUNT = 3  # occurrences in the training split below which a word becomes <unk>
HELD_OUT = 10  # valid and test are each about one article in ten

Paragraph = list[str]


def open_pydocs() -> Corpus:
    """Made once for each version of Python, in a few seconds.

    Raises TiebenchError when this Python has no source of its standard library.
    """
    python = platform.python_version()
    folder = keep_folder(f"pydocs/{python}-{_digest_generator()}", build=write_splits)
    files = {split: folder / f"{split}.txt" for split in SPLITS}
    return read_corpus(
        "pydocs",
        title="Python documentation",
        files=files,
        citation=f"The language reference and the standard library of Python {python}, Python Software Foundation",
        licence="Python Software Foundation License",
        facts={"python": python},
    )


def write_splits(folder: Path) -> None:
    """Write train.txt, valid.txt and test.txt.

    Raises TiebenchError when this Python has no source of its standard library.
    """
    splits = {
        split: [line for title, body in articles.items() for line in lay_out(title, body)]
        for split, articles in split_articles(collect_articles()).items()
    }
    counts = Counter(chain.from_iterable(splits["train"]))
    for split, lines in splits.items():
        text = "".join(f" {' '.join(_replace_rare(line, counts=counts))} \n" if line else " \n" for line in lines)
        (folder / f"{split}.txt").write_text(text, "utf-8", newline="\n")


def collect_articles() -> dict[str, list[Paragraph]]:
    """Title to paragraphs, in alphabetical order. A paragraph stands only in the first article that has it."""
    seen: set[str] = set()
    articles = {}
    for title, documentation in sorted(standard_library.read_articles().items()):
        found = {" ".join(tokens): tokens for page in documentation for tokens in prose.extract_prose(page)}
        articles[title] = [tokens for text, tokens in found.items() if text not in seen]
        seen.update(found)
    return {title: body for title, body in articles.items() if body}


def split_articles(articles: dict[str, list[Paragraph]]) -> dict[str, dict[str, list[Paragraph]]]:
    """Each article goes where the digest of its title says, so that one more module moves no other."""
    splits: dict[str, dict[str, list[Paragraph]]] = {split: {} for split in SPLITS}
    for title, body in articles.items():
        draw = hashlib.sha256(title.encode("utf-8")).digest()[0] % HELD_OUT
        splits[{0: "valid", 1: "test"}.get(draw, "train")][title] = body
    return splits


def lay_out(title: str, body: list[Paragraph]) -> list[Paragraph]:
    """The lines of an article: the heading ` = Title = ` between blank lines, then a line for each paragraph."""
    return [[], ["=", *prose.split_tokens(title), "="], [], *body]


def _replace_rare(tokens: Paragraph, *, counts: Counter[str]) -> Paragraph:
    return [token if counts[token] >= MIN_COUNT else UNKNOWN for token in tokens]


def _digest_generator() -> str:
    """The text changes when, and only when, the Python version or one of these files does."""
    sources = b"".join(Path(file).read_bytes() for file in (__file__, prose.__file__, standard_library.__file__))
    return hashlib.sha256(sources).hexdigest()[:12]
