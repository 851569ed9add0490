"""Shared layers: which pass uses which weights, and that sharing is nothing but equal weights that exist once."""

import pytest
import torch
from precision import bound_error
from pydantic import TypeAdapter, ValidationError
from torch.utils.flop_counter import FlopCounterMode

from tiebench.experiment.architecture_config import ArchitectureConfig
from tiebench.experiment.run_spec import RunSpec
from tiebench.layers.architecture import Architecture, SourceVectors
from tiebench.layers.sharing import Lent, choose_groups
from tiebench.models.generators import open_generator
from tiebench.models.language_model import build_architecture

pytestmark = pytest.mark.numeric
WIDTH = 16
OPTIONS = {
    "gpt2": {"heads": 4, "positions": 32, "init_std": 0.2},
    "llama": {"heads": 4, "init_std": 0.2},
    "encoder_decoder": {"heads": 4},
    "lstm": {},
}
TRANSFORMERS = ("gpt2", "llama", "encoder_decoder")
SHARED = [(name, share) for name in TRANSFORMERS for share in ("all", "attention", "feed_forward")]
SHARED.append(("lstm", "all"))
PARTS = {"attention": (".attention.", ".source_attention."), "feed_forward": (".mlp.",)}
PAIR = ("attention", "source_attention")
PARTS["all"] = (*PARTS["attention"], *PARTS["feed_forward"], "layers.")


def read(name: str, **options):
    content = {"type": name, "layers": 4, "width": WIDTH, **OPTIONS[name], **options}
    return TypeAdapter(ArchitectureConfig).validate_python(content)


def make(name: str, **options) -> Architecture:
    body = build_architecture(read(name, **options))
    body.initialise(open_generator(1, "architecture"))
    return body


def run(body: Architecture, vectors: torch.Tensor) -> torch.Tensor:
    """What becomes of the vectors; a source, where one is read, is the same backwards."""
    state = None
    if body.reads_source:
        state = SourceVectors(vectors.flip(1), torch.ones(vectors.shape[:2], dtype=torch.bool, device=vectors.device))
    return body(vectors, state)[0]


def is_shared(name: str, share: str) -> bool:
    """Whether the parameter of this name belongs to what is shared; the norm of a sub-layer does not."""
    return any(part in f"{name}." for part in PARTS[share]) and ".norm." not in name


def copy_out(shared: Architecture, plain: Architecture, *, groups: list[int], share: str) -> None:
    """Give every pass of the plain body the weights that the shared one uses there."""
    weights = shared.state_dict()
    with torch.no_grad():
        for name, parameter in plain.named_parameters():
            parts = name.split(".")
            if is_shared(name, share):
                parts[1] = str(groups.index(groups[int(parts[1])]))
            parameter.copy_(weights[".".join(parts)])


@pytest.mark.parametrize(
    ("order", "layers", "groups", "expected"),
    [
        ("sequence", 6, 3, [0, 0, 1, 1, 2, 2]),
        ("cycle", 6, 3, [0, 1, 2, 0, 1, 2]),
        ("cycle_reverse", 6, 3, [0, 1, 2, 2, 1, 0]),
        ("cycle_reverse", 9, 3, [0, 1, 2, 0, 1, 2, 2, 1, 0]),
        ("cycle_reverse", 3, 3, [0, 1, 2]),
        ("sequence", 7, 3, [0, 0, 0, 1, 1, 2, 2]),
        ("cycle", 7, 3, [0, 1, 2, 0, 1, 2, 0]),
        (None, 5, None, [0, 0, 0, 0, 0]),
    ],
)
def test_the_orders_are_those_of_takase_and_kiyono(order, layers, groups, expected):
    assert choose_groups(read("gpt2", layers=layers, share="all", groups=groups, order=order)) == expected


@pytest.mark.parametrize(("name", "share"), SHARED)
@pytest.mark.parametrize("order", ["sequence", "cycle_reverse"])
def test_sharing_is_equal_weights_whose_gradients_are_added(name, share, order):
    options = {"share": share, "groups": 2, "order": order}
    shared, plain = make(name, **options), make(name)
    groups = choose_groups(read(name, **options))
    copy_out(shared, plain, groups=groups, share=share)
    vectors = torch.randn(2, 5, WIDTH, generator=torch.Generator().manual_seed(2))
    found, expected = run(shared, vectors), run(plain, vectors)
    assert torch.equal(found, expected)
    found[..., ::2].square().sum().backward()  # of all, the sum is the same after a norm
    expected[..., ::2].square().sum().backward()
    gradients = {parameter_name: parameter.grad for parameter_name, parameter in plain.named_parameters()}
    for parameter_name, parameter in shared.named_parameters():
        parts = parameter_name.split(".")
        uses = [parameter_name]
        if is_shared(parameter_name, share):
            places = [place for place, group in enumerate(groups) if group == groups[int(parts[1])]]
            uses = [".".join([parts[0], str(place), *parts[2:]]) for place in places]
        total = torch.stack([gradients[use] for use in uses]).sum(0)
        limit = bound_error(len(uses) + 1, size=2 * float(total.abs().max()) + 1)  # the order of a sum of few terms
        torch.testing.assert_close(parameter.grad, total, rtol=0.0, atol=limit)


