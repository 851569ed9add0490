"""The LSTM against torch's own, its two kinds of dropout, and its state."""

import pytest
import torch
from precision import bound_error
from pydantic import ValidationError
from torch import nn
from torch.nn import functional
from torch.utils.flop_counter import FlopCounterMode

from tiebench.architectures import lstm
from tiebench.experiment.architecture_config import LSTMConfig
from tiebench.layers.dropout import Dropout, set_generator

pytestmark = pytest.mark.numeric
WIDTH = 12
# A gate is a sum of WIDTH inputs, as many states and two biases, with weights below 0.1: absolute values below 4 in
# all. Sigmoid and tanh (a few roundings of their own) shrink what it is off to a quarter or less, and a cell, which
# keeps about half of its error, gathers at most twice that of a step: so does the next layer.
VECTORS = {"rtol": 0.0, "atol": 2 * bound_error(2 * WIDTH + 8, size=4.0)}
# Gradients of the sum of squares: sums over 3 rows and 7 steps of those vectors with others below 1.
GRADIENTS = {"rtol": 0.0, "atol": 3 * 7 * VECTORS["atol"]}
GAL = {"variational": True, "masks": "per_gate", "dropout": 0.5, "dropout_hidden": 0.3}


def make_lstm(*, layers=2, width=WIDTH, seed=1, **options):
    body = lstm.build(LSTMConfig(type="lstm", layers=layers, width=width, **options))
    body.initialise(torch.Generator().manual_seed(seed))
    set_generator(body, torch.Generator().manual_seed(seed))
    return body


def make_reference(body):
    """torch.nn.LSTM with the same weights."""
    reference = nn.LSTM(WIDTH, WIDTH, len(body.layers), batch_first=True)
    with torch.no_grad():
        for index, layer in enumerate(body.layers):
            for key, values in layer.named_parameters():
                getattr(reference, key.replace("l0", f"l{index}")).copy_(values)
    return reference


def test_is_torch_lstm_in_values_and_gradients():
    body = make_lstm()
    reference = make_reference(body)
    inputs = torch.randn(3, 7, WIDTH)
    outputs, state = body(inputs)
    expected, (hidden, cell) = reference(inputs)
    assert torch.allclose(outputs, expected, **VECTORS)
    assert torch.allclose(torch.stack([layer[0] for layer in state]), hidden, **VECTORS)
    assert torch.allclose(torch.stack([layer[1] for layer in state]), cell, **VECTORS)
    outputs.square().sum().backward()
    expected.square().sum().backward()
    assert torch.allclose(body.layers[1].weight_hh_l0.grad, reference.weight_hh_l1.grad, **GRADIENTS)


def test_parameter_count_of_the_small_model():
    assert sum(parameter.numel() for parameter in make_lstm(width=200).parameters()) == 643_200


@pytest.mark.parametrize(
    "options", [{}, {"variational": True, "dropout": 0.5}, GAL], ids=["plain", "variational", "per gate"]
)
def test_two_windows_with_state_are_one_long_window(options):
    body = make_lstm(**options)
    inputs = torch.randn(3, 14, WIDTH)

    def run(vectors, state):
        set_generator(body, torch.Generator().manual_seed(9))  # the same masks in every window
        return body(vectors, state)

    whole, last = run(inputs, None)
    first, state = run(inputs[:, :6], None)
    second, carried = run(inputs[:, 6:], state)
    assert torch.allclose(whole, torch.cat((first, second), dim=1), **VECTORS)
    for (hidden, cell), (other_hidden, other_cell) in zip(last, carried, strict=True):
        assert hidden.shape == cell.shape == (3, WIDTH)
        assert torch.allclose(hidden, other_hidden, **VECTORS) and torch.allclose(cell, other_cell, **VECTORS)


def test_dropout_has_its_three_places():
    def probabilities(**options):
        body = make_lstm(layers=3, **options)
        return [part.probability for part in body.modules() if isinstance(part, Dropout)]

    assert probabilities(dropout=0.5) == [0.5, 0.5, 0.5, 0.5]
    assert probabilities(dropout=0.5, dropout_input=0.0) == [0.0, 0.5, 0.5, 0.5]
    assert probabilities(dropout_between=0.3) == [0.0, 0.3, 0.3, 0.0]
    assert probabilities(dropout=0.5, dropout_output=0.1) == [0.5, 0.5, 0.5, 0.1]
    assert probabilities(dropout=0.5, variational=True) == [0.0, 0.5, 0.5, 0.5]
    assert probabilities(dropout=0.5, variational=True, dropout_input=0.2) == [0.2, 0.5, 0.5, 0.5]


