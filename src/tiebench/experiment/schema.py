"""What an experiment file may say, typed to the leaf; nothing here needs torch."""

import re
from typing import Any, get_args

from tiebench.experiment.architecture_config import ArchitectureConfig
from tiebench.experiment.block import Block
from tiebench.experiment.corpus_config import CorpusConfig, VocabularyConfig, WordsConfig
from tiebench.experiment.embedding_config import EmbeddingConfig, TieConfig
from tiebench.experiment.evaluation_config import EvaluationConfig
from tiebench.experiment.training_config import TrainingConfig

NAME = re.compile(r"[a-z0-9][a-z0-9._+-]*")


class ArmSpec(Block):
    """One arm without its seed: everything that a run's result depends on."""

    corpus: CorpusConfig
    vocabulary: VocabularyConfig = WordsConfig(type="words")
    architecture: ArchitectureConfig
    embedding: EmbeddingConfig = EmbeddingConfig()
    tie: TieConfig
    training: TrainingConfig
    evaluation: EvaluationConfig = EvaluationConfig()

    def for_split(self, split: str) -> "ArmSpec":
        """The spec by which a split is scored: that of the validation split may have rows of its own."""
        rows = self.evaluation.valid_batch_size
        if split != "valid" or rows is None:
            return self
        evaluation = self.evaluation.model_copy(update={"batch_size": rows})
        return self.model_copy(update={"evaluation": evaluation})


def list_types(union: Any) -> dict[str, type[Block]]:
    """The members of a union such as `ArchitectureConfig`, by the `type` that names them in YAML, alphabetically."""
    members = {get_args(member.model_fields["type"].annotation)[0]: member for member in get_args(get_args(union)[0])}
    return dict(sorted(members.items()))


CORPORA = list_types(CorpusConfig)
ARCHITECTURES = list_types(ArchitectureConfig)
TIES = list_types(TieConfig)
