"""The nats of a translated text: each sentence by itself, given its source, in the order of the text."""

from collections.abc import Callable
from itertools import pairwise

import numpy as np
import torch

from tiebench.corpora.stream import ParallelStream
from tiebench.models.language_model import LanguageModel
from tiebench.training.sentence_batches import cut_by_tokens, fill_up

PLACES_AT_ONCE = 4096  # ids, padding included, in source and in target
PAIRS_PROTOCOL = "each sentence given its source"


def score_pairs(
    model: LanguageModel, stream: ParallelStream, *, device: torch.device, advance: Callable[[int], None]
) -> np.ndarray:
    """The nats of every token of the target, the ends of its lines included, float32 `(tokens,)`.

    Of a stream that was cut short, only whole pairs are scored.
    """
    boundaries = stream.find_boundaries()
    source, target = (np.diff(places) for places in boundaries)
    lengths = np.maximum(source, target)
    order = np.argsort(lengths, kind="stable")
    nats = np.zeros(boundaries[1][-1], dtype=np.float32)
    cuts = cut_by_tokens(lengths[order], most=PLACES_AT_ONCE)
    for begin, end in pairwise(cuts):
        chosen = order[begin:end]
        pairs, targets = fill_up(stream, chosen, boundaries)
        hidden, _ = model.encode(pairs.to(device))
        scored = model.embedding.nll(hidden, targets.to(device)).float().cpu().numpy()
        for line, row in zip(chosen, scored, strict=True):
            nats[boundaries[1][line] : boundaries[1][line + 1]] = row[: target[line]]
        advance(int(target[chosen].sum()))
    return nats
