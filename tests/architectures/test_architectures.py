"""What every architecture promises, whichever it is; a new file in architectures/ is tested here at once."""

import copy

import pytest
import torch
from precision import bound_error

from tiebench.experiment.schema import ARCHITECTURES
from tiebench.layers.architecture import SourceVectors
from tiebench.layers.dropout import set_generator
from tiebench.models.language_model import build_architecture

pytestmark = pytest.mark.numeric
WIDTH = 16
SIZES = {"layers": 2, "width": WIDTH, "heads": 4, "positions": 40}


def make_block(name, **options):
    fields = ARCHITECTURES[name].model_fields
    return {"type": name} | {key: value for key, value in SIZES.items() if key in fields} | options


def build_initialised(name, *, seed=1, **options):
    body = build_architecture(ARCHITECTURES[name].model_validate(make_block(name, **options)))
    body.initialise(torch.Generator().manual_seed(seed))
    return body


def read(body, vectors):
    """Outputs for vectors, beside a source where one is read; the second row's is shorter."""
    if not body.reads_source:
        return body(vectors)[0]
    source = torch.randn(len(vectors), 5, WIDTH, generator=torch.Generator().manual_seed(9))
    is_token = torch.ones(source.shape[:2], dtype=torch.bool)
    is_token[1, 3:] = False
    return body(vectors, SourceVectors(source, is_token))[0]


@pytest.fixture(params=list(ARCHITECTURES))
def name(request):
    return request.param


def test_there_are_architectures():
    assert {"encoder_decoder", "gpt2", "llama", "lstm"} <= set(ARCHITECTURES)


def test_vectors_keep_their_shape(name):
    body = build_initialised(name)
    vectors = read(body, torch.randn(3, 7, WIDTH))
    assert vectors.shape == (3, 7, WIDTH)
    assert body.width == WIDTH


def test_meta_then_empty_then_initialise_is_direct_construction(name):
    direct = build_initialised(name)
    with torch.device("meta"):
        moved = build_architecture(ARCHITECTURES[name].model_validate(make_block(name)))
    moved.to_empty(device="cpu").initialise(torch.Generator().manual_seed(1))
    inputs = torch.randn(2, 9, WIDTH)
    assert torch.equal(read(direct, inputs), read(moved, inputs))


def test_every_parameter_is_filled_from_the_generator_alone(name):
    bodies = []
    for global_seed, garbage in ((1, 7.0), (2, -3.0)):
        torch.manual_seed(global_seed)
        body = build_architecture(ARCHITECTURES[name].model_validate(make_block(name)))
        for parameter in body.parameters():
            torch.nn.init.constant_(parameter, garbage)
        before = torch.get_rng_state()
        body.initialise(torch.Generator().manual_seed(5))
        assert torch.equal(before, torch.get_rng_state())
        bodies.append(body.state_dict())
    assert all(torch.equal(bodies[0][key], bodies[1][key]) for key in bodies[0])
    other = build_initialised(name, seed=6).state_dict()
    assert any(not torch.equal(bodies[0][key], other[key]) for key in other)


def test_state_dict_holds_parameters_only(name):
    body = build_initialised(name)
    read(body, torch.randn(2, 5, WIDTH))
    assert set(body.state_dict()) == {key for key, _ in body.named_parameters()}


def test_later_vectors_do_not_change_earlier_outputs(name):
    body = build_initialised(name)
    with torch.no_grad():  # at its start, a transformer hardly mixes its tokens: a leak would stay unseen
        for parameter in body.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    inputs = torch.randn(2, 9, WIDTH)
    changed = inputs.clone()
    changed[:, 6:] = torch.randn(2, 3, WIDTH)
    before, after = read(body, inputs), read(body, changed)
    # outputs are below 5, each the end of some ten sums over the width or the vectors before
    assert torch.allclose(before[:, :6], after[:, :6], rtol=0.0, atol=bound_error(10 * WIDTH, size=5.0))
    assert not torch.allclose(before[:, 6:], after[:, 6:], atol=1e-3)


def test_dropout_acts_in_training_only_and_follows_its_generator(name):
    body = build_initialised(name, dropout=0.5)
    inputs = torch.randn(2, 9, WIDTH)

    def run(seed):
        set_generator(body, torch.Generator().manual_seed(seed))
        return read(body, inputs)

    before = torch.get_rng_state()
    assert torch.equal(run(1), run(1))
    assert not torch.equal(run(1), run(2))
    assert torch.equal(before, torch.get_rng_state())
    body.eval()
    assert torch.equal(run(1), run(2))
    assert torch.equal(run(1), read(build_initialised(name).eval(), inputs))


def test_inference_mode_leaves_nothing_that_training_trips_over(name):
    body = build_initialised(name).eval()
    with torch.inference_mode():
        read(body, torch.randn(2, 9, WIDTH))
    read(body.train(), torch.randn(2, 9, WIDTH)).sum().backward()
    assert all(parameter.grad is not None for parameter in body.parameters())


def test_a_copy_computes_the_same_and_is_apart(name):
    body = build_initialised(name)
    twin = copy.deepcopy(body)
    inputs = torch.randn(2, 5, WIDTH)
    expected = read(body, inputs)
    assert torch.equal(read(twin, inputs), expected)
    with torch.no_grad():
        for parameter in body.parameters():
            parameter.add_(1.0)
    assert torch.equal(read(twin, inputs), expected)
