"""What gpt2 and llama share: context, attention, flops, initial values, options."""

import pytest
import torch
from precision import bound_error
from pydantic import ValidationError
from torch.utils.flop_counter import FlopCounterMode

from tiebench.architectures import gpt2, llama
from tiebench.errors import TiebenchError
from tiebench.experiment.architecture_config import GPT2Config, LlamaConfig
from tiebench.experiment.schema import ARCHITECTURES
from tiebench.layers.dropout import Dropout
from tiebench.layers.transformer import attend
from tiebench.models.hugging_face import convert_hugging_face

pytestmark = pytest.mark.numeric
SIZES = {"layers": 3, "width": 32, "heads": 4}


def make_gpt2(**options):
    body = gpt2.build(GPT2Config(**{"type": "gpt2", "positions": 64} | SIZES | options))
    body.initialise(torch.Generator().manual_seed(1))
    return body


def make_llama(**options):
    body = llama.build(LlamaConfig(**{"type": "llama"} | SIZES | options))
    body.initialise(torch.Generator().manual_seed(1))
    return body


@pytest.mark.parametrize("make_body", [make_gpt2, make_llama, lambda: make_llama(kv_heads=2, mlp_width=40)])
def test_flops_are_what_torch_counts(make_body):
    num_tokens = 20
    body = make_body().to("meta")  # on a CPU the counter overlooks the fused attention
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        body(torch.randn(1, num_tokens, 32, device="meta"))
    future = 4 * 32 * num_tokens * (num_tokens - 1) // 2 * len(body.blocks)  # torch counts what causality saves
    assert num_tokens * body.count_flops(num_tokens) == counter.get_total_flops() - future


def test_too_long_a_context_names_the_key_to_raise():
    body = make_gpt2(positions=8)
    body(torch.randn(1, 8, 32))
    with pytest.raises(TiebenchError, match="at most 8 tokens") as caught:
        body(torch.randn(1, 9, 32))
    assert "architecture.positions to 9" in caught.value.hint
    with pytest.raises(TiebenchError) as caught:
        make_llama(max_context=8)(torch.randn(1, 9, 32))
    assert "architecture.max_context to 9" in caught.value.hint
    assert make_llama().max_context is None


@pytest.mark.parametrize("num_tokens", [1, 5, 33])
def test_attention_spelled_out_is_the_fused_one(num_tokens):
    parts = [torch.randn(2, 4, num_tokens, 8) for _ in range(3)]
    fused = attend(parts[0], keys=parts[1], values=parts[2], dropout=Dropout(0.0))
    spelled_out = attend(parts[0], keys=parts[1], values=parts[2], dropout=Dropout(1e-12))
    # A weight is off relatively by what its score, a sum of 8 products, is off, and again through its denominator, a
    # sum over the tokens; the outputs are means of values, weighed by these.
    size = float((parts[0].abs() @ parts[1].abs().transpose(-1, -2)).max()) / 8**0.5
    weight = 2 * bound_error(8 + 2, size=size) + bound_error(2 * num_tokens)
    assert torch.allclose(fused, spelled_out, rtol=0.0, atol=weight * float(parts[2].abs().max()))


def test_attention_dropout_drops_weights():
    dropout = Dropout(0.5)
    dropout.generator = torch.Generator().manual_seed(1)
    queries = torch.zeros(1, 1, 6, 8)  # every weight of row t is 1 / (t + 1)
    values = torch.eye(6).reshape(1, 1, 6, 6)
    weights = attend(queries, keys=queries, values=values, dropout=dropout)[0, 0]
    allowed = torch.ones(6, 6).tril() / torch.arange(1, 7)[:, None]
    kept = weights != 0
    assert torch.allclose(weights[kept], 2 * allowed[kept])
    assert 3 < kept.sum() < 18 and not kept.triu(1).any()


def test_dropout_has_its_three_places():
    for make_body in (make_gpt2, make_llama):
        body = make_body(dropout=0.3, dropout_attention=0.0, dropout_residual=0.2)
        assert body.dropout.probability == 0.3
        assert {block.dropout.probability for block in body.blocks} == {0.2}
        assert {block.attention.dropout.probability for block in body.blocks} == {0.0}


def test_initial_values():
    body = make_gpt2(width=128)
    ends = torch.cat([block.mlp.down.weight.flatten() for block in body.blocks])
    assert abs(ends.std().item() / (0.02 / 6**0.5) - 1) < 0.02
    assert abs(body.blocks[0].mlp.up.weight.std().item() / 0.02 - 1) < 0.02
    assert abs(body.positions.std().item() / 0.02 - 1) < 0.03
    assert (body.norm.weight == 1).all() and (body.blocks[0].mlp.up.bias == 0).all()
    body = make_llama(width=128, init_std=0.1)
    assert abs(body.blocks[0].attention.output.weight.std().item() / 0.1 - 1) < 0.02
    assert (body.blocks[2].norm_mlp.weight == 1).all()


def test_gpt2_knows_positions_and_llama_knows_distances():
    repeated = torch.randn(1, 1, 32).expand(1, 6, 32)
    outputs = make_gpt2()(repeated)[0]
    assert not torch.allclose(outputs[:, 0], outputs[:, 5], atol=1e-3)
    body = make_llama(init_std=0.2)
    pair, filler = torch.randn(1, 2, 32), torch.randn(1, 1, 32)
    near = body(torch.cat((pair, filler), dim=1))[0][:, -1]
    swapped = body(torch.cat((pair.flip(1), filler), dim=1))[0][:, -1]
    assert not torch.allclose(near, swapped, atol=1e-3)


@pytest.mark.parametrize(("width", "expected"), [(256, 704), (96, 256), (32, 96), (512, 1376)])
def test_llama_mlp_width_is_eight_thirds(width, expected):
    assert make_llama(width=width, layers=1).blocks[0].mlp.up.out_features == expected


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("gpt2", {"heads": 5}, r"heads \(5\) must divide width \(32\)"),
        ("llama", {"heads": 5}, r"heads \(5\) must divide width \(32\)"),
        ("llama", {"kv_heads": 3}, r"kv_heads \(3\) must divide heads \(4\)"),
        ("llama", {"width": 12}, r"width / heads \(3\) must be even"),
        ("gpt2", {"kv_heads": 2}, "kv_heads"),
        ("gpt2", {"dropout": 1.0}, "dropout"),
    ],
)
def test_impossible_options_are_refused(name, options, message):
    with pytest.raises(ValidationError, match=message):
        ARCHITECTURES[name].model_validate({"type": name} | SIZES | options)


def test_weights_with_unknown_names_are_refused():
    with pytest.raises(TiebenchError, match="relative_attention"):
        convert_hugging_face({"transformer.relative_attention": torch.zeros(1)}, architecture="gpt2")
