"""Where the articles of a text begin, in text that says so: WikiText's ` = Title = ` between blank lines.

`pydocs` has such titles too, but its articles are no blocks: one module is a sixth of the test text, so that they would
count as no more than four, and runs of 1,000 tokens give the same error to a tenth.
"""

import re
from itertools import accumulate, pairwise

from tiebench.corpora.corpus import Corpus
from tiebench.corpora.vocabulary import Vocabulary

TITLE = re.compile(r" = [^=]+ = ?")  # that of a section has two signs or more on each side


def find_article_starts(corpus: Corpus, split: str, *, vocabulary: Vocabulary, num_tokens: int) -> list[int]:
    """The place of the first token of each title among the `num_tokens` of the split, increasing.

    Empty where the corpus has no titles, and where tokens reach over the beginning of an article, as those of some
    checkpoints' tokenizers do. Raises TiebenchError when the text cannot be read.
    """
    if not corpus.has_titles:
        return []
    lines = list(corpus.lines(split))
    is_blank = [True, *(not line.strip() for line in lines), True]  # the lines' own places are one higher
    titles = [
        place for place, line in enumerate(lines) if TITLE.fullmatch(line) and is_blank[place] and is_blank[place + 2]
    ]
    texts = ["".join(f"{line}\n" for line in lines[start:end]) for start, end in pairwise([0, *titles, len(lines)])]
    counts = [len(vocabulary.encode_piece(text)[0]) if text else 0 for text in texts]
    return list(accumulate(counts[:-1])) if sum(counts) == num_tokens else []
