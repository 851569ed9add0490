"""One matrix at three places of a translating model: it embeds source and target, and scores (Press & Wolf 2017, 4)."""

from tiebench.errors import UsageError
from tiebench.experiment.embedding_config import EmbeddingConfig, ThreeWayConfig
from tiebench.tying.tied import Tied, check_output_init


class ThreeWay(Tied):
    """A single parameter, used three times; its gradient is the sum of what the three places ask for."""

    shares_source = True


def build(
    tie: ThreeWayConfig, config: EmbeddingConfig, *, vocabulary_size: int, width: int, has_source: bool = False
) -> ThreeWay:
    """Raises UsageError where nothing is translated, and for an `output_init`, which would fill nothing."""
    if not has_source:
        raise UsageError("tie: three-way is for translation, and there is no source", "write tie: true")
    check_output_init(config)
    return ThreeWay(config, vocabulary_size=vocabulary_size, width=width, has_source=has_source)
