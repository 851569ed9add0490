"""What an experiment file may say, typed to the leaf; nothing here needs torch."""

import re
from typing import Any, get_args

from pydantic import model_validator

from tiebench.experiment.architecture_config import ArchitectureConfig, EncoderDecoderConfig
from tiebench.experiment.block import Block
from tiebench.experiment.checkpoint_config import InitialiseFromConfig
from tiebench.experiment.corpus_config import (
    CheckpointVocabularyConfig,
    CorpusConfig,
    Multi30kConfig,
    ParallelConfig,
    VocabularyConfig,
    WordsConfig,
)
from tiebench.experiment.embedding_config import (
    EmbeddingConfig,
    ThreeWayConfig,
    TieConfig,
    TiedConfig,
    UntiedConfig,
    UntiedLateConfig,
)
from tiebench.experiment.evaluation_config import EvaluationConfig
from tiebench.experiment.training_config import AugmentedConfig, TrainingConfig

TRANSLATED = (Multi30kConfig, ParallelConfig)
OF_UNBROKEN_TEXT = ("batch_size", "valid_batch_size", "context", "stride")
FROM_CHECKPOINTS = ("gpt2", "llama")
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
    initialise_from: InitialiseFromConfig | None = None

    @model_validator(mode="after")
    def _translation_needs_both(self) -> "ArmSpec":
        translated, translates = (
            isinstance(self.corpus, TRANSLATED),
            isinstance(self.architecture, EncoderDecoderConfig),
        )
        if translates and not translated:
            raise ValueError(
                f"architecture encoder_decoder translates, and {self.corpus.type} has no translation: "
                "take corpus: multi30k or parallel, or another architecture"
            )
        if translated and not translates:
            raise ValueError(
                f"corpus {self.corpus.type} is for translation, and a {self.architecture.type} reads one text: "
                "take architecture: encoder_decoder, or another corpus"
            )
        for key in ("beam", "length_penalty"):
            if getattr(self.evaluation, key) is not None and not translated:
                raise ValueError(f"evaluation.{key} is for translation, and {self.corpus.type} has no translation")
        return self

    @model_validator(mode="after")
    def _three_places_are_there(self) -> "ArmSpec":
        if isinstance(self.tie, ThreeWayConfig) and not isinstance(self.architecture, EncoderDecoderConfig):
            raise ValueError(
                f"tie three-way is for translation: a {self.architecture.type} has no source; write tie: true"
            )
        return self

    @model_validator(mode="after")
    def _no_word_is_lost_in_translation(self) -> "ArmSpec":
        if isinstance(self.corpus, TRANSLATED) and isinstance(self.vocabulary, WordsConfig):
            raise ValueError(
                "vocabulary words would lose words in translation; write vocabulary: {type: bpe, size: 8000}"
            )
        return self

    @model_validator(mode="after")
    def _nothing_is_asked_for_in_vain(self) -> "ArmSpec":
        """Refuse options that have no meaning in translation, where each pair of sentences stands by itself."""
        if isinstance(self.corpus, TRANSLATED):
            given = {
                **{f"evaluation.{key}": getattr(self.evaluation, key) is not None for key in OF_UNBROKEN_TEXT},
                "training.drop_partial_window": self.training.drop_partial_window,
                "training.reduction": self.training.reduction == "window_sum",
                "training.compile": self.training.compile,
                "training.tokens": self.training.tokens is not None,
            }
            for name in (name for name, is_given in given.items() if is_given):
                raise ValueError(f"{name} has no meaning in translation, where each sentence stands by itself")
        return self

    @model_validator(mode="after")
    def _model_can_be_cut(self) -> "ArmSpec":
        if self.training.sharding and isinstance(self.tie, UntiedLateConfig):
            raise ValueError("training.sharding: a tie that is undone while training cannot be cut; remove one of them")
        if self.training.sharding and isinstance(self.corpus, TRANSLATED):
            raise ValueError("training.sharding: a model that translates cannot be cut; remove it")
        return self

    @model_validator(mode="after")
    def _bands_go_together(self) -> "ArmSpec":
        """What an adaptive embedding cannot be combined with: what needs one matrix, or all scores at once."""
        if self.embedding.adaptive is None:
            return self
        objective, optimizer = self.training.objective, self.training.optimizer
        if self.embedding.adaptive.share_projections and isinstance(self.tie, UntiedConfig):
            raise ValueError("embedding.adaptive.share_projections is for tie: true; an untied arm leaves it out")
        given = {
            "architecture encoder_decoder": isinstance(self.architecture, EncoderDecoderConfig),
            f"tie {self.tie.type}": not isinstance(self.tie, TiedConfig | UntiedConfig),
            "training.objective augmented": isinstance(objective, AugmentedConfig),
            "training.objective.label_smoothing": getattr(objective, "label_smoothing", None) is not None,
            "training.optimizer.clip_lookups": bool(optimizer.clip_lookups),
            "training.sharding": self.training.sharding,
            "training.measure_gradients": self.training.measure_gradients,
            "initialise_from": self.initialise_from is not None,
        }
        for name in (name for name, is_given in given.items() if is_given):
            raise ValueError(
                f"{name} does not go with embedding.adaptive, which has vectors of several widths and scores words "
                "band by band: remove one of the two"
            )
        return self

    @model_validator(mode="after")
    def _vocabulary_is_the_checkpoints(self) -> "ArmSpec":
        taken_over = isinstance(self.vocabulary, CheckpointVocabularyConfig)
        if taken_over and self.initialise_from is None:
            raise ValueError("vocabulary checkpoint is that of initialise_from: write initialise_from: DIR too")
        if self.initialise_from is not None and not taken_over:
            raise ValueError("initialise_from takes the vocabulary of its checkpoint over: remove vocabulary")
        return self

    @model_validator(mode="after")
    def _checkpoint_fits(self) -> "ArmSpec":
        if self.initialise_from is None:
            return self
        if self.architecture.type not in FROM_CHECKPOINTS:
            raise ValueError(
                f"initialise_from reads {' and '.join(FROM_CHECKPOINTS)}, and the architecture is "
                f"{self.architecture.type}"
            )
        if self.initialise_from.tie_by is not None and isinstance(self.tie, UntiedConfig):
            raise ValueError("initialise_from.tie_by is for an arm that ties, and this one does not: remove it here")
        return self

    def for_split(self, split: str) -> "ArmSpec":
        """The spec by which a split is scored: the validation split may have a number of rows of its own."""
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
