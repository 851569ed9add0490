"""A language model is a token embedding around an architecture; here the two meet, are counted and are filled."""

from collections.abc import Callable
from functools import partial
from importlib import import_module
from types import ModuleType
from typing import Any

import torch
from torch import Tensor, nn

from tiebench.errors import TiebenchError, UsageError
from tiebench.experiment.architecture_config import ArchitectureConfig
from tiebench.experiment.embedding_config import EmbeddingConfig, TieConfig
from tiebench.experiment.schema import ArmSpec
from tiebench.experiment.training_config import AugmentedConfig, CrossEntropyConfig
from tiebench.layers.architecture import Architecture, SourceVectors
from tiebench.layers.dropout import set_generator
from tiebench.layers.row_share import RowShare
from tiebench.models.generators import open_generator
from tiebench.models.sentence_pairs import PADDING, SentencePairs
from tiebench.results.record import Parameters
from tiebench.tying.token_embedding import TokenEmbedding
from tiebench.tying.untied_late import UntiedLate


class LanguageModel(nn.Module):
    """Tokens `(batch, time)` to next-token scores `(batch, time, vocabulary)`; in translation, of the target's."""

    embedding: TokenEmbedding
    architecture: Architecture

    def __init__(self, embedding: TokenEmbedding, architecture: Architecture) -> None:
        super().__init__()
        self.embedding = embedding
        self.architecture = architecture

    def set_dropout_generator(self, generator: torch.Generator | None, *, rows: RowShare | None = None) -> None:
        """Let all dropout draw from `generator` from now on: that of words, then the architecture's own.

        `rows` are those of each batch that the model sees (None: all).
        """
        self.embedding.dropout_generator, self.embedding.dropout_rows = generator, rows
        set_generator(self.architecture, generator, rows=rows)

    def encode(self, tokens: Tensor | SentencePairs, state: Any = None) -> tuple[Tensor, Any]:
        """Tokens `(batch, time)` to hidden vectors `(batch, time, width)` and the state after them.

        Of pairs of sentences, the hidden vectors are those of the target.
        """
        if isinstance(tokens, SentencePairs):
            tokens, state = tokens.target, self.embed_source(tokens.source)
        return self.architecture(self.embedding.embed(tokens), state)

    def embed_source(self, source: Tensor) -> SourceVectors:
        """What is translated, `(batch, time)` with padding, as the architecture reads it."""
        return SourceVectors(self.embedding.embed_source(source.clamp(min=0)), source != PADDING)

    def forward(self, tokens: Tensor | SentencePairs, state: Any = None) -> Tensor:
        hidden, _ = self.encode(tokens, state)
        return self.embedding.logits(hidden)


def build_model(spec: ArmSpec, *, vocabulary_size: int) -> LanguageModel:
    """An uninitialised model on the current default device. Raises UsageError for options that do not go together."""
    architecture = build_architecture(spec.architecture)
    embedding = build_embedding(
        spec.tie,
        config=spec.embedding,
        vocabulary_size=vocabulary_size,
        width=architecture.width,
        has_source=architecture.reads_source,
    )
    _check_lengths(spec, architecture)
    _check_roles(spec, embedding)
    return LanguageModel(embedding, architecture)


def build_architecture(config: ArchitectureConfig) -> Architecture:
    """An uninitialised architecture: vectors `(batch, time, width)` to vectors of the same shape, and a state."""
    return _import_type("architectures", config.type).build(config)


def build_embedding(
    tie: TieConfig, *, config: EmbeddingConfig, vocabulary_size: int, width: int, has_source: bool = False
) -> TokenEmbedding:
    """An uninitialised token embedding. Raises UsageError for options that mean nothing under this tie."""
    sizes = {"vocabulary_size": vocabulary_size, "width": width, "has_source": has_source}
    file = tie.type if config.adaptive is None else "adaptive"
    return _import_type("tying", file).build(tie, config, **sizes)


def _import_type(room: str, name: str) -> ModuleType:
    """`architecture: {type: lstm}` is `architectures/lstm.py`; it is imported when it is built."""
    return import_module(f"tiebench.{room}.{name.replace('-', '_')}")


def initialise_model(model: LanguageModel, *, seed: int) -> None:
    """Fill every parameter from named generators; the model must be on the CPU, so that devices agree."""
    model.embedding.initialise(partial(open_generator, seed))
    model.architecture.initialise(open_generator(seed, "architecture"))


