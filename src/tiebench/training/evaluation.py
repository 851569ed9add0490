"""Perplexity over a whole split: every token is scored exactly once, none is dropped, and the protocol is stated.

The first token of a split is predicted from the boundary token before it. Scores are float32, sums are float64, unless
`evaluation.precision: bf16` asks for products in bfloat16; the protocol then says so, and the sums are as before.
A recurrent model carries its state from the first token to the last. A transformer sees overlapping windows and
scores in each only what no earlier window has scored. A translation is scored sentence by sentence.
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from tiebench.corpora.stream import ParallelStream, TokenStream
from tiebench.experiment.schema import ArmSpec
from tiebench.losses.targets import IGNORED
from tiebench.models.language_model import LanguageModel
from tiebench.results import record
from tiebench.training.pair_scoring import PAIRS_PROTOCOL, score_pairs
from tiebench.training.ranks import ALONE, Ranks
from tiebench.training.sharding import only_score

TOKENS_AT_ONCE = 2048
WINDOWS_AT_ONCE = 8
MAX_NLL = 709.0  # exp of more is no float64

Advance = Callable[[int], None]


@dataclass(frozen=True)
class Score:
    """What an evaluation found: the nats of every token, float32 `(tokens,)` in text order, and the protocol."""

    token_nll: np.ndarray
    protocol: dict[str, str | int]

    @property
    def nll(self) -> float:
        return float(self.token_nll.sum(dtype=np.float64))

    @property
    def perplexity(self) -> float:
        """exp(nats / tokens); infinite where that is too large for float64."""
        mean = self.nll / len(self.token_nll)
        return math.inf if mean > MAX_NLL else math.exp(mean)


def describe_score(score: Score, *, split: str, stream: TokenStream) -> record.Evaluation:
    return record.Evaluation(
        split=split,
        nll=score.nll,
        tokens=len(score.token_nll),
        words=stream.num_words,
        bytes=stream.num_bytes,
        unknown=stream.num_unknown,
        protocol=score.protocol,
    )


def score_stream(
    model: LanguageModel,
    stream: TokenStream,
    *,
    spec: ArmSpec,
    advance: Advance = lambda num_tokens: None,
    ranks: Ranks = ALONE,
) -> Score:
    """Score every token of a split, in the precision of `spec.evaluation`, whatever that of training.

    `advance` is told how many tokens were scored since the last call. Several `ranks` share windows out, and otherwise
    do each the whole, all in step; the score is the same.
    """
    device = next(model.parameters()).device
    was_training = model.training
    model.eval()
    read = _read_pairs if model.architecture.reads_source else _read_windows
    read = _read_rows if model.architecture.recurrent else read
    half = spec.evaluation.precision == "bf16"
    try:
        with only_score(model), torch.autocast(device.type, dtype=torch.bfloat16, enabled=half):
            score = read(model, stream, spec, device, advance, ranks)
        return Score(score.token_nll, score.protocol | {"precision": "bf16"}) if half else score
    finally:
        model.train(was_training)


def _read_pairs(
    model: LanguageModel, stream: TokenStream, spec: ArmSpec, device: torch.device, advance: Advance, ranks: Ranks
) -> Score:
    """Each sentence by itself."""
    assert isinstance(stream, ParallelStream)
    nats = score_pairs(model, stream, device=device, advance=advance)
    return Score(nats, {"context": PAIRS_PROTOCOL})


def _read_rows(
    model: LanguageModel, stream: TokenStream, spec: ArmSpec, device: torch.device, advance: Advance, ranks: Ranks
) -> Score:
    """`batch_size` contiguous rows, state carried; the last row may be shorter and is padded with ignored targets."""
    num_rows = spec.evaluation.batch_size or 1
    columns = -(-stream.num_tokens // num_rows)
    nats = np.zeros((num_rows, columns), dtype=np.float32)
    state, at_once = None, max(1, TOKENS_AT_ONCE // num_rows)
    for start in range(0, columns, at_once):
        inputs, targets = _cut_rows(stream, num_rows, columns, slice(start, min(start + at_once, columns)))
        hidden, state = model.encode(inputs.to(device), state)
        scored = model.embedding.nll(hidden, targets.to(device))
        nats[:, start : start + at_once] = scored.float().cpu().numpy()
        advance(int((targets != IGNORED).sum()))
    protocol = {"context": "state carried through the split", "batch_size": num_rows}
    return Score(nats.reshape(-1)[: stream.num_tokens], protocol)


def _cut_rows(stream: TokenStream, num_rows: int, columns: int, span: slice) -> tuple[Tensor, Tensor]:
    """Inputs and targets `(rows, time)`; beyond the end of the split the targets are ignored."""
    inputs = np.zeros((num_rows, span.stop - span.start), dtype=np.int64)
    targets = np.full_like(inputs, IGNORED)
    for row in range(num_rows):
        start, stop = row * columns + span.start, min(row * columns + span.stop, stream.num_tokens)
        length = max(0, stop - start)
        inputs[row, :length] = stream.ids[start : start + length]
        targets[row, :length] = stream.ids[start + 1 : start + length + 1]
    return torch.from_numpy(inputs), torch.from_numpy(targets)


def _read_windows(
    model: LanguageModel, stream: TokenStream, spec: ArmSpec, device: torch.device, advance: Advance, ranks: Ranks
) -> Score:
    """Overlapping windows of at most `context` tokens, moved by `stride`."""
    context = min(spec.evaluation.context or spec.training.window, stream.num_tokens)
    stride = min(spec.evaluation.stride or context, context)
    at_once = spec.evaluation.batch_size or WINDOWS_AT_ONCE
    nats = np.zeros(stream.num_tokens, dtype=np.float32)
    groups = list(_split_spans(plan_windows(stream.num_tokens, context=context, stride=stride), at_once))
    for first in range(0, len(groups), ranks.number):
        ours = first + ranks.rank
        group = groups[min(ours, len(groups) - 1)]  # a rank that has none left keeps step with the others
        ids = np.stack([stream.ids[end - context : end + 1] for _, end in group]).astype(np.int64)
        rows = torch.from_numpy(ids).to(device)
        hidden, _ = model.encode(rows[:, :-1])
        begin = min(context - (end - start) for start, end in group)
        scored = model.embedding.nll(hidden[:, begin:], rows[:, begin + 1 :]).float().cpu().numpy()
        if ours < len(groups):
            for (start, end), row in zip(group, scored, strict=True):
                nats[start:end] = row[len(row) - (end - start) :]
        advance(sum(end - start for group in groups[first : first + ranks.number] for start, end in group))
    ranks.add(torch.from_numpy(nats))
    return Score(nats, {"context": context, "stride": stride})


def plan_windows(num_tokens: int, *, context: int, stride: int) -> list[tuple[int, int]]:
    """The tokens `[start, end)` that each window scores; the window itself is the `context` tokens before `end`."""
    spans, start, end = [], 0, context
    while start < num_tokens:
        spans.append((start, end))
        start, end = end, min(end + stride, num_tokens)
    return spans


def _split_spans(spans: list[tuple[int, int]], size: int) -> Iterator[list[tuple[int, int]]]:
    for start in range(0, len(spans), size):
        yield spans[start : start + size]
