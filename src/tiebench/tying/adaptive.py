"""Embeddings in bands by frequency, tied or not: wide vectors for frequent words, narrow ones for rare words.

On the input side a word's vector is its row times its band's map (Baevski & Auli 2019). The output side is the adaptive
softmax (Grave et al. 2017): log p(word) = log p(class of its band) + log p(word | band), where the words of the first
band and the classes of all others are scored together. Nothing is approximated: the probabilities sum to 1.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar, NoReturn

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tiebench.errors import UsageError
from tiebench.experiment.block import InitConfig
from tiebench.experiment.embedding_config import EmbeddingConfig, TiedConfig, UntiedConfig
from tiebench.layers.initialisation import fill_from
from tiebench.losses.linear_cross_entropy import linear_cross_entropy, token_nll
from tiebench.losses.targets import IGNORED
from tiebench.tying.bands import Band, cut_bands, estimate_shares, measure_shares, sort_tokens
from tiebench.tying.tied import check_output_init
from tiebench.tying.token_embedding import CountTokens, OpenGenerator, TokenEmbedding


@dataclass(frozen=True)
class Softmax:
    """One of those that score some targets: the head, for all `rows` (None), or a band for its own.

    hidden `(rows, band width)`, weight `(words, band width)`, bias `(words,)`, targets `(rows,)`, -100 where ignored.
    """

    rows: Tensor | None
    hidden: Tensor
    weight: Tensor
    bias: Tensor | None
    targets: Tensor


class Adaptive(TokenEmbedding):
    """Each band has a matrix at either end or, `is_tied`, one for both. The head's classes have rows of their own.

    `ranks` `(vocabulary,)` says which place a token has by frequency; the rows of the matrices are in this order.
    """

    is_tied: ClassVar[bool]
    has_fixed_shapes = False
    input: nn.ParameterList
    output: nn.ParameterList
    shared: nn.ParameterList
    ranks: Tensor

    def make_embeddings(self) -> None:
        adaptive = self.config.adaptive
        assert adaptive is not None
        self.bands = cut_bands(adaptive, vocabulary_size=self.vocabulary_size, width=self.embedding_width)
        names = ("shared",) if self.is_tied else ("input", "output")
        for name in names:
            setattr(self, name, nn.ParameterList(torch.empty(band.size, band.width) for band in self.bands))
        self.roles = {f"{name}.{number}": name for name in names for number in range(len(self.bands))}
        maps = [(band.width, self.embedding_width) for band in self.tails]
        self.classes = nn.Parameter(torch.empty(len(maps), self.embedding_width))
        self.input_projections = nn.ModuleList(nn.Linear(narrow, wide, bias=False) for narrow, wide in maps)
        own_maps = [] if adaptive.share_projections else maps
        self.output_projections = nn.ModuleList(nn.Linear(wide, narrow, bias=False) for narrow, wide in own_maps)
        self.register_buffer("ranks", torch.arange(self.vocabulary_size))
        self.shares = estimate_shares(self.bands)

    @property
    def tails(self) -> list[Band]:
        return self.bands[1:]

    @property
    def num_scores(self) -> int:
        """The vocabulary, and a class for each band but the first, which stand after the first band's words."""
        return self.vocabulary_size + len(self.tails)

    @property
    def input_matrices(self) -> list[Tensor]:
        return list_parameters(self.shared if self.is_tied else self.input)

    @property
    def output_matrices(self) -> list[Tensor]:
        return list_parameters(self.shared if self.is_tied else self.output)

    @property
    def has_one_matrix(self) -> bool:
        return self.is_tied and not len(self.output_projections)

    @property
    def input_embedding(self) -> Tensor:
        """Computed: what each token's row becomes when its band's map was applied."""
        first, *others = self.input_matrices
        found = [first, *(F.linear(rows, weight) for rows, weight in zip(others, self._input_weights, strict=True))]
        return torch.cat(found)[self.ranks]

    @property
    def output_embedding(self) -> Tensor:
        """Computed: what a hidden vector meets in each token's score within its softmax."""
        first, *others = self.output_matrices
        found = [first, *(rows @ weight for rows, weight in zip(others, self._output_weights, strict=True))]
        return torch.cat(found)[self.ranks]

    @property
    def _input_weights(self) -> list[Tensor]:
        """The maps of the bands after the first, `(embedding width, band width)`."""
        return list_weights(self.input_projections)

    @property
    def _output_weights(self) -> list[Tensor]:
        """Those of the output, `(band width, embedding width)`."""
        return list_weights(self.output_projections) or [weight.t() for weight in self._input_weights]

    def initialise_embeddings(self, open_generator: OpenGenerator) -> None:
        self.ranks.copy_(torch.arange(self.vocabulary_size))
        output_init = self.config.output_init or self.config.init
        generator = open_generator("embedding/input")
        for matrix in self.input_matrices:
            fill_from(matrix, self.config.init, generator=generator)
        if not self.is_tied:
            generator = open_generator("embedding/output")
            for matrix in self.output_matrices:
                fill_from(matrix, output_init, generator=generator)
        fill_from(self.classes, output_init, generator=open_generator("embedding/classes"))
        for name, maps in (("input", self.input_projections), ("output", self.output_projections)):
            generator = open_generator(f"embedding/{name}_projections")
            for weight in list_weights(maps):
                bound = (6 / sum(weight.shape)) ** 0.5  # Glorot & Bengio 2010, equation 16
                fill_from(weight, InitConfig(uniform=bound), generator=generator)

    @torch.no_grad()
    def sort_by_frequency(self, count: CountTokens) -> None:
        """Give the most frequent tokens the first places."""
        counts = count()
        order = sort_tokens(counts)
        self.ranks.copy_(torch.from_numpy(np.argsort(order)))
        self.shares = measure_shares(self.bands, counts[order])

    def look_up(self, tokens: Tensor) -> Tensor:
        """Looks every token up in every band and keeps what is its own, so that no shape depends on the text."""
        ranks = self.ranks[tokens]
        first, *others = self.input_matrices
        vectors = F.embedding(ranks.clamp(max=len(first) - 1), first)
        for band, matrix, weight in zip(self.tails, others, self._input_weights, strict=True):
            rows = (ranks - band.start).clamp(0, band.size - 1)
            found = F.linear(F.embedding(rows, matrix), weight)
            vectors = torch.where(band.contains(ranks).unsqueeze(-1), found, vectors)
        return vectors

    def logits(self, hidden: Tensor) -> Tensor:
        """Hidden vectors `(..., width)` to the logarithms of all probabilities, `(..., vocabulary)` in float32."""
        projected = self.project_hidden(hidden)
        head = _normalise(projected, self._head_weight, self._cut_bias(self.bands[0]))
        found = [head[..., : self.bands[0].size]]
        for number, (band, weight) in enumerate(zip(self.tails, self._output_weights, strict=True), start=1):
            inside = _normalise(F.linear(projected, weight), self.output_matrices[number], self._cut_bias(band))
            found.append(inside + head[..., self.bands[0].size + number - 1, None])
        return torch.cat(found, dim=-1)[..., self.ranks]

    def loss(self, hidden: Tensor, targets: Tensor, *, scale: float = 1.0) -> Tensor:
        losses = [
            linear_cross_entropy(
                part.hidden, part.weight, part.bias, part.targets, scale=scale, workspace=self.workspace
            )
            for part in self._split(hidden, targets)
        ]
        return torch.stack(losses).sum()

    def nll(self, hidden: Tensor, targets: Tensor) -> Tensor:
        head, *tails = self._split(hidden, targets)
        nats = token_nll(head.hidden, head.weight, head.bias, head.targets, workspace=self.workspace)
        for part in tails:
            assert part.rows is not None
            found = token_nll(part.hidden, part.weight, part.bias, part.targets, workspace=self.workspace)
            nats.index_add_(0, part.rows, found)
        return nats.view(targets.shape)

    def smoothed_loss(self, hidden: Tensor, targets: Tensor, *, smoothing: float, scale: float = 1.0) -> NoReturn:
        raise UsageError("smoothed labels need the scores of all words, which an adaptive softmax does not compute")

    def augmented_loss(
        self, hidden: Tensor, targets: Tensor, *, temperature: float, gamma: float, scale: float = 1.0
    ) -> NoReturn:
        raise UsageError("the augmented loss needs the scores of all words, which an adaptive softmax does not have")

    def _split(self, hidden: Tensor, targets: Tensor) -> Iterator[Softmax]:
        """What scores the targets `(...)`. A band without a target gets a row that counts for nothing, so that its
        gradient is zero and not missing.
        """
        projected, flat = self.project_hidden(hidden).flatten(0, -2), targets.flatten()
        ranks = self.ranks[flat.clamp(min=0)].masked_fill(flat == IGNORED, IGNORED)
        wanted = ranks
        for number, band in enumerate(self.tails):
            wanted = wanted.masked_fill(band.contains(ranks), self.bands[0].size + number)
        yield Softmax(None, projected, self._head_weight, self._cut_bias(self.bands[0]), wanted)
        for number, (band, weight) in enumerate(zip(self.tails, self._output_weights, strict=True), start=1):
            rows = band.contains(ranks).nonzero().squeeze(1)
            if not len(rows):
                rows = ranks.new_zeros(1)
            places = torch.where(band.contains(ranks[rows]), ranks[rows] - band.start, IGNORED)
            narrow = F.linear(projected.index_select(0, rows), weight)
            yield Softmax(rows, narrow, self.output_matrices[number], self._cut_bias(band), places)

    @property
    def _head_weight(self) -> Tensor:
        """The rows of the first band's words and of the classes."""
        return torch.cat((self.output_matrices[0], self.classes))

    def _cut_bias(self, band: Band) -> Tensor | None:
        """That of the head for the first band, classes included."""
        if self.output_bias is None:
            return None
        num_classes = len(self.tails)
        start = band.start + num_classes if band.start else 0
        return self.output_bias[start : band.stop + num_classes]

    def count_score_flops(self) -> int:
        """The map into each band for every token that is read; the head for every target, and the softmax of a band for
        the share of targets that is in it, rounded to a whole operation.
        """
        head = (self.bands[0].size + len(self.tails)) * self.embedding_width
        maps = [band.width * self.embedding_width for band in self.tails]
        inside = [number + band.size * band.width for number, band in zip(maps, self.tails, strict=True)]
        return 2 * (head + sum(maps)) + round(2 * float(np.dot(self.shares[1:], inside)))


class AdaptiveUntied(Adaptive):
    """Two matrices for each band."""

    is_tied = False


class AdaptiveTied(Adaptive):
    """A single parameter for each band, used at both ends."""

    is_tied = True


def build(
    tie: TiedConfig | UntiedConfig,
    config: EmbeddingConfig,
    *,
    vocabulary_size: int,
    width: int,
    has_source: bool = False,
) -> Adaptive:
    """Raises UsageError for a cutoff beyond the vocabulary, and for an `output_init` that would fill nothing."""
    if isinstance(tie, TiedConfig):
        check_output_init(config)
    kind = AdaptiveTied if isinstance(tie, TiedConfig) else AdaptiveUntied
    return kind(config, vocabulary_size=vocabulary_size, width=width, has_source=has_source)


def list_parameters(parameters: nn.ParameterList) -> list[Tensor]:
    return [parameter for parameter in parameters if isinstance(parameter, Tensor)]


def list_weights(maps: nn.ModuleList) -> list[Tensor]:
    return [each.weight for each in maps if isinstance(each, nn.Linear)]


def _normalise(hidden: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    return F.linear(hidden, weight, bias).float().log_softmax(dim=-1)
