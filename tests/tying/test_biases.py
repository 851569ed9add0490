"""What the biases at the output end begin with."""

import pytest
import torch
from pydantic import ValidationError

from tiebench.experiment.embedding_config import EmbeddingConfig
from tiebench.models.language_model import LanguageModel, build_model, initialise_model

WITH_BIASES = {"init": {"uniform": 0.1}, "output_bias": True, "output_projection": {"bias": True}}


def build(make_arm, tie: str, embedding: dict) -> LanguageModel:
    model = build_model(make_arm(tie, embedding=embedding), vocabulary_size=500)
    initialise_model(model, seed=1)
    return model


@pytest.mark.parametrize("tie", ["tied", "untied"])
def test_the_output_biases_begin_as_they_are_told_and_nothing_else_changes(tie, make_arm):
    plain = build(make_arm, tie, WITH_BIASES)
    assert not plain.embedding.output_bias.any() and not plain.embedding.output_projection.bias.any()
    drawn = WITH_BIASES | {"output_bias_init": {"uniform": 0.1}}
    drawn["output_projection"] = {"bias": True, "bias_init": {"uniform": 0.2}}
    model = build(make_arm, tie, drawn)
    for bias, limit in ((model.embedding.output_bias, 0.1), (model.embedding.output_projection.bias, 0.2)):
        assert 0.8 * limit < bias.abs().max() <= limit and len(set(bias.tolist())) > 0.9 * len(bias)
    ours, theirs = dict(model.named_parameters()), dict(plain.named_parameters())
    changed = {name for name in ours if not torch.equal(ours[name], theirs[name])}
    assert changed == {"embedding.output_bias", "embedding.output_projection.bias"}
    again = build(make_arm, tie, drawn)
    assert torch.equal(again.embedding.output_bias, model.embedding.output_bias)


@pytest.mark.parametrize(
    ("block", "needed"),
    [
        ({"output_bias_init": {"uniform": 0.1}}, "output_bias: true"),
        ({"output_projection": {"bias_init": {"uniform": 0.1}}}, "bias: true"),
    ],
)
def test_an_initial_value_for_no_bias_is_an_error(block, needed):
    with pytest.raises(ValidationError, match=needed):
        EmbeddingConfig.model_validate(block)
