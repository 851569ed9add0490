"""How much of the embedding's gradient comes from each of its ends.

A tied matrix gets the sum of two gradients, that of the looked-up vectors and that of the scores (Lopardo et al. 2026,
section 5, measure the share of the second). Both are measured here as matrices of the same shape, rows of a token
summed, before clipping.
"""

from dataclasses import dataclass

import torch

from tiebench.results.curve import GradientShare
from tiebench.training.clipping import measure_norm
from tiebench.training.train_state import TrainState
from tiebench.tying.token_embedding import TokenEmbedding

EVERY_STEPS = 10  # a measurement costs a pass or two over the matrix


@dataclass(frozen=True)
class EndGradients:
    """Norms of the gradients of one batch, and their cosine (None where one of them is zero)."""

    input_norm: float
    output_norm: float
    cosine: float | None


@torch.no_grad()
def measure_ends(embedding: TokenEmbedding) -> EndGradients:
    """Both gradients as the last backward pass left them, of an embedding that notes its `lookups`."""
    found, matrix = embedding.output_embedding.grad, embedding.input_embedding
    of_input = torch.zeros_like(matrix)
    for tokens, rows in embedding.lookups or ():
        of_input.index_add_(0, tokens, rows.to(matrix.dtype))
    of_output = torch.zeros_like(matrix) if found is None else found.to_dense()
    if embedding.output_embedding is matrix:
        of_output = of_output - of_input
    norms = [measure_norm([part]).item() for part in (of_input, of_output)]
    product = torch.sum(of_input * of_output, dtype=torch.float64).item()
    return EndGradients(*norms, cosine=product / (norms[0] * norms[1]) if all(norms) else None)


def add_gradients(state: TrainState, found: EndGradients) -> None:
    """Add a measurement to the sums since the last evaluation."""
    state.num_gradients += 1
    state.input_norm_sum += found.input_norm
    state.output_norm_sum += found.output_norm
    state.cosine_sum += found.cosine or 0.0


def take_share(state: TrainState) -> GradientShare | None:
    """The means since the last evaluation, after which the sums are 0 again; None where nothing was measured."""
    number = state.num_gradients
    if not number:
        return None
    sums = state.input_norm_sum, state.output_norm_sum, state.cosine_sum
    state.num_gradients, state.input_norm_sum, state.output_norm_sum, state.cosine_sum = 0, 0.0, 0.0, 0.0
    return GradientShare(
        input_norm=sums[0] / number, output_norm=sums[1] / number, cosine=sums[2] / number, num_steps=number
    )
