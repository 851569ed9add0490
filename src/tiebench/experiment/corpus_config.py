"""Which text: the named corpora, one's own files, and how text becomes tokens."""

from typing import Annotated, Literal

from pydantic import Field

from tiebench.experiment.block import Block, Positive


class PTBConfig(Block):
    """The Penn Treebank as Mikolov prepared it: lower case, no punctuation, 10,000 words (LDC licence)."""

    type: Literal["ptb"]


class WikiText2Config(Block):
    """Two million words of good Wikipedia articles, rare words replaced by `<unk>`, 33,278 words."""

    type: Literal["wikitext-2"]


class WikiText2RawConfig(Block):
    """The articles of WikiText-2 with every word as it was written, for bpe and bytes."""

    type: Literal["wikitext-2-raw"]


class WikiText103Config(Block):
    """A hundred million words of good Wikipedia articles, rare words replaced by `<unk>`, 267,735 words."""

    type: Literal["wikitext-103"]


class WikiText103RawConfig(Block):
    """The articles of WikiText-103 with every word as it was written, for bpe and bytes."""

    type: Literal["wikitext-103-raw"]


class PydocsConfig(Block):
    """The documentation that every Python carries, as English prose: always there, about 400,000 tokens."""

    type: Literal["pydocs"]


class TextConfig(Block):
    """Your own text: three UTF-8 files, one sentence or paragraph a line.

    A relative path starts at the current folder, else at the data folder.
    """

    type: Literal["text"]
    train: str
    valid: str
    test: str


CorpusConfig = Annotated[
    PTBConfig
    | PydocsConfig
    | TextConfig
    | WikiText103Config
    | WikiText103RawConfig
    | WikiText2Config
    | WikiText2RawConfig,
    Field(discriminator="type"),
]


class WordsConfig(Block):
    """A closed vocabulary of the training split's words; what is not in it becomes `<unk>`."""

    type: Literal["words"]
    size: Positive | None = None
    min_count: Positive = 1


class BPEConfig(Block):
    """Byte-level byte pair encoding, trained on the training split (Sennrich et al. 2016)."""

    type: Literal["bpe"]
    size: Annotated[int, Field(ge=257)] = 8192


class BytesConfig(Block):
    """The 256 byte values."""

    type: Literal["bytes"]


VocabularyConfig = Annotated[WordsConfig | BPEConfig | BytesConfig, Field(discriminator="type")]
