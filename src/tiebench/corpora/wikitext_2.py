"""Two million words of good Wikipedia articles, rare words replaced by `<unk>`, 33,278 words."""

from pathlib import Path
from typing import Literal

from tiebench.corpora.corpus import Corpus
from tiebench.corpora.catalogue import open_source
from tiebench.corpora.wikitext import declare_wikitext
from tiebench.experiment.schema import Block


class Options(Block):
    """Nothing to choose."""

    type: Literal["wikitext-2"]


SOURCE = declare_wikitext(
    "wikitext-2",
    title="WikiText-2",
    suffix="tokens",
    expected_tokens={"train": 2_088_628, "valid": 217_646, "test": 245_569},
    expected_vocabulary=33_278,
)


def build(options: Options, *, data_dir: Path | None) -> Corpus:
    """Raises TiebenchError when the text cannot be found or has other counts."""
    return open_source(SOURCE, data_dir=data_dir)
