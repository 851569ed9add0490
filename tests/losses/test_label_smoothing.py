import pytest
import torch
from precision import bound_error
from torch.nn import functional as F

from tiebench.experiment.training_config import CrossEntropyConfig
from tiebench.models.language_model import build_model, initialise_model
from tiebench.training.objective import compute_loss

pytestmark = pytest.mark.numeric
SIZE, TARGETS = 23, torch.tensor([[3, 1, 4, 1], [5, 9, -100, -100]])


@pytest.mark.parametrize("tie", ["tied", "untied"])
@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("smoothing", [0.1, 0.4])
def test_the_smoothed_loss_and_its_gradients_are_torchs(make_arm, tie, bias, smoothing):
    model = build_model(make_arm(tie, embedding={"output_bias": bias, "init": {"normal": 0.5}}), vocabulary_size=SIZE)
    initialise_model(model, seed=1)
    if model.embedding.output_bias is not None:
        torch.nn.init.normal_(model.embedding.output_bias, generator=torch.Generator().manual_seed(3))
    hidden = torch.randn(2, 4, 16, generator=torch.Generator().manual_seed(2)).requires_grad_()
    objective = CrossEntropyConfig(type="cross_entropy", label_smoothing=smoothing)
    loss, nats = compute_loss(model, hidden, TARGETS, objective=objective, scale=1 / 6)
    loss.backward()
    watched = [hidden, model.embedding.output_embedding] + ([model.embedding.output_bias] if bias else [])
    found = [part.grad.clone() for part in watched]
    scores = model.embedding.logits(hidden).flatten(0, 1)
    expected = F.cross_entropy(scores, TARGETS.flatten(), label_smoothing=smoothing)
    # sums over the width, the vocabulary and the tokens, of terms that add up to less than 64
    limit = bound_error(16 + SIZE + 8, size=64.0)
    torch.testing.assert_close(loss.detach(), expected.detach(), rtol=0.0, atol=limit)
    plain = F.cross_entropy(scores, TARGETS.flatten(), reduction="sum")
    torch.testing.assert_close(nats, plain.detach(), rtol=0.0, atol=6 * limit)
    assert (loss - plain / 6).abs() > 1e-3, "what is booked is not what is made small"
    for one, other in zip(found, torch.autograd.grad(expected, watched), strict=True):
        torch.testing.assert_close(one, other, rtol=0.0, atol=limit)


def test_no_smoothing_leaves_signature_and_loss_alone(make_arm):
    plain, smoothed = (
        CrossEntropyConfig.model_validate({"type": "cross_entropy"} | more) for more in ({}, {"label_smoothing": 0.1})
    )
    assert plain.label_smoothing is None and plain.model_dump(exclude_none=True) == {"type": "cross_entropy"}
    assert smoothed != plain
