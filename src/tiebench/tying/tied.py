"""One table at both ends: the vector of a token is also what scores it (Press & Wolf 2017; Inan et al. 2017)."""

from typing import Literal

from torch import Tensor

from tiebench.errors import UsageError
from tiebench.experiment import schema
from tiebench.tying.token_embedding import Lexicon, Stream, fill


class Options(schema.Block):
    """`tie: true`."""

    type: Literal["tied"]


class Tied(Lexicon):
    """A single parameter, used twice; its gradient is the sum of what the two ends ask for."""

    roles = {"table": "shared"}

    def make_tables(self) -> None:
        self.table = self.new_table()

    @property
    def input_table(self) -> Tensor:
        return self.table

    @property
    def output_table(self) -> Tensor:
        return self.table

    def initialise_tables(self, stream: Stream) -> None:
        fill(self.table, self.options.init, stream("embedding/input"))


def build(options: Options, lexicon: schema.Lexicon, *, vocabulary_size: int, width: int) -> Tied:
    """Raises UsageError for an `output_init`, which would fill nothing."""
    if lexicon.output_init is not None:
        raise UsageError(
            "lexicon.output_init: a tied lexicon has no output table of its own to fill",
            "write it into the untied arm, such as `untied: {tie: false, lexicon: {output_init: {normal: 0.02}}}`",
        )
    return Tied(lexicon, vocabulary_size=vocabulary_size, width=width)
