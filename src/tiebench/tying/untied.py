"""Two matrices: one turns tokens into vectors, the other scores them (the baseline; Zaremba et al. 2014)."""

from torch import Tensor

from tiebench.experiment.embedding_config import EmbeddingConfig, UntiedConfig
from tiebench.layers.initialisation import fill_from
from tiebench.tying.token_embedding import OpenGenerator, TokenEmbedding


class Untied(TokenEmbedding):
    """Two parameters; `output_init` may fill the second one differently."""

    roles = {"input": "input", "output": "output"}

    def make_embeddings(self) -> None:
        self.input = self.new_embedding()
        self.output = self.new_embedding()

    @property
    def input_embedding(self) -> Tensor:
        return self.input

    @property
    def output_embedding(self) -> Tensor:
        return self.output

    def initialise_embeddings(self, open_generator: OpenGenerator) -> None:
        fill_from(self.input, self.config.init, generator=open_generator("embedding/input"))
        output_init = self.config.output_init or self.config.init
        fill_from(self.output, output_init, generator=open_generator("embedding/output"))


def build(
    tie: UntiedConfig, config: EmbeddingConfig, *, vocabulary_size: int, width: int, has_source: bool = False
) -> Untied:
    return Untied(config, vocabulary_size=vocabulary_size, width=width, has_source=has_source)
