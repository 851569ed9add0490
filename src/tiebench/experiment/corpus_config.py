"""Which text: the named corpora, one's own files, and how text becomes tokens."""

from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from tiebench.experiment.block import Block, Positive
from tiebench.experiment.limits import LARGEST_SEED

SPLITS = ("train", "valid", "test")

Fraction = Annotated[float, Field(gt=0, lt=1)]


class PTBConfig(Block):
    """The Penn Treebank as Mikolov prepared it: lower case, no punctuation, 10,000 words (LDC licence)."""

    type: Literal["ptb"] = Field(description="Names the corpus.")


class WikiText2Config(Block):
    """Two million words of good Wikipedia articles, rare words replaced by `<unk>`, 33,278 words."""

    type: Literal["wikitext-2"] = Field(description="Names the corpus.")


class WikiText2RawConfig(Block):
    """The articles of WikiText-2 with every word as it was written, for bpe and bytes."""

    type: Literal["wikitext-2-raw"] = Field(description="Names the corpus.")


class WikiText103Config(Block):
    """A hundred million words of good Wikipedia articles, rare words replaced by `<unk>`, 267,735 words."""

    type: Literal["wikitext-103"] = Field(description="Names the corpus.")


class WikiText103RawConfig(Block):
    """The articles of WikiText-103 with every word as it was written, for bpe and bytes."""

    type: Literal["wikitext-103-raw"] = Field(description="Names the corpus.")


class PydocsConfig(Block):
    """The documentation that every Python carries, as English prose: always there, about 400,000 tokens."""

    type: Literal["pydocs"] = Field(description="Names the corpus.")


class SyntheticConfig(Block):
    """Text drawn from a source whose loss is known, with a knob for how far tying's premise holds.

    A hidden state emits words, and a word decides the next state. With `agreement` 1 a word has the same role as
    context and as target, which is what a shared vector presumes; at 0 the two roles are independent.
    `tokens` are those of the training text (valid and test are a tenth of it each), drawn with `seed`. The loss of the
    source itself is exact, by the forward algorithm, and stands in the record.
    """

    type: Literal["synthetic"] = Field(description="Names the corpus.")
    words: Annotated[int, Field(ge=2, le=20_000)] = Field(
        default=1000, description="How many different words there are."
    )
    states: Annotated[int, Field(ge=2, le=256)] = Field(
        default=16, description="How many hidden states the source has; at most as many as words."
    )
    tokens: Annotated[int, Field(ge=100, le=100_000_000)] = Field(
        default=100_000, description="Tokens of the training text; valid and test have a tenth of it each."
    )
    agreement: Annotated[float, Field(ge=0, le=1)] = Field(
        default=1.0, description="How far a word means the same as context and as target, 0 to 1."
    )
    seed: Annotated[int, Field(ge=0, le=LARGEST_SEED)] = Field(
        default=1, description="Seed by which the text is drawn."
    )

    @model_validator(mode="after")
    def _every_state_has_a_word(self) -> "SyntheticConfig":
        if self.states > self.words:
            raise ValueError(f"states ({self.states}) must not be more than words ({self.words})")
        return self


class TextConfig(Block):
    """Your own text, UTF-8, one sentence or paragraph a line: three files, or one `file` and how to `split` it.

    `split: [0.9, 0.05, 0.05]` gives the first 90 % of the lines to train, the next 5 % to valid and the last to test. A
    relative path starts at the folder of the experiment file, else at the current folder, else at the data folder.
    """

    type: Literal["text"] = Field(description="Names the corpus.")
    train: str | None = Field(default=None, description="File with the training text.")
    valid: str | None = Field(default=None, description="File with the validation text.")
    test: str | None = Field(default=None, description="File with the test text.")
    file: str | None = Field(default=None, description="One file with all of the text, instead of three.")
    split: tuple[Fraction, Fraction, Fraction] | None = Field(
        default=None, description="Shares of the file's lines for train, valid and test; they add up to 1."
    )

    @field_validator("split", mode="before")
    @classmethod
    def _from_list(cls, value: Any) -> Any:
        return tuple(value) if isinstance(value, list) else value

    @model_validator(mode="after")
    def _three_files_or_one(self) -> "TextConfig":
        given = [key for key in ("train", "valid", "test") if getattr(self, key) is not None]
        if self.file is not None and given:
            raise ValueError(f"give 'file' or {', '.join(map(repr, given))}, not both")
        if self.file is None and len(given) < 3:
            missing = [key for key in ("train", "valid", "test") if key not in given]
            raise ValueError(f"{', '.join(map(repr, missing))} needed; or one 'file' and how to 'split' it")
        return self

    @model_validator(mode="after")
    def _file_is_split(self) -> "TextConfig":
        if (self.file is None) != (self.split is None):
            raise ValueError("'file' and 'split' go together: file: all.txt, split: [0.9, 0.05, 0.05]")
        if self.split is not None and abs(sum(self.split) - 1) > 1e-6:
            raise ValueError(f"the three parts of 'split' must add up to 1, not {sum(self.split):g}")
        return self


class Multi30kConfig(Block):
    """29,000 captions of photographs, in English and German, for translation; scored on the test set of 2016."""

    type: Literal["multi30k"] = Field(description="Names the corpus.")
    direction: Literal["en-de", "de-en"] = Field(
        default="en-de", description="From which language into which: English (en), German (de)."
    )


class SplitFilesConfig(Block):
    """Three files of one language."""

    train: str = Field(description="File with the training text.")
    valid: str = Field(description="File with the validation text.")
    test: str = Field(description="File with the test text.")


class ParallelConfig(Block):
    """Your own translated text, UTF-8: line by line, each file of `target` translates that of `source`.

    A relative path starts at the folder of the experiment file, else at the current folder, else at the data folder.
    """

    type: Literal["parallel"] = Field(description="Names the corpus.")
    source: SplitFilesConfig = Field(description="The files that are translated: train, valid and test.")
    target: SplitFilesConfig = Field(description="The files with their translations: train, valid and test.")


CorpusConfig = Annotated[
    Multi30kConfig
    | ParallelConfig
    | PTBConfig
    | PydocsConfig
    | SyntheticConfig
    | TextConfig
    | WikiText103Config
    | WikiText103RawConfig
    | WikiText2Config
    | WikiText2RawConfig,
    Field(discriminator="type"),
]


class WordsConfig(Block):
    """A closed vocabulary of the training split's words; what is not in it becomes `<unk>`."""

    type: Literal["words"] = Field(description="Names the vocabulary.")
    size: Annotated[int, Field(gt=0, le=10_000_000)] | None = Field(
        default=None, description="At most this many entries, the most frequent words; all unless given."
    )
    min_count: Positive = Field(default=1, description="How often a word must stand in the training text.")


class BPEConfig(Block):
    """Byte-level byte pair encoding, trained on the training split (Sennrich et al. 2016).

    For translation it is one vocabulary, trained on both languages together.
    """

    type: Literal["bpe"] = Field(description="Names the vocabulary.")
    size: Annotated[int, Field(ge=257, le=1_000_000)] = Field(
        default=8192, description="How many entries, the 256 bytes among them."
    )


class BytesConfig(Block):
    """The 256 byte values."""

    type: Literal["bytes"] = Field(description="Names the vocabulary.")


class CheckpointVocabularyConfig(Block):
    """The vocabulary of the checkpoint that `initialise_from` names; it need not be written."""

    type: Literal["checkpoint"] = Field(description="Names the vocabulary.")


VocabularyConfig = Annotated[
    WordsConfig | BPEConfig | BytesConfig | CheckpointVocabularyConfig, Field(discriminator="type")
]
