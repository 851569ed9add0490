"""A hundred million words of good Wikipedia articles, rare words replaced by `<unk>`, 267,735 words."""

from pathlib import Path
from typing import Literal

from tiebench.corpora.corpus import Corpus
from tiebench.corpora.catalogue import open_source
from tiebench.corpora.wikitext import declare_wikitext
from tiebench.experiment.schema import Block


class Options(Block):
    """Nothing to choose."""

    type: Literal["wikitext-103"]


SOURCE = declare_wikitext(
    "wikitext-103",
    title="WikiText-103",
    suffix="tokens",
    expected_tokens={"train": 103_227_021, "valid": 217_646, "test": 245_569},
    expected_vocabulary=267_735,
)


def build(options: Options, *, data_dir: Path | None) -> Corpus:
    """Raises TiebenchError when the text cannot be found or has other counts."""
    return open_source(SOURCE, data_dir=data_dir)
