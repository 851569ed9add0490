"""May I quantise it? The embeddings of a finished run rounded to few bits, and what that costs in perplexity.

The split is the validation split: the test split is scored once, for the record, and nothing is chosen or tried on it.
"""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from tiebench.comparison.blocks import cut_blocks
from tiebench.comparison.variance import estimate_difference
from tiebench.corpora.stream import TokenStream
from tiebench.execution.run import open_model
from tiebench.execution.run_data import reload_data
from tiebench.experiment.block import Block
from tiebench.models.language_model import LanguageModel
from tiebench.results.record import Record, read_record
from tiebench.training.evaluation import score_stream

BITS = (8, 6, 4)
SCALE_BYTES = 4  # a float32 for each row


class QuantisedScore(Block):
    """A run with some of its embeddings rounded (`bits` None: as trained): perplexity on the validation split.

    `difference` is the change in nats per token against the run as trained, with the 95 % interval `low` to `high`
    over blocks of the text. `num_bytes` is what all embedding matrices of the run take: rounded values, packed, with a
    float32 scale a row, and float32 for what is not rounded.
    """

    experiment: str
    arm: str
    seed: int
    embedding: str
    bits: int | None
    num_bytes: int
    perplexity: float
    difference: float
    low: float | None = None
    high: float | None = None


@torch.inference_mode()
def quantise_run(
    folder: Path,
    *,
    bits: Sequence[int] = BITS,
    data_dir: Path | None = None,
    say: Callable[[str], None] = lambda message: None,
) -> list[QuantisedScore]:
    """A finished run as trained, and with each embedding (`input`, `output` and both, or `tied`) rounded to each number
    of bits. `say` is told what is being scored.

    Raises TiebenchError where the run has no weights or its text is not there.
    """
    record = read_record(folder)
    model = open_model(record, folder)
    stream = reload_data(record, folder, data_dir=data_dir).streams["valid"]
    parts = list_roundings(model)
    everything = list({id(matrix): matrix for matrices in parts.values() for matrix in matrices}.values())
    trained = [matrix.clone() for matrix in everything]
    cases = [("none", None), *((name, number) for number in bits for name in parts)]
    scores: list[QuantisedScore] = []
    before = np.zeros(0)
    for place, (name, number) in enumerate(cases, start=1):
        rounded = [] if number is None else parts[name]
        rounding = "as trained" if number is None else f"{name}, {number} bits"
        say(f"[{place}/{len(cases)}] {record.arm} seed {record.seed}: {rounding}")
        for matrix in rounded:
            matrix.copy_(round_rows(matrix, bits=number or 0))
        token_nll = _score(model, stream, record=record)
        for matrix, kept in zip(everything, trained, strict=True):
            matrix.copy_(kept)
        before = token_nll if number is None else before
        num_bytes = sum(
            count_stored_bytes(matrix, bits=number if any(matrix is each for each in rounded) else None)
            for matrix in everything
        )
        scores.append(_describe_rounding(record, name, number, num_bytes=num_bytes, token_nll=token_nll, before=before))
    return scores


def list_roundings(model: LanguageModel) -> dict[str, list[Tensor]]:
    """What can be rounded by itself: `input`, `output` and `both`, or `tied` where there is one parameter."""
    first, second = model.embedding.input_matrices, model.embedding.output_matrices
    return {"tied": first} if first[0] is second[0] else {"input": first, "output": second, "both": [*first, *second]}


def round_rows(matrix: Tensor, *, bits: int) -> Tensor:
    """Each row on a grid of its own, symmetric around zero: `2**(bits - 1) - 1` steps up to its largest value by size.

    `(rows, width)` to the same shape. A row of zeros stays one. Raises ValueError for fewer than two bits.
    """
    if bits < 2:
        raise ValueError(f"a symmetric grid needs two bits, found {bits}")
    scale = matrix.abs().amax(dim=1, keepdim=True) / (2 ** (bits - 1) - 1)
    steps = torch.where(scale > 0, matrix / scale, torch.zeros_like(matrix)).round()
    return steps * scale


def count_stored_bytes(matrix: Tensor, *, bits: int | None) -> int:
    """What a matrix `(rows, width)` takes: float32 for `bits` None, else rows of packed values and their scales."""
    num_rows, width = matrix.shape
    if bits is None:
        return 4 * num_rows * width
    return num_rows * (-(-width * bits // 8) + SCALE_BYTES)


def _score(model: LanguageModel, stream: TokenStream, *, record: Record) -> np.ndarray:
    """The nats of every token of the validation split, by the protocol of the record."""
    return score_stream(model, stream, spec=record.spec.for_split("valid")).token_nll


def _describe_rounding(
    record: Record, name: str, bits: int | None, *, num_bytes: int, token_nll: np.ndarray, before: np.ndarray
) -> QuantisedScore:
    found = estimate_difference(token_nll[None], before[None], block_starts=cut_blocks(len(before)))
    interval = found.text if bits is not None else None
    return QuantisedScore(
        experiment=record.experiment,
        arm=record.arm,
        seed=record.seed,
        embedding=name,
        bits=bits,
        num_bytes=num_bytes,
        perplexity=float(np.exp(token_nll.mean(dtype=np.float64))),
        difference=found.difference,
        low=interval and interval.low,
        high=interval and interval.high,
    )