def test_per_gate_dropout_has_its_four_places():
    def probabilities(**options):
        body = make_lstm(layers=3, **GAL | options)
        before = [dropout.probability for dropout in (body.input_dropout, *body.layer_dropouts)]
        gates = [(dropout.inputs.probability, dropout.hidden.probability) for dropout in body.gate_dropouts]
        return before, gates

    assert probabilities() == ([0.0, 0.0, 0.0, 0.5], [(0.5, 0.3)] * 3)
    assert probabilities(dropout_hidden=None) == ([0.0, 0.0, 0.0, 0.5], [(0.5, 0.5)] * 3)
    given = {"dropout_input": 0.1, "dropout_between": 0.2, "dropout_output": 0.4}
    assert probabilities(**given) == ([0.0, 0.0, 0.0, 0.4], [(0.1, 0.3), (0.2, 0.3), (0.2, 0.3)])


def test_plain_dropout_is_on_inputs_between_and_on_outputs():
    body = make_lstm(dropout=0.5)
    inputs = torch.randn(3, 7, WIDTH)
    outputs, _ = body(inputs)
    generator = torch.Generator().manual_seed(1)
    masks = [Dropout(0.5) for _ in range(3)]
    for mask in masks:
        mask.generator = generator
    vectors = masks[0](inputs)
    for layer, mask in zip(body.layers, masks[1:], strict=True):
        vectors = mask(layer(vectors)[0])
    assert torch.equal(outputs, vectors)


def unroll_variational(body, inputs, masks):
    """Inan et al. 2017 written once more with nn.LSTMCell: the masked state goes sideways and up."""
    vectors = inputs
    for layer, mask in zip(body.layers, masks, strict=True):
        cell = nn.LSTMCell(WIDTH, WIDTH)
        cell.load_state_dict({key.replace("_l0", ""): values for key, values in layer.state_dict().items()})
        masked = memory = torch.zeros(inputs.shape[0], WIDTH)
        outputs = []
        for step in vectors.unbind(1):
            hidden, memory = cell(step, (masked, memory))
            masked = hidden * mask
            outputs.append(masked)
        vectors = torch.stack(outputs, dim=1)
    return vectors


def test_variational_masks_are_shared_by_state_and_next_layer():
    body = make_lstm(dropout=0.5, variational=True)
    inputs = torch.randn(3, 7, WIDTH)
    outputs, _ = body(inputs)
    generator = torch.Generator().manual_seed(1)
    masks = []
    for _ in body.layers:
        dropout = Dropout(0.5, shared_over_time=True)
        dropout.generator = generator
        masks.append(dropout.draw_mask(inputs)[:, 0])
    assert torch.allclose(outputs, unroll_variational(body, inputs, masks), **VECTORS)


def test_variational_mask_is_constant_in_time_and_new_for_each_window():
    body = make_lstm(dropout=0.5, variational=True)
    inputs = torch.randn(3, 30, WIDTH)
    zeros = body(inputs)[0] == 0
    assert torch.equal(zeros, zeros[:, :1].expand_as(zeros))
    assert 0.2 < zeros.double().mean() < 0.8
    assert not torch.equal(zeros, body(inputs)[0] == 0)


def test_variational_leaves_the_embedding_alone():
    body = make_lstm(layers=1, dropout=0.5, variational=True)
    inputs = torch.randn(3, 1, WIDTH)
    outputs, _ = body(inputs)
    kept = outputs != 0
    undisturbed = 2 * body.eval()(inputs)[0]
    assert torch.allclose(outputs[kept], undisturbed[kept], **VECTORS)


def draw_gate_masks(layers, inputs, *, seed=1):
    """What GAL draws for a window, in order: per layer four for the inputs, four for the state; last the output's."""
    generator = torch.Generator().manual_seed(seed)

    def draw(probability):
        dropout = Dropout(probability, shared_over_time=True)
        dropout.generator = generator
        return dropout.draw_mask(inputs)[:, 0]

    masks = [([draw(0.5) for _ in range(4)], [draw(0.3) for _ in range(4)]) for _ in range(layers)]
    return masks, draw(0.5)


def unroll_per_gate(body, inputs, masks, output_mask):
    """Equation 5 of Gal & Ghahramani 2016, gate by gate and step by step, each gate with its own two masks."""
    vectors = inputs
    for layer, (input_masks, hidden_masks) in zip(body.layers, masks, strict=True):
        below, beside, bias_below, bias_beside = (values.chunk(4) for values in layer.parameters())
        hidden = cell = torch.zeros(inputs.shape[0], WIDTH)
        outputs = []
        for step in vectors.unbind(1):
            write, keep, candidate, read = (
                (step * input_masks[gate]) @ below[gate].t()
                + (hidden * hidden_masks[gate]) @ beside[gate].t()
                + bias_below[gate] + bias_beside[gate]
                for gate in range(4)
            )  # fmt: skip
            cell = keep.sigmoid() * cell + write.sigmoid() * candidate.tanh()
            hidden = read.sigmoid() * cell.tanh()
            outputs.append(hidden)
        vectors = torch.stack(outputs, dim=1)
    return vectors * output_mask.unsqueeze(1)


