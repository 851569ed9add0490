"""The operations that are printed are those that the mathematics needs, counted by torch on the formula written out."""

import pytest
import torch
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

from tiebench.experiment.training_config import AugmentedConfig, CrossEntropyConfig
from tiebench.models.language_model import build_model, count_flops_per_token
from tiebench.training.objective import measure_similarity_divergence

OBJECTIVES = [
    CrossEntropyConfig(type="cross_entropy"),
    AugmentedConfig(type="augmented", temperature=20.0, gamma=0.65),
]
SIZE, NUM_TOKENS, CONTEXT = 50, 6, 10


@pytest.mark.parametrize("tie", ["tied", "untied"])
@pytest.mark.parametrize("objective", OBJECTIVES)
def test_both_ends_of_a_model_cost_what_their_products_cost(make_arm, tie, objective):
    model = build_model(make_arm(tie), vocabulary_size=SIZE)
    table = model.embedding.input_embedding
    torch.nn.init.uniform_(table, -0.1, 0.1)
    torch.nn.init.uniform_(model.embedding.output_embedding, -0.1, 0.1)
    hidden = torch.randn(NUM_TOKENS, model.architecture.width, requires_grad=True)
    targets = torch.arange(NUM_TOKENS)
    with FlopCounterMode(display=False) as counter:
        scores = F.linear(hidden, model.embedding.output_embedding)
        loss = F.cross_entropy(scores, targets)
        if isinstance(objective, AugmentedConfig):
            loss = loss + measure_similarity_divergence(scores, targets, matrix=table, temperature=20.0)
        loss.backward()
    body = 3 * model.architecture.count_flops(CONTEXT)
    counted = count_flops_per_token(model, context=CONTEXT, objective=objective) - body
    assert counter.get_total_flops() == NUM_TOKENS * counted