def build_on_meta(spec: ArmSpec, *, vocabulary_size: int) -> LanguageModel:
    """The model without memory: for counting and for finding out early that it cannot be built."""
    with torch.device("meta"):
        return build_model(spec, vocabulary_size=vocabulary_size)


def build_to_count(spec: ArmSpec, *, vocabulary_size: int) -> LanguageModel:
    """The model as it is when training ends, without memory."""
    model = build_on_meta(spec, vocabulary_size=vocabulary_size)
    if isinstance(model.embedding, UntiedLate):
        model.embedding.untie()
    return model


def compile_encode(model: LanguageModel) -> Callable[..., tuple[Tensor, Any]]:
    """`encode` through torch.compile. It raises TiebenchError where torch cannot compile."""
    from torch._dynamo.exc import ShortenTraceback

    compiled = torch.compile(model.encode)

    def encode(tokens: Tensor, state: Any) -> tuple[Tensor, Any]:
        try:
            return compiled(tokens, state)
        except ShortenTraceback as error:
            what = str(error).strip().splitlines()[0]
            hint = "it needs g++, and Triton on a GPU: install them, or train with --set training.compile=false"
            raise TiebenchError(f"training.compile: torch cannot compile this model here: {what}", hint) from error

    return encode


def count_parameters(model: LanguageModel) -> Parameters:
    """Every parameter once, by identity, under its role; the roles add up to the total."""
    counts: dict[str, int] = dict.fromkeys(("input", "output", "shared", "other", "architecture"), 0)
    seen: set[int] = set()
    for name, parameter in model.named_parameters(remove_duplicate=False):
        if id(parameter) in seen:
            continue
        seen.add(id(parameter))
        part, _, local = name.partition(".")
        role = model.embedding.roles.get(local, "other") if part == "embedding" else "architecture"
        counts[role] += parameter.numel()
    return Parameters(**counts, total=sum(parameter.numel() for parameter in model.parameters()))


def count_flops_per_token(
    model: LanguageModel, *, context: int, objective: CrossEntropyConfig | AugmentedConfig | None = None
) -> int:
    """Floating point operations of training on one token: forward, and twice that for the gradients.

    The augmented loss compares the target's embedding with every other one: one more product over the vocabulary,
    through which no gradient flows.
    """
    trained = 3 * (model.embedding.count_flops() + model.architecture.count_flops(context))
    return trained + (2 * model.embedding.input_embedding.numel() if isinstance(objective, AugmentedConfig) else 0)


def _check_lengths(spec: ArmSpec, architecture: Architecture) -> None:
    """Windows must fit the architecture, and evaluation options must mean something to it."""
    asked = {"training.window": spec.training.window, "evaluation.context": spec.evaluation.context}
    longest = architecture.max_context
    for key, length in asked.items():
        if longest is not None and length is not None and length > longest:
            kind = spec.architecture.type
            raise UsageError(f"{key} is {length}, but this {kind} sees at most {longest} tokens", f"lower {key}")
    ignored = [key for key in ("context", "stride") if getattr(spec.evaluation, key) is not None]
    if architecture.recurrent and ignored:
        raise UsageError(
            f"evaluation.{ignored[0]} has no meaning for a recurrent architecture: its state is carried",
            f"remove evaluation.{ignored[0]}",
        )
    if spec.training.random_offset is False and not architecture.recurrent:
        raise UsageError(
            f"training.random_offset is false, but the windows of a {spec.architecture.type} begin anywhere",
            "remove training.random_offset: it is for recurrent architectures",
        )
    context, stride = spec.evaluation.context or spec.training.window, spec.evaluation.stride or 0
    if stride > context:
        raise UsageError(
            f"evaluation.stride is {stride}, but a window is {context} tokens: some would never be scored",
            "lower evaluation.stride, or raise evaluation.context (default: training.window)",
        )


def _check_roles(spec: ArmSpec, embedding: TokenEmbedding) -> None:
    """Every role of the optimizer must have parameters."""
    optimizer = spec.training.optimizer
    key, block = ("roles", optimizer.roles) if optimizer.type != "muon" else ("rest.roles", optimizer.rest.roles)
    there = {*embedding.roles.values(), *embedding.later_roles, "body", "bias"}
    asked = [role for role, setting in (block or ()) if setting is not None]
    if missing := [role for role in asked if role not in there]:
        raise UsageError(
            f"training.optimizer.{key}.{missing[0]}: {spec.tie.type} embeddings have no such role",
            f"there are {', '.join(sorted(there))}; write {missing[0]} into the arm that has it",
        )