@pytest.mark.parametrize(("name", "share"), SHARED)
def test_a_shared_parameter_exists_once_and_starts_as_its_first_use_does_without_sharing(name, share):
    plain = make(name).state_dict()
    for options in ({}, {"groups": 2}, {"groups": 2, "order": "cycle"}):
        shared = make(name, share=share, **options)
        state = shared.state_dict()
        assert state.keys() < plain.keys()
        assert all(torch.equal(state[key], plain[key]) for key in state)
        missing = {key for key in plain if key not in state}
        assert all(is_shared(key, share) for key in missing), "norms are there for each pass"
        assert len({parameter.data_ptr() for parameter in shared.parameters()}) == len(state)


@pytest.mark.parametrize(("name", "share"), SHARED)
def test_as_many_groups_as_passes_share_nothing(name, share):
    plain, shared = make(name), make(name, share=share, groups=4, order="cycle_reverse")
    assert not any(isinstance(part, Lent) for part in shared.modules())
    vectors = torch.randn(2, 5, WIDTH)
    assert torch.equal(run(plain, vectors), run(shared, vectors))


def test_an_encoder_and_a_decoder_share_each_with_itself_alone():
    body = make("encoder_decoder", share="attention", groups=2, share_norms=True)
    names = set(body.state_dict())
    weights = sorted(name for name in names if name.endswith(("queries.weight", "up.weight")))
    expected = [f"encoder.{place}.attention.part.queries.weight" for place in (0, 2)]
    expected += [f"decoder.{place}.{part}.part.queries.weight" for place in (0, 2) for part in PAIR]
    expected += [f"{stack}.{place}.mlp.part.up.weight" for stack in ("encoder", "decoder") for place in range(4)]
    assert weights == sorted(expected)
    norms = {name for name in names if name.endswith("norm.weight") and ".mlp." not in name}
    assert norms == {name.replace("part.queries", "norm") for name in weights if "queries" in name}
    own = body.decoder[0].get_submodule("attention.part"), body.decoder[0].get_submodule("source_attention.part")
    assert body.decoder[1].get_submodule("attention.part").module is own[0] is not own[1]


def test_norms_are_shared_where_that_is_asked_and_only_before_what_is_shared():
    norms = [name for name in make("llama", share="attention", share_norms=True).state_dict() if "norm_" in name]
    assert norms == ["blocks.0.norm_attention.weight", *(f"blocks.{place}.norm_mlp.weight" for place in range(4))]
    assert len([name for name in make("llama", share="all", share_norms=True).state_dict() if "norm_" in name]) == 2


@pytest.mark.parametrize(("name", "share"), SHARED[:-1])
def test_operations_are_counted_for_each_pass_as_torch_counts_them(name, share):
    body, num_tokens = make(name, share=share, groups=2).to("meta"), 9
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        run(body, torch.randn(1, num_tokens, WIDTH, device="meta"))
    future = 4 * WIDTH * num_tokens * (num_tokens - 1) // 2 * 4  # torch counts what causality saves
    assert num_tokens * body.count_flops(num_tokens) == counter.get_total_flops() - future


@pytest.mark.parametrize("name", OPTIONS)
def test_operations_are_those_without_sharing(name):
    assert make(name, share="all").count_flops(7) == make(name).count_flops(7)


def test_every_pass_draws_masks_of_its_own():
    body = make("gpt2", share="all", share_norms=True, layers=2, dropout=0.5)
    seen: list[torch.Tensor] = []
    body.blocks[0].get_submodule("attention.dropout").register_forward_hook(lambda _, given, found: seen.append(found))
    body(torch.randn(1, 6, WIDTH))
    first, second = (weights == 0 for weights in seen)
    assert not torch.equal(first, second)


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("lstm", {"share": "attention"}, "share"),
        ("gpt2", {"share": "layers"}, "share"),
        ("gpt2", {"groups": 2}, "groups means nothing where no layers are shared"),
        ("llama", {"share": "none", "share_norms": True}, "share_norms means nothing"),
        ("gpt2", {"share": "all", "groups": 5}, r"groups \(5\) must not be more than layers \(4\)"),
        ("lstm", {"share": "all", "order": "cycle"}, "order means nothing with one set"),
    ],
)
def test_options_that_mean_nothing_are_refused_by_their_key(name, options, message):
    with pytest.raises(ValidationError, match=message):
        read(name, **options)


def test_no_sharing_leaves_signatures_as_they_are(make_arm, make_block):
    def sign(**options) -> str:
        return RunSpec("any", "arm", 1, make_arm("tied", architecture=make_block("gpt2", **options))).signature

    assert sign() == sign(share="none") == sign(share=None) != sign(share="all")