def test_per_gate_masks_are_constant_in_time_and_one_for_each_gate():
    body, inputs = make_lstm(**GAL), torch.randn(3, 7, WIDTH)
    masks, output_mask = draw_gate_masks(2, inputs)
    for kinds in masks:
        for four in kinds:
            assert not any(torch.equal(four[0], other) for other in four[1:])
    expected = unroll_per_gate(body, inputs, masks, output_mask)
    outputs, _ = body(inputs)
    assert torch.allclose(outputs, expected, **VECTORS)
    again, _ = body(inputs)
    assert not torch.allclose(again, expected, atol=1e-3), "the next window has other masks"
    gradients = []
    for vectors in (outputs, expected):
        body.zero_grad()
        vectors.square().sum().backward()
        gradients.append([parameter.grad.clone() for parameter in body.parameters()])
    for ours, theirs in zip(*gradients, strict=True):
        assert torch.allclose(ours, theirs, **GRADIENTS)


def test_per_gate_state_is_never_masked():
    body, inputs = make_lstm(layers=1, **GAL), torch.randn(3, 7, WIDTH)
    outputs, [(hidden, _)] = body(inputs)
    kept = outputs[:, -1] != 0
    assert (hidden != 0).all() and not kept.all()
    assert torch.allclose(outputs[:, -1][kept], 2 * hidden[kept], **VECTORS)


def test_per_gate_evaluation_is_torch_lstm_and_draws_nothing():
    body, inputs = make_lstm(**GAL).eval(), torch.randn(3, 7, WIDTH)
    generator = body.gate_dropouts[0].hidden.generator
    before = generator.get_state()
    assert torch.allclose(body(inputs)[0], make_reference(body)(inputs)[0], **VECTORS)
    assert torch.equal(before, generator.get_state())


def test_per_gate_without_probabilities_is_torch_lstm():
    body, inputs = make_lstm(variational=True, masks="per_gate"), torch.randn(3, 7, WIDTH)
    state = [(torch.randn(3, WIDTH), torch.randn(3, WIDTH)) for _ in range(2)]
    outputs, _ = body(inputs, state)
    assert torch.allclose(outputs, make_lstm()(inputs, state)[0], **VECTORS)


def test_a_mask_of_the_state_alone_leaves_what_comes_from_below():
    body = make_lstm(layers=1, variational=True, masks="per_gate", dropout_hidden=0.5)
    inputs = torch.randn(3, 7, WIDTH)
    outputs, plain = body(inputs)[0], make_lstm(layers=1)(inputs)[0]
    assert torch.allclose(outputs[:, 0], plain[:, 0], **VECTORS), "the first state is zero, masked or not"
    assert not torch.allclose(outputs[:, 1], plain[:, 1], atol=1e-3)


def test_variational_loop_without_masks_is_torch_lstm():
    body = make_lstm(dropout=1e-12, variational=True)  # rounds to zero, but takes the step-by-step way
    assert body.layer_dropouts[0].active
    inputs = torch.randn(3, 7, WIDTH)
    state = [(torch.randn(3, WIDTH), torch.randn(3, WIDTH)) for _ in range(2)]
    outputs, (_, last) = body(inputs, state)
    expected, (_, expected_last) = make_lstm(dropout=0.0)(inputs, state)
    assert torch.allclose(outputs, expected, **VECTORS)
    assert torch.allclose(last[0], expected_last[0], **VECTORS)


@pytest.mark.parametrize("options", [{"variational": True, "dropout": 0.3}, GAL], ids=["variational", "per gate"])
def test_variational_and_plain_have_the_same_parameters(options):
    plain, variational = make_lstm().state_dict(), make_lstm(**options).state_dict()
    assert plain.keys() == variational.keys()
    assert all(torch.equal(plain[key], variational[key]) for key in plain)


def test_initial_values():
    values = torch.cat([parameter.flatten() for parameter in make_lstm(width=100).parameters()])
    assert values.abs().max() <= 0.1 and abs(values.std().item() - 0.1 / 3**0.5) < 1e-3
    values = torch.cat([parameter.flatten() for parameter in make_lstm(init={"normal": 0.3}).parameters()])
    assert 0.27 < values.std() < 0.33


