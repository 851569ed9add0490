"""How much memory a run will take, estimated from its sizes, and how much there is."""

import os
from contextlib import suppress
from pathlib import Path

from tiebench.experiment.architecture_config import EncoderDecoderConfig, LSTMConfig
from tiebench.experiment.schema import ArmSpec
from tiebench.losses.tiles import BUFFER_BYTES
from tiebench.losses.whole_rows import SCORE_BYTES

FLOAT_BYTES, HALF_BYTES = 4, 2
RUNTIME_BYTES = 300 * 2**20  # Python, torch and its libraries, before there is a model
CGROUP_LIMIT = Path("/sys/fs/cgroup/memory.max")


def estimate_memory(
    spec: ArmSpec,
    *,
    num_parameters: int,
    vocabulary_size: int,
    num_devices: int = 1,
    num_whole: int = 0,
    on_gpu: bool = False,
) -> int:
    """Bytes that training takes at its peak: parameters, gradients, optimizer state, scores, activations, the runtime.

    Everything is counted in float32. The records of an LSTM of width 200 on a CPU peaked 5 to 20 % higher. Of several
    devices, what each needs: they share out the rows of a batch and, under `training.sharding`, the parameters' copies,
    but for weights and gradients of the `num_whole` parameters that stand whole during a step. A GPU takes whole rows
    of scores at a time, and some passes over them in float32.
    """
    training = spec.training
    rows = -(-training.batch_size // num_devices)
    num_tokens = -(-rows // training.accumulate) * training.window
    num_copies = 4 if training.optimizer.type != "sgd" else 3 if training.optimizer.momentum else 2
    num_scores = num_tokens * vocabulary_size
    scores = _count_score_bytes(spec, num_scores) if on_gpu else min(BUFFER_BYTES, FLOAT_BYTES * num_scores)
    activations = FLOAT_BYTES * num_tokens * _count_activations(spec)
    kept = num_copies * num_parameters
    if training.sharding and num_devices > 1:
        kept = num_copies * -(-num_parameters // num_devices) + 2 * num_whole
    return RUNTIME_BYTES + FLOAT_BYTES * kept + scores + activations


def _count_score_bytes(spec: ArmSpec, num_scores: int) -> int:
    """What the loss over whole rows (losses/whole_rows.py) holds: the scores, and four times as many in float32."""
    size = FLOAT_BYTES if spec.training.precision == "fp32" else HALF_BYTES
    num_at_once = min(SCORE_BYTES // size, num_scores)
    return num_at_once * (size + 4 * FLOAT_BYTES)


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
