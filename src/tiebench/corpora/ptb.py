"""The Penn Treebank's Wall Street Journal text as Mikolov prepared it: lower case, no punctuation, 10,000 words.

Licensed by the LDC: tiebench carries none of it and writes none of it outside the cache.
"""

from pathlib import Path
from typing import Literal

from tiebench.corpora.corpus import Corpus
from tiebench.corpora.hub import HubText
from tiebench.corpora.catalogue import Source, open_source
from tiebench.experiment.schema import Block


class Options(Block):
    """Nothing to choose."""

    type: Literal["ptb"]


def restore_line(row: str) -> str:
    """The published files have a space on either side of the sentence; the hub's rows do not."""
    return f" {row.strip()} \n"


SOURCE = Source(
    name="ptb",
    title="Penn Treebank (Mikolov)",
    citation="Marcus et al. 1993, Building a large annotated corpus of English: the Penn Treebank, "
             "as prepared by Mikolov et al. 2010, Recurrent neural network based language model",
    licence="Linguistic Data Consortium (LDC), not redistributable",
    download="Download simple-examples.tgz from Tomas Mikolov's page (www.fit.vutbr.cz/~imikolov/rnnlm) and unpack "
             "it: the text is simple-examples/data/ptb.{train,valid,test}.txt.",
    layouts=("ptb/ptb.{split}.txt", "simple-examples/data/ptb.{split}.txt", "ptb.{split}.txt",
             "data/ptb.{split}.txt", "penn/{split}.txt", "ptb/{split}.txt"),
    hub=HubText("hf://datasets/ptb-text-only/ptb_text_only@refs%2Fconvert%2Fparquet/penn_treebank/{split}/0000.parquet",
                column="sentence"),
    restore_line=restore_line,
    expected_tokens={"train": 929_589, "valid": 73_760, "test": 82_430},
    expected_vocabulary=10_000,
)


def build(options: Options, *, data_dir: Path | None) -> Corpus:
    """Raises TiebenchError when the text cannot be found or has other counts."""
    return open_source(SOURCE, data_dir=data_dir)
