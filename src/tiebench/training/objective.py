"""What a training step minimises, and the two conventions of averaging it.

`token_mean` divides the summed nats by all tokens of the batch. `window_sum` divides by the batch size only, so that
the loss is summed over the window; a learning rate of 1.0 in the papers of 2014 to 2017 refers to that.
"""

import torch
from torch import Tensor
from torch.nn import functional as F

from tiebench.experiment import training_config as schema
from tiebench.models.language_model import LanguageModel


def choose_scale(training: schema.TrainingConfig, *, num_tokens: int) -> float:
    """What to multiply the summed nats of one batch by."""
    return 1 / num_tokens if training.reduction == "token_mean" else 1 / training.batch_size


def compute_loss(
    model: LanguageModel,
    hidden: Tensor,
    targets: Tensor,
    *,
    objective: schema.CrossEntropyConfig | schema.AugmentedConfig,
    scale: float,
) -> tuple[Tensor, Tensor]:
    """The loss to call `.backward()` on, and the batch's summed negative log likelihood in nats (detached).

    hidden `(batch, time, width)`, targets `(batch, time)`.
    """
    if isinstance(objective, schema.AugmentedConfig):
        options = {"temperature": objective.temperature, "gamma": objective.gamma}
        return model.embedding.augmented_loss(hidden, targets, scale=scale, **options)
    if objective.label_smoothing is not None:
        return model.embedding.smoothed_loss(hidden, targets, smoothing=objective.label_smoothing, scale=scale)
    loss = model.embedding.loss(hidden, targets, scale=scale)
    return loss, loss.detach() / scale


def compute_penalty(model: LanguageModel, training: schema.TrainingConfig) -> Tensor | None:
    """The embedding's penalty in the same convention as the loss; None where there is none."""
    penalty = model.embedding.penalty(batch_size=training.batch_size)
    if penalty is None or training.reduction == "window_sum":
        return penalty
    return penalty / training.window


def measure_similarity_divergence(scores: Tensor, targets: Tensor, *, matrix: Tensor, temperature: float) -> Tensor:
    """KL(y~ || y^) summed over the tokens, in nats; a scalar.

    y^ is the softmax of the scores `(tokens, vocabulary)` over the temperature, without output bias. y~ is the
    softmax of the similarities between the target's embedding and every other one, `matrix @ matrix[target]`, over
    the temperature: a target distribution, through which no gradient flows (Inan et al. 2017, equations 3.2 to 3.4).
    """
    predicted = F.log_softmax(scores / temperature, dim=-1)
    with torch.no_grad():
        similar = F.log_softmax(matrix[targets] @ matrix.t() / temperature, dim=-1)
    return F.kl_div(predicted, similar, reduction="sum", log_target=True)
