"""One matrix at both ends: the vector of a token is also what scores it (Press & Wolf 2017; Inan et al. 2017)."""

from torch import Tensor

from tiebench.errors import UsageError
from tiebench.experiment.embedding_config import EmbeddingConfig, TiedConfig
from tiebench.layers.initialisation import fill_from
from tiebench.tying.token_embedding import OpenGenerator, TokenEmbedding


class Tied(TokenEmbedding):
    """A single parameter, used twice; its gradient is the sum of what the two ends ask for."""

    roles = {"shared": "shared"}

    def make_embeddings(self) -> None:
        self.shared = self.new_embedding()

    @property
    def input_embedding(self) -> Tensor:
        return self.shared

    @property
    def output_embedding(self) -> Tensor:
        return self.shared

    def initialise_embeddings(self, open_generator: OpenGenerator) -> None:
        fill_from(self.shared, self.config.init, generator=open_generator("embedding/input"))


def build(
    tie: TiedConfig, config: EmbeddingConfig, *, vocabulary_size: int, width: int, has_source: bool = False
) -> Tied:
    """Raises UsageError for an `output_init`, which would fill nothing."""
    check_output_init(config)
    return Tied(config, vocabulary_size=vocabulary_size, width=width, has_source=has_source)


def check_output_init(config: EmbeddingConfig) -> None:
    """Raises UsageError where an embedding without an output matrix of its own is to fill one."""
    if config.output_init is not None:
        raise UsageError(
            "embedding.output_init: a tied embedding has no output embedding of its own to fill",
            "write it into the untied arm, such as `untied: {tie: false, embedding: {output_init: {normal: 0.02}}}`",
        )
