"""Masks: how many, how large, from where."""

import pytest
import torch
from torch import nn

from tiebench.layers.dropout import Dropout, choose_probability, set_generator

pytestmark = pytest.mark.numeric


def make_dropout(probability, *, seed=1, **options):
    dropout = Dropout(probability, **options)
    dropout.generator = torch.Generator().manual_seed(seed)
    return dropout


@pytest.mark.parametrize("probability", [0.1, 0.5, 0.65])
def test_share_dropped_and_scale_of_the_rest(probability):
    dropped = make_dropout(probability)(torch.ones(100, 50, 40))
    share = (dropped == 0).double().mean().item()
    standard_error = (probability * (1 - probability) / dropped.numel()) ** 0.5
    assert abs(share - probability) < 4 * standard_error
    assert torch.allclose(dropped[dropped != 0], torch.tensor(1 / (1 - probability)))


def test_gradient_is_the_mask():
    inputs = torch.randn(4, 5, 6, requires_grad=True)
    outputs = make_dropout(0.5)(inputs)
    outputs.sum().backward()
    assert torch.equal(inputs.grad, make_dropout(0.5).draw_mask(inputs))
    assert torch.equal(outputs, inputs * inputs.grad)


def test_same_generator_same_mask_and_nothing_else_moves():
    inputs = torch.ones(10, 10, 10)
    before = torch.get_rng_state()
    first, same, other = (make_dropout(0.5, seed=seed)(inputs) for seed in (1, 1, 2))
    assert torch.equal(first, same)
    assert not torch.equal(first, other)
    assert torch.equal(before, torch.get_rng_state())


def test_masks_of_one_stream_are_uncorrelated():
    dropout = make_dropout(0.5)
    first, second = (dropout(torch.ones(100_000)) - 1 for _ in range(2))
    assert abs((first * second).mean().item()) < 4 / 100_000**0.5


def test_without_a_generator_torch_decides():
    dropout = Dropout(0.5)
    torch.manual_seed(3)
    first = dropout(torch.ones(1000))
    torch.manual_seed(3)
    assert torch.equal(first, dropout(torch.ones(1000)))


@pytest.mark.parametrize("dropout", [make_dropout(0.0), make_dropout(0.5).eval()], ids=["zero", "eval"])
def test_identity_draws_nothing(dropout):
    inputs = torch.ones(3, 3)
    before = dropout.generator.get_state()
    assert dropout(inputs) is inputs
    assert torch.equal(before, dropout.generator.get_state())


def test_shared_over_time_is_one_mask_per_row():
    dropped = make_dropout(0.5, shared_over_time=True)(torch.ones(8, 20, 30))
    assert torch.equal(dropped, dropped[:, :1].expand_as(dropped))
    assert not torch.equal(dropped[0], dropped[1])


def test_set_generator_reaches_every_depth():
    tree = nn.Sequential(Dropout(0.5), nn.Sequential(nn.Linear(2, 2), Dropout(0.5)))
    generator = torch.Generator()
    set_generator(tree, generator)
    assert tree[0].generator is generator and tree[1][1].generator is generator


def test_an_override_of_zero_counts():
    assert choose_probability(0.0, default=0.5) == 0.0
    assert choose_probability(None, default=0.5) == 0.5
