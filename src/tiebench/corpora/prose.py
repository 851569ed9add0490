"""Documentation becomes prose: paragraphs of sentences, punctuation split off, code and markup left out."""

import re
import textwrap
from collections.abc import Iterator

COMMON_WORDS = frozenset("a an and are as at be been but by can for from has have if in into is it its may must not of "
                         "on or so than that the their then there these they this to was when which will with you".split())
MARKUP = (
    (re.compile(r":[\w:+-]+:`~?([^`]+)`"), r"\1"),                      # :role:`name`
    (re.compile(r"``([^`]+)``"), r"\1"),                                # ``literal``
    (re.compile(r"`+([^`']+)[`']+"), r"\1"),                            # `name' and `name`
    (re.compile(r"(?<![\w*])\*{1,2}(\w[^*]*?\w|\w)\*{1,2}(?![\w*])"), r"\1"),  # *emphasis* and **strong**
    (re.compile(r"\[(?:\d+|#\w*)\]_?"), ""),                            # [1] footnotes
    (re.compile(r"(?<=\w)\(\)"), ""),                                   # name()
    (re.compile(r"::(?=\s|$)"), ":"),
    (re.compile(r"\s--\s|---"), " - "),
)
BULLET = re.compile(r"(?:[-*+•]|\(?[0-9a-z]{1,2}[.)]|\[\d+\])\s+")
CODE_LINE = re.compile(r"\s*(>>>|\.\.\. |\.\. |\$ |@\w|#|\||\+[-=]|:\w+:|%|def |class |import |from \w+ import|return )")
CODE_MARK = re.compile(r"::=|->|==|!=|<=|>=|\+=|:=|\w\(\w*[,=]|= |\\|\{|\}|\w=\w|<[a-z]|__\s|://|@|\|")
RULE = re.compile(r"\W{3,}")
TOKEN = re.compile(r"[A-Za-z]+(?:['’](?!s\b)[a-z]+)?(?:[-.][A-Za-z0-9]+)*|\w+(?:[.,-]\w+)*|['’]s\b|\.\.\.|[^\w\s]")
