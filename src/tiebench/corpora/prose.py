"""Documentation becomes prose: paragraphs of sentences, punctuation split off, code, tables and markup left out."""

import re
from collections.abc import Iterator

COMMON_WORDS = frozenset(
    [
        "a",
        "an",
        "and",
        "are",
        "as",
        "at",
        "be",
        "been",
        "but",
        "by",
        "can",
        "for",
        "from",
        "has",
        "have",
        "if",
        "in",
        "into",
        "is",
        "it",
        "its",
        "may",
        "must",
        "not",
        "of",
        "on",
        "or",
        "so",
        "than",
        "that",
        "the",
        "their",
        "then",
        "there",
        "these",
        "they",
        "this",
        "to",
        "was",
        "when",
        "which",
        "will",
        "with",
        "you",
    ]
)
BANNED_WORDS = frozenset(("Copyright", "XXX", "TODO", "FIXME", "`", "\\"))
MARKUP = (
    (re.compile(r":[\w:+-]+:`~?([^`]+)`"), r"\1"),  # :role:`name`
    (re.compile(r"`+([^`']+)[`']+"), r"\1"),  # ``name``, `name` and `name'
    (re.compile(r"(?<![\w*])\*{1,2}(\w[^*]*?\w|\w)\*{1,2}(?![\w*])"), r"\1"),  # *name* and **name**
    (re.compile(r"\s*\[(?:\d+|#\w*)\]_?"), ""),  # [1]
    (re.compile(r"(?<=\w)\(\)"), ""),  # name()
    (re.compile(r"(?<!\w)(['\"])([\w.]+)\1(?!\w)"), r"\2"),  # "name" and 'name'
    (re.compile(r"[‘’]"), "'"),
    (re.compile(r"[“”]"), '"'),
    (re.compile(r"[–—]|(?<!\S)-{1,3}(?!\S)"), "--"),
    (re.compile(r"::?(?=\s|$)"), ":"),
    (re.compile(r"(?<=\w)-(?=\w)"), " @-@ "),  # the WikiText way: a hyphen inside a word
)
BULLET = re.compile(r"(?:[-*+•]|\(?(?:\d{1,2}|[a-z])[.)])\s+(?=\S)")
MAYBE_CODE = re.compile(r">>>|\.\.\.(?=\s|$)|\.\. |\$ |@\w|#|\||%|(?:def|class|import|return|from \w+ import)\s.*[^.]$")
CODE_MARK = re.compile(r"::=|->|[=!<>+:-]=|=\s|\s=|\w=\w|\w\(\w*[,=\"']|[\\{}|<>@~^]|://|\w\[|\$\w|%\w|__\.")
TOKEN = re.compile(r"@-@|e\.g\.|i\.e\.|[A-Za-z]+'(?!s\b)[a-z]+|'s\b|[\w.]*\w|\.\.\.|--|[^\w\s]")
WORD = re.compile(r"[A-Za-z][a-z]*$")
MAX_MARKS_PER_WORD = 0.06
MIN_PLAIN_WORDS = 0.6
MIN_WORDS = 5
MIN_WORDS_LOWER_CASE = 10  # a paragraph that starts in lower case is often half a sentence


def extract_prose(text: str) -> Iterator[list[str]]:
    """The paragraphs of a docstring, a comment or a page of documentation that read as English, each as tokens."""
    for paragraph in split_paragraphs(text):
        tokens = split_tokens(paragraph)
        if _is_prose(paragraph, tokens=tokens):
            yield tokens


def split_paragraphs(text: str) -> Iterator[str]:
    """Blocks of lines with one indentation; an item of a list is a paragraph of its own, without its bullet."""
    paragraph: list[str] = []
    indentation = 0
    for line in text.expandtabs().split("\n"):
        words = line.strip()
        start = len(line) - len(line.lstrip())
        bullet = BULLET.match(words)
        if not words or bullet or start != indentation:
            yield from _join_lines(paragraph)
            paragraph = []
        indentation = start + (bullet.end() if bullet else 0)
        paragraph += [words[bullet.end() :] if bullet else words] if words else []
    yield from _join_lines(paragraph)


def split_tokens(text: str) -> list[str]:
    """Words and punctuation marks; a dotted name stays one word, `don't` too, `Python's` becomes `Python 's`."""
    for pattern, plain in MARKUP:
        text = pattern.sub(plain, text)
    return TOKEN.findall(text)


def _join_lines(lines: list[str]) -> Iterator[str]:
    """One paragraph, unless a line of it looks like code, a table, a heading's rule or a directive."""
    if lines and not any(MAYBE_CODE.match(line) or not any(map(str.isalnum, line)) for line in lines):
        yield re.sub(r"(?<=[a-z])- (?=[a-z])", "-", " ".join(lines))


def _is_prose(paragraph: str, *, tokens: list[str]) -> bool:
    """A sentence or more, ended by a full stop (or the like), of ordinary words with little notation among them."""
    plain = [token for token in tokens if WORD.match(token)]
    enough = MIN_WORDS if paragraph[0].isupper() else MIN_WORDS_LOWER_CASE
    return (
        len(plain) >= enough
        and len(plain) >= MIN_PLAIN_WORDS * len(tokens)
        and paragraph[-1] in '.!?:)"'
        and not COMMON_WORDS.isdisjoint(tokens)
        and BANNED_WORDS.isdisjoint(tokens)
        and len(CODE_MARK.findall(paragraph)) <= MAX_MARKS_PER_WORD * len(plain)
    )