def test_forget_bias_is_added_to_the_forget_gate_only():
    without, with_bias = make_lstm(), make_lstm(forget_bias=1.5)
    for layer, other in zip(without.layers, with_bias.layers, strict=True):
        difference = other.bias_ih_l0 - layer.bias_ih_l0
        gates = difference.unflatten(0, (4, WIDTH))
        assert torch.allclose(gates[1], torch.tensor(1.5), **VECTORS)
        assert gates[[0, 2, 3]].abs().max() == 0
        assert torch.equal(other.bias_hh_l0, layer.bias_hh_l0)


def test_flops_are_those_of_an_unrolled_net():
    num_steps = 5
    body = make_lstm()
    with FlopCounterMode(display=False) as counter:
        for layer in body.layers:
            vectors, hidden = torch.randn(1, WIDTH), torch.randn(1, WIDTH)
            for _ in range(num_steps):
                functional.linear(vectors, layer.weight_ih_l0) + functional.linear(hidden, layer.weight_hh_l0)
    assert counter.get_total_flops() == num_steps * body.count_flops(35)


@pytest.mark.parametrize(("training", "options"), [(True, {}), (False, {}), (False, GAL)])
def test_the_fast_kernel_is_used(training, options):
    if not torch.backends.mkldnn.is_available():
        pytest.skip("this torch has no oneDNN")
    body = make_lstm(**options).train(training)
    with torch.profiler.profile() as profile, torch.set_grad_enabled(training):
        body(torch.randn(3, 7, WIDTH))
    assert "aten::mkldnn_rnn_layer" in {event.key for event in profile.key_averages()}


def test_impossible_options_are_refused():
    for wrong in (
        {"dropout": 1.0}, {"layers": 0}, {"heads": 2}, {"dropout_between": -0.1}, {"masks": "per_layer"},
        {"masks": "per_gate"}, {"dropout_hidden": 0.3}, {"dropout_hidden": 0.3, "variational": True},
    ):  # fmt: skip
        with pytest.raises(ValidationError, match=next(iter(wrong))):
            LSTMConfig.model_validate({"type": "lstm", "layers": 2, "width": 4} | wrong)


ONE_BIAS = pytest.mark.parametrize(
    "options", [{}, {"variational": True, "dropout": 0.5}, GAL], ids=["plain", "variational", "per gate"]
)


@ONE_BIAS
def test_one_bias_for_each_gate_from_zero_and_the_other_parameters_as_with_two(options):
    two, one = make_lstm(**options), make_lstm(biases="one", **options)
    found, wanted = dict(one.named_parameters()), dict(two.named_parameters())
    assert found.keys() == {name for name in wanted if "bias_hh" not in name} == one.state_dict().keys()
    for name, values in found.items():
        assert torch.equal(values, torch.zeros_like(values) if "bias" in name else wanted[name]), name


@ONE_BIAS
def test_the_only_bias_has_the_gradient_of_either_of_two_and_nothing_moves_the_other(options):
    one, two = make_lstm(biases="one", **options), make_lstm(**options)
    with torch.no_grad():
        for index, layer in enumerate(one.layers):
            layer.bias_ih_l0.uniform_(-0.1, 0.1, generator=torch.Generator().manual_seed(5))
            for name, values in layer.named_parameters():
                getattr(two.layers[index], name).copy_(values)
            two.layers[index].bias_hh_l0.zero_()
    inputs = torch.randn(3, 7, WIDTH, generator=torch.Generator().manual_seed(4))
    outputs = []
    for body in (one, two):
        set_generator(body, torch.Generator().manual_seed(9))
        outputs.append(body(inputs)[0])
        outputs[-1].square().sum().backward()
    torch.testing.assert_close(*outputs, **VECTORS)
    for mine, theirs in zip(one.layers, two.layers, strict=True):
        torch.testing.assert_close(mine.bias_ih_l0.grad, theirs.bias_ih_l0.grad, **GRADIENTS)
        torch.testing.assert_close(mine.bias_ih_l0.grad, theirs.bias_hh_l0.grad, **GRADIENTS)
    torch.optim.SGD(one.parameters(), lr=0.1).step()
    assert all(not layer.bias_hh_l0.any() for layer in one.layers)


def test_one_bias_takes_a_forget_bias_and_is_counted_once():
    body = make_lstm(biases="one", forget_bias=1.5)
    assert all(layer.bias_ih_l0.sum() == 1.5 * WIDTH for layer in body.layers)
    assert sum(parameter.numel() for parameter in make_lstm(width=200, biases="one").parameters()) == 643_200 - 2 * 800
