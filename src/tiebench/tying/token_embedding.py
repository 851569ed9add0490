"""Both ends of a language model: token ids become vectors, hidden vectors become next-token scores.

    language model = embedding.logits(architecture(embedding.embed(tokens)))

A token embedding knows nothing of what lies between its ends. Everything that is usually confounded with tying (width
of the embedding, scales, biases, projection, initialisation) is a switch of this class and works with every tie; a tie
is a subclass that says which matrices exist. *Tied means that one parameter exists*: there is no second name for it.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable
from functools import partial
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tiebench.experiment.block import InitConfig
from tiebench.experiment.embedding_config import EmbeddingConfig, ProjectionConfig
from tiebench.layers.initialisation import fill_from
from tiebench.layers.row_share import RowShare
from tiebench.layers.word_dropout import draw_word_mask
from tiebench.losses.augmented_loss import augmented_cross_entropy
from tiebench.losses.label_smoothing import spread_labels
from tiebench.losses.linear_cross_entropy import linear_cross_entropy, token_nll
from tiebench.losses.workspace import Workspace

OpenGenerator = Callable[[str], torch.Generator]
CountTokens = Callable[[], np.ndarray]


class TokenEmbedding(nn.Module, ABC):
    """The embeddings of a language model and what surrounds them.

    `vocabulary_size` ids; `width` is that of the architecture's vectors. The matrices have the width `config.width`,
    by default the same; where they differ, a linear map without bias leads in, and a projection leads out.
    With `has_source`, the source of a translation is embedded too, by a matrix of its own unless the tie shares one.
    It `has_fixed_shapes` where those of all that it computes follow from the batch's alone, whatever its tokens are.
    `sparse_lookup` makes the gradient of the input lookup a sparse tensor; the optimizer must be able to read it.
    Where `lookups` is a list, each training step appends (tokens, gradients of their looked-up vectors) to it.
    Dropped words are drawn from `dropout_generator`, or from torch's default generator where that is None, for whole
    batches, of which it sees `dropout_rows` (None: all).
    """

    roles: dict[str, str]
    later_roles: ClassVar[tuple[str, ...]] = ()
    shares_source: ClassVar[bool] = False
    has_fixed_shapes: ClassVar[bool] = True

    def __init__(self, config: EmbeddingConfig, *, vocabulary_size: int, width: int, has_source: bool = False) -> None:
        super().__init__()
        self.config = config
        self.vocabulary_size = vocabulary_size
        self.width = width
        self.embedding_width = config.width or width
        self.sparse_lookup = False
        self.lookups: list[tuple[Tensor, Tensor]] | None = None
        self.dropout_generator: torch.Generator | None = None
        self.dropout_rows: RowShare | None = None
        self.workspace = Workspace()
        self.has_source = has_source
        self.make_embeddings()
        self.source = self.new_embedding() if has_source and not self.shares_source else None
        if self.source is not None:
            self.roles = {**self.roles, "source": "input"}
        self.output_bias = nn.Parameter(torch.empty(self.num_scores)) if config.output_bias else None
        resized = self.embedding_width != width
        self.input_projection = nn.Linear(self.embedding_width, width, bias=False) if resized else None
        asked = config.output_projection or (ProjectionConfig() if resized else None)
        self.output_projection = nn.Linear(width, self.embedding_width, bias=asked.bias) if asked else None

    @abstractmethod
    def make_embeddings(self) -> None:
        """Create the parameters, each `(vocabulary, embedding width)` from `self.new_embedding()`."""

    @property
    @abstractmethod
    def input_embedding(self) -> Tensor:
        """`(vocabulary, embedding width)`: row i is the vector of token i."""

    @property
    @abstractmethod
    def output_embedding(self) -> Tensor:
        """`(vocabulary, embedding width)`: row i scores token i."""

    @property
    def source_embedding(self) -> Tensor:
        """`(vocabulary, embedding width)`: row i is the vector of token i in the source of a translation."""
        return self.input_embedding if self.source is None else self.source

    @property
    def input_matrices(self) -> list[Tensor]:
        """The parameters whose rows are the tokens' vectors: one, unless the embedding has bands of several widths."""
        return [self.input_embedding]

    @property
    def output_matrices(self) -> list[Tensor]:
        """The parameters whose rows score the tokens."""
        return [self.output_embedding]

    @property
    def has_one_matrix(self) -> bool:
        """Whether the row that embeds a token is also the one that scores it."""
        return self.input_embedding is self.output_embedding

    @property
    def num_scores(self) -> int:
        """How many scores there are, and may have a bias."""
        return self.vocabulary_size

    def sort_by_frequency(self, count: CountTokens) -> None:
        """Learn how often each token stands in the training text, before training; most ties have no use for it."""

    @abstractmethod
    def initialise_embeddings(self, open_generator: OpenGenerator) -> None:
        """Fill the embeddings; under every tie, the input embedding takes the generator "embedding/input"."""

    def new_embedding(self) -> nn.Parameter:
        return nn.Parameter(torch.empty(self.vocabulary_size, self.embedding_width))

    @torch.no_grad()
    def initialise(self, open_generator: OpenGenerator) -> None:
        """Fill every parameter; `open_generator(name)` gives the random generator of that name."""
        self.initialise_embeddings(open_generator)
        if self.source is not None:
            fill_from(self.source, self.config.init, generator=open_generator("embedding/source"))
        if self.output_bias is not None:
            self._initialise_bias(
                self.output_bias, self.config.output_bias_init, open_generator("embedding/output_bias")
            )
        asked = self.config.output_projection
        for name, module, bias_init in (
            ("embedding/input_projection", self.input_projection, None),
            ("embedding/output_projection", self.output_projection, asked and asked.bias_init),
        ):
            if module is not None:
                generator = open_generator(name)
                fill_from(module.weight, self.config.init, generator=generator)
                if module.bias is not None:
                    self._initialise_bias(module.bias, bias_init, generator)

    @staticmethod
    def _initialise_bias(bias: Tensor, init: InitConfig | None, generator: torch.Generator) -> None:
        """Zero unless something else is asked for."""
        if init is None:
            bias.zero_()
        else:
            fill_from(bias, init, generator=generator)

    @property
    def input_scale(self) -> float:
        scale = self.config.input_scale
        return {"one": 1.0, "sqrt_width": self.embedding_width**0.5}[scale] if isinstance(scale, str) else scale

    @property
    def output_scale(self) -> float:
        scale = self.config.output_scale
        named = {"one": 1.0, "inverse_sqrt_width": self.embedding_width**-0.5}
        return named[scale] if isinstance(scale, str) else scale

    def embed(self, tokens: Tensor) -> Tensor:
        """Token ids `(batch, time)` to vectors `(batch, time, width)`; in training, some words may be dropped."""
        return self._finish_lookup(self.look_up(tokens), tokens, noted=self.lookups is not None)

    def embed_source(self, tokens: Tensor) -> Tensor:
        """The same for the source of a translation."""
        is_shared = self.source is None
        vectors = F.embedding(tokens, self.source_embedding, sparse=self.sparse_lookup and is_shared)
        return self._finish_lookup(vectors, tokens, noted=self.lookups is not None and is_shared)

    def look_up(self, tokens: Tensor) -> Tensor:
        """Token ids `(batch, time)` to their rows of the input embedding `(batch, time, embedding width)`."""
        return F.embedding(tokens, self.input_embedding, sparse=self.sparse_lookup)

    def _finish_lookup(self, vectors: Tensor, tokens: Tensor, *, noted: bool) -> Tensor:
        """What every switch does to vectors that were looked up; `noted` keeps their gradients."""
        factor = self.config.input_gradient_scale
        if factor is not None and vectors.requires_grad:
            vectors.register_hook(lambda gradients: gradients * factor)
        if noted and vectors.requires_grad:
            vectors.register_hook(partial(self._note_lookup, tokens))
        probability = self.config.word_dropout
        if self.training and probability:
            draws = {"generator": self.dropout_generator, "rows": self.dropout_rows}
            mask = draw_word_mask(tokens, probability=probability, **draws)
            vectors = vectors * mask.to(vectors.dtype)
        if self.input_scale != 1.0:
            vectors = vectors * self.input_scale
        return vectors if self.input_projection is None else self.input_projection(vectors)

    def _note_lookup(self, tokens: Tensor, gradients: Tensor) -> None:
        assert self.lookups is not None
        self.lookups.append((tokens.flatten(), gradients.flatten(0, -2)))

    def project_hidden(self, hidden: Tensor) -> Tensor:
        """Hidden vectors `(..., width)` as the output embedding meets them `(..., embedding width)`.

        Under autocast they are cast to its precision here: a transformer's last norm gives float32, and autocast does
        not act on products that are written into buffers, as the losses write theirs.
        """
        if torch.is_autocast_enabled(hidden.device.type):
            hidden = hidden.to(torch.get_autocast_dtype(hidden.device.type))
        if self.output_projection is not None:
            hidden = self.output_projection(hidden)
        return hidden if self.output_scale == 1.0 else hidden * self.output_scale

    def logits(self, hidden: Tensor) -> Tensor:
        """Hidden vectors `(..., width)` to scores `(..., vocabulary)`, all at once."""
        return F.linear(self.project_hidden(hidden), self.output_embedding, self.output_bias)

    def loss(self, hidden: Tensor, targets: Tensor, *, scale: float = 1.0) -> Tensor:
        """`scale` times the summed nats of the targets, without the full scores; gradients as in
        `linear_cross_entropy`.

        hidden `(..., width)`, targets `(...)`; -100 is left out. Call `.backward()` on the result itself.
        """
        return linear_cross_entropy(
            self.project_hidden(hidden).flatten(0, -2),
            self.output_embedding,
            self.output_bias,
            targets.flatten(),
            scale=scale,
            workspace=self.workspace,
        )

    def smoothed_loss(
        self, hidden: Tensor, targets: Tensor, *, smoothing: float, scale: float = 1.0
    ) -> tuple[Tensor, Tensor]:
        """The loss with smoothed labels, and the summed nats (detached); arguments as in `loss`.

        See `spread_labels` (Szegedy et al. 2016, section 7).
        """
        loss = self.loss(hidden, targets, scale=scale)
        projected, flat = self.project_hidden(hidden).flatten(0, -2), targets.flatten()
        added = spread_labels(projected, self.output_embedding, self.output_bias, flat, smoothing=smoothing)
        return loss + scale * added, loss.detach() / scale

    def augmented_loss(
        self, hidden: Tensor, targets: Tensor, *, temperature: float, gamma: float, scale: float = 1.0
    ) -> tuple[Tensor, Tensor]:
        """`loss` with gamma * temperature * KL(y~ || y^) added to each token's nats, and the summed nats.

        See `augmented_cross_entropy` (Inan et al. 2017, section 3).
        """
        return augmented_cross_entropy(
            self.project_hidden(hidden).flatten(0, -2),
            self.output_embedding,
            self.output_bias,
            targets.flatten(),
            input_weight=self.input_embedding,
            temperature=temperature,
            gamma=gamma,
            scale=scale,
            workspace=self.workspace,
        )

    def nll(self, hidden: Tensor, targets: Tensor) -> Tensor:
        """Each target's negative log likelihood in nats, `(...)` float32, for evaluation."""
        read = self.project_hidden(hidden).flatten(0, -2)
        flat = token_nll(read, self.output_embedding, self.output_bias, targets.flatten(), workspace=self.workspace)
        return flat.view(targets.shape)

    def penalty(self, *, batch_size: int) -> Tensor | None:
        """What the projection adds to a cost that is summed over the window and averaged over the batch; a scalar.

        Press & Wolf 2017, section 3 (`form: paper`, the norm) or the authors' program (`form: code`, half the
        squared norm over the batch size).
        """
        asked = self.config.output_projection
        if asked is None or asked.penalty == 0 or self.output_projection is None:
            return None
        weight = self.output_projection.weight
        if asked.form == "paper":
            return asked.penalty * weight.norm()
        return asked.penalty * weight.square().sum() / (2 * batch_size)

    def count_flops(self) -> int:
        """Forward floating point operations per token: two per multiply-add of the matrix products."""
        sides = [self.input_projection] * (2 if self.has_source else 1)
        maps = [module for module in (*sides, self.output_projection) if module is not None]
        return self.count_score_flops() + 2 * sum(module.weight.numel() for module in maps)

    def count_score_flops(self) -> int:
        """Those of the embeddings themselves, without the maps around them."""
        return 2 * self.vocabulary_size * self.embedding_width
