"""What smoothed labels add to the cross entropy of a linear layer, without the scores of the whole vocabulary."""

from torch import Tensor
from torch.nn import functional as F

from tiebench.losses.targets import IGNORED


def spread_labels(hidden: Tensor, weight: Tensor, bias: Tensor | None, targets: Tensor, *, smoothing: float) -> Tensor:
    """What is added to the summed nats where a share `smoothing` of each target is spread over the vocabulary.

    hidden `(tokens, width)`, weight `(vocabulary, width)`, bias `(vocabulary,)`, targets `(tokens,)`; a target of -100
    is left out. Returns a scalar in float32, through which autograd flows.

    The smoothed loss is ln sum exp s - (1 - e) s_t - e mean(s), for scores s, target t and smoothing e (Szegedy et al.
    2016, section 7). That is the plain one plus e (s_t - mean(s)), and the mean of the scores is the score of the mean
    row: so two products of a row with a row for each token are enough.
    """
    rows = targets.clamp(min=0)
    difference = (hidden.float() * (F.embedding(rows, weight) - weight.mean(0))).sum(1)
    if bias is not None:
        difference = difference + (bias[rows] - bias.mean())
    return smoothing * (difference * (targets != IGNORED)).sum()
