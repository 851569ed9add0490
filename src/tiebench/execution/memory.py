"""How much memory a run will take, estimated from its sizes, and how much there is."""

import os
from contextlib import suppress
from pathlib import Path

from tiebench.experiment.architecture_config import EncoderDecoderConfig, LSTMConfig
from tiebench.experiment.schema import ArmSpec
from tiebench.losses.tiles import BUFFER_BYTES

FLOAT_BYTES = 4
RUNTIME_BYTES = 300 * 2**20  # Python, torch and its libraries, before there is a model
CGROUP_LIMIT = Path("/sys/fs/cgroup/memory.max")


def estimate_memory(spec: ArmSpec, *, num_parameters: int, vocabulary_size: int) -> int:
    """Bytes that training takes at its peak: parameters, gradients, optimizer state, scores, activations, the runtime.

    Everything is counted in float32. The records of an LSTM of width 200 on a CPU peaked 5 to 20 % higher.
    """
    training = spec.training
    num_tokens = training.batch_size * training.window // training.accumulate
    num_copies = 4 if training.optimizer.type != "sgd" else 3 if training.optimizer.momentum else 2
    scores = min(BUFFER_BYTES, FLOAT_BYTES * num_tokens * vocabulary_size)
    activations = FLOAT_BYTES * num_tokens * _count_activations(spec)
    return RUNTIME_BYTES + FLOAT_BYTES * num_copies * num_parameters + scores + activations


def find_memory() -> int | None:
    """Bytes of memory that this process may have; None where the system does not say."""
    found: list[int] = []
    with suppress(OSError, ValueError, AttributeError):  # not on every system
        found.append(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
    with suppress(OSError, ValueError):  # the file holds `max` where there is no limit
        found.append(int(CGROUP_LIMIT.read_text()))
    return min(found, default=None)


def _count_activations(spec: ArmSpec) -> int:
    """Numbers that each token of a window leaves behind until the gradients are there."""
    body = spec.architecture
    ends = 4 * body.width + 2 * (spec.embedding.width or 0)
    if isinstance(body, LSTMConfig):  # the input, four gates, cell, its tanh, hidden; masks and what they were laid on
        return ends + body.layers * body.width * (16 if body.variational else 11)
    # Norms, queries, keys, values, mixed, projected, two residual sums, their masks; then the feed-forward net.
    gated = body.type == "llama"
    inner = body.mlp_width or (8 * body.width // 3 if gated else 4 * body.width)
    drops_attention = body.dropout if body.dropout_attention is None else body.dropout_attention
    matrix = 3 * body.heads * spec.training.window if drops_attention else 0  # attention weights are not kept otherwise
    block = 14 * body.width + (4 if gated else 2) * inner + matrix
    if isinstance(body, EncoderDecoderConfig):  # a block of either stack, and the decoder's attention to the source
        block = 2 * block + 10 * body.width + matrix
    return ends + body.layers * block
