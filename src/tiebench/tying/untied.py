"""Two tables: one turns tokens into vectors, the other scores them (the baseline; Zaremba et al. 2014)."""

from typing import Literal

from torch import Tensor

from tiebench.experiment import schema
from tiebench.tying.token_embedding import Lexicon, Stream, fill


class Options(schema.Block):
    """`tie: false`."""

    type: Literal["untied"]


class Untied(Lexicon):
    """Two parameters; `output_init` may fill the second one differently."""

    roles = {"input": "input", "output": "output"}

    def make_tables(self) -> None:
        self.input = self.new_table()
        self.output = self.new_table()

    @property
    def input_table(self) -> Tensor:
        return self.input

    @property
    def output_table(self) -> Tensor:
        return self.output

    def initialise_tables(self, stream: Stream) -> None:
        fill(self.input, self.options.init, stream("embedding/input"))
        fill(self.output, self.options.output_init or self.options.init, stream("embedding/output"))


def build(options: Options, lexicon: schema.Lexicon, *, vocabulary_size: int, width: int) -> Untied:
    return Untied(lexicon, vocabulary_size=vocabulary_size, width=width)
