"""The English that every Python installation carries: its reference, its docstrings and comments, read from source.

Nothing is imported for it.
"""

import ast
import re
import sysconfig
import tokenize
import warnings
from collections.abc import Iterator
from pathlib import Path

from tiebench.errors import TiebenchError

LEFT_OUT = frozenset(
    [
        "test",
        "tests",
        "idle_test",
        "site-packages",
        "dist-packages",
        "__pycache__",
        "ensurepip",
        "_vendor",
        "__phello__",
        "pydoc_data",
        "encodings",
        "lib-dynload",
    ]
)
TOPICS = "pydoc_data/topics.py"
DOCUMENTED = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
COMMENT = re.compile(r"(?:^[ \t]*#(?: .*)?\n)+", re.MULTILINE)
COMMENT_MARK = re.compile(r"^[ \t]*# ?", re.MULTILINE)


def read_articles() -> dict[str, list[str]]:
    """Title to documentation: an article per topic of the language reference, one per module.

    The documentation of a module are the docstrings of itself, its classes and its functions, then its comments.
    Raises TiebenchError when this Python has no readable standard library.
    """
    folder = Path(sysconfig.get_path("stdlib"))
    if not (folder / TOPICS).is_file():
        raise TiebenchError(
            f"this Python has no source of its standard library ({folder / TOPICS} not found)",
            "Choose another corpus: tiebench list corpora",
        )
    articles = {title: [text] for title, text in _read_topics(folder / TOPICS)}
    for file in sorted(folder.rglob("*.py")):
        names = file.relative_to(folder).with_suffix("").parts
        if LEFT_OUT.isdisjoint(names):
            title = f"Module {'.'.join(names).removesuffix('.__init__')}"
            articles[title] = [*_read_docstrings(file), *_read_comments(file)]
    return articles


def _read_topics(file: Path) -> Iterator[tuple[str, str]]:
    """The title and the text of every page of the language reference; they are the values of one literal."""
    table = next(node for node in ast.walk(_parse_file(file)) if isinstance(node, ast.Dict))
    for page in ast.literal_eval(table).values():
        title, _, text = page.strip().partition("\n")
        yield title.replace('"', ""), text


def _read_docstrings(file: Path) -> Iterator[str]:
    """The docstrings of a module, level by level; expressions are not looked into, they hold none."""
    level: list[ast.AST] = [_parse_file(file)]
    while level:
        for node in level:
            if isinstance(node, DOCUMENTED) and (docstring := ast.get_docstring(node)):
                yield docstring
        level = [child for node in level for child in ast.iter_child_nodes(node) if not isinstance(child, ast.expr)]


def _read_comments(file: Path) -> Iterator[str]:
    """Runs of lines that are comments and nothing else."""
    with tokenize.open(file) as stream:
        for comment in COMMENT.findall(stream.read()):
            yield COMMENT_MARK.sub("", comment)


def _parse_file(file: Path) -> ast.Module:
    """The standard library's own sources may warn, about an invalid escape for instance: no concern of the user's."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return ast.parse(file.read_bytes())
