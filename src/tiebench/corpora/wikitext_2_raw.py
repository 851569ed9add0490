"""The articles of WikiText-2 with every word as it was written, for bpe and bytes."""

from pathlib import Path
from typing import Literal

from tiebench.corpora.corpus import Corpus
from tiebench.corpora.catalogue import open_source
from tiebench.corpora.wikitext import declare_wikitext
from tiebench.experiment.schema import Block


class Options(Block):
    """Nothing to choose."""

    type: Literal["wikitext-2-raw"]


SOURCE = declare_wikitext(
    "wikitext-2-raw",
    title="WikiText-2, raw",
    suffix="raw",
)


def build(options: Options, *, data_dir: Path | None) -> Corpus:
    """Raises TiebenchError when the text cannot be found or has other counts."""
    return open_source(SOURCE, data_dir=data_dir)
