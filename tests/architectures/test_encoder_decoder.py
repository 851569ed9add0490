"""The encoder-decoder beside torch's own, and what padding must not do."""

import math
from itertools import pairwise

import pytest
import torch
from precision import bound_error
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from tiebench.architectures.encoder_decoder import EncoderDecoder, MultiHeadAttention, add_sinusoids
from tiebench.experiment.architecture_config import EncoderDecoderConfig
from tiebench.experiment.schema import ArmSpec
from tiebench.layers.architecture import SourceVectors
from tiebench.models.language_model import LanguageModel, build_model, initialise_model
from tiebench.models.sentence_pairs import PADDING, SentencePairs

pytestmark = pytest.mark.numeric
WIDTH, VOCABULARY = 32, 50
BLOCK = {"type": "encoder_decoder", "layers": 2, "width": WIDTH, "heads": 4, "mlp_width": 48}
SOURCE = torch.tensor([[3, 7, 9, 4, 0], [5, 2, 0, PADDING, PADDING], [8, 8, 1, 0, PADDING]])
TARGET = torch.tensor([[0, 11, 12, 13], [0, 21, 22, 0], [0, 31, 0, 0]])


@pytest.fixture
def make_model(make_arm):
    def make(norm: str = "post", tie: str = "untied", **options) -> LanguageModel:
        embedding = {"input_scale": "sqrt_width", "init": {"normal": WIDTH**-0.5}, "output_bias": True}
        spec: ArmSpec = make_arm(tie, architecture=BLOCK | {"norm": norm} | options, embedding=embedding)
        model = build_model(spec, vocabulary_size=VOCABULARY)
        initialise_model(model, seed=1)
        generator = torch.Generator().manual_seed(2)
        with torch.no_grad():
            for parameter in model.parameters():  # biases and norms too
                parameter.add_(torch.empty_like(parameter).normal_(0, 0.1, generator=generator))
        return model.eval()

    return make


def copy_attention(ours: MultiHeadAttention, theirs: nn.MultiheadAttention) -> None:
    theirs.in_proj_weight.copy_(torch.cat((ours.queries.weight, ours.keys_values.weight)))
    theirs.in_proj_bias.copy_(torch.cat((ours.queries.bias, ours.keys_values.bias)))
    theirs.out_proj.load_state_dict(ours.output.state_dict())


@torch.no_grad()
def build_torchs(ours: EncoderDecoder, *, norm_first: bool) -> nn.Transformer:
    """torch's encoder-decoder with our weights; the last norms, which it has by default, only where we have them."""
    options = {"dim_feedforward": 48, "dropout": 0.0, "batch_first": True, "norm_first": norm_first}
    last = [nn.LayerNorm(WIDTH) if norm_first else None for _ in range(2)]
    encoder = nn.TransformerEncoder(
        nn.TransformerEncoderLayer(WIDTH, 4, **options), 2, norm=last[0], enable_nested_tensor=False
    )
    decoder = nn.TransformerDecoder(nn.TransformerDecoderLayer(WIDTH, 4, **options), 2, norm=last[1])
    theirs = nn.Transformer(WIDTH, 4, custom_encoder=encoder, custom_decoder=decoder, batch_first=True, dropout=0.0)
    for block, layer in zip([*ours.encoder, *ours.decoder], [*encoder.layers, *decoder.layers], strict=True):
        sub_layers = [part for _, part in block.named_children()]
        copy_attention(block.attention.part, layer.self_attn)
        if len(sub_layers) == 3:
            copy_attention(block.source_attention.part, layer.multihead_attn)
        layer.linear1.load_state_dict(block.mlp.part.up.state_dict())
        layer.linear2.load_state_dict(block.mlp.part.down.state_dict())
        for number, part in enumerate(sub_layers, start=1):
            getattr(layer, f"norm{number}").load_state_dict(part.norm.state_dict())
    if norm_first:
        last[0].load_state_dict(ours.encoder_norm.state_dict())
        last[1].load_state_dict(ours.decoder_norm.state_dict())
    return theirs.eval()


@pytest.mark.parametrize("tie", ["untied", "tied", "three-way"])
@pytest.mark.parametrize("norm", ["post", "pre"])
def test_the_logits_are_those_of_torchs_transformer(norm, tie, make_model):
    model = make_model(norm, tie)
    theirs, embedding = build_torchs(model.architecture, norm_first=norm == "pre"), model.embedding
    padding = SOURCE == PADDING
    with torch.no_grad():
        source = embedding.source_embedding[SOURCE.clamp(min=0)] * math.sqrt(WIDTH)
        target = embedding.input_embedding[TARGET] * math.sqrt(WIDTH)
        hidden = theirs(
            add_sinusoids(source),
            add_sinusoids(target),
            src_key_padding_mask=padding,
            memory_key_padding_mask=padding,
            tgt_mask=nn.Transformer.generate_square_subsequent_mask(TARGET.shape[1]),
        )
        expected = hidden @ embedding.output_embedding.t() + embedding.output_bias
        found = model(SentencePairs(SOURCE, TARGET))
    # Some thirty sums over the width or the inner width, one after the other, whose terms add up to less than 16.
    torch.testing.assert_close(found, expected, rtol=0.0, atol=bound_error(30 * 48, size=16.0))
    assert found.std() > 0.1


def test_positions_are_the_papers_sinusoids():
    places = add_sinusoids(torch.zeros(1, 7, 8))[0]
    for position in range(7):
        for pair in range(4):
            angle = position / 10_000 ** (2 * pair / 8)
            assert places[position, 2 * pair].item() == pytest.approx(math.sin(angle), abs=1e-6)
            assert places[position, 2 * pair + 1].item() == pytest.approx(math.cos(angle), abs=1e-6)


@pytest.mark.parametrize("norm", ["post", "pre"])
def test_padding_changes_nothing(norm, make_model):
    """Scores and gradients of a row alone are those of the row among longer ones."""
    model = make_model(norm, "three-way").double()
    together = model(SentencePairs(SOURCE, TARGET))
    for row, (num_source, num_target) in enumerate(((5, 4), (3, 3), (4, 2))):
        alone = SentencePairs(SOURCE[row : row + 1, :num_source], TARGET[row : row + 1, :num_target])
        torch.testing.assert_close(model(alone)[0], together[row, :num_target], rtol=0.0, atol=1e-12)
    gradients = []
    for pairs in (SentencePairs(SOURCE[1:2, :3], TARGET[1:2, :3]), SentencePairs(SOURCE[1:2], TARGET[1:2])):
        model.zero_grad()
        model(pairs)[:, :3].square().sum().backward()
        gradients.append([parameter.grad.clone() for parameter in model.parameters()])
    for one, other in zip(*gradients, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-9)


def test_a_target_sees_all_of_the_source_and_nothing_after_itself(make_model):
    model = make_model()
    before = model(SentencePairs(SOURCE, TARGET))
    changed = SOURCE.clone()
    changed[0, 4] = 40
    assert not torch.allclose(model(SentencePairs(changed, TARGET))[0, 0], before[0, 0], atol=1e-3)
    later = TARGET.clone()
    later[:, 3] = 41
    assert torch.equal(model(SentencePairs(SOURCE, later))[:, :3], before[:, :3])


def test_attention_weights_are_dropped_only_where_asked(make_model):
    model = make_model(dropout_attention=0.5).train()
    model.set_dropout_generator(torch.Generator().manual_seed(1))
    pairs = SentencePairs(SOURCE, TARGET)
    assert not torch.equal(model(pairs), model(pairs))
    plain = make_model().train()
    assert torch.equal(plain(pairs), plain(pairs))
    torch.testing.assert_close(model.eval()(pairs), plain(pairs))


def test_flops_are_what_torch_counts():
    num_tokens = 20
    body = EncoderDecoder(EncoderDecoderConfig(**BLOCK)).to("meta")
    vectors = torch.randn(1, num_tokens, WIDTH, device="meta")
    source = SourceVectors(vectors, torch.ones(1, num_tokens, dtype=torch.bool, device="meta"))
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        body(vectors, source)
    future = 4 * WIDTH * num_tokens * (num_tokens - 1) // 2 * len(body.decoder)  # torch counts what causality saves
    assert num_tokens * body.count_flops(num_tokens) == counter.get_total_flops() - future


def test_each_map_starts_as_glorot_and_bengio_say():
    body = EncoderDecoder(EncoderDecoderConfig(**BLOCK))
    body.initialise(torch.Generator().manual_seed(1))
    attention, mlp = body.encoder[0].attention.part, body.encoder[0].mlp.part
    for weight, inputs, outputs in ((attention.keys_values.weight, 32, 32), (mlp.up.weight, 32, 48)):
        bound = math.sqrt(6 / (inputs + outputs))
        assert 0.98 * bound < weight.abs().max() <= bound


def test_there_is_a_last_norm_in_each_stack_with_pre_norm_only():
    sizes = [
        sum(parameter.numel() for parameter in EncoderDecoder(EncoderDecoderConfig(**BLOCK, norm=norm)).parameters())
        for norm in ("post", "pre")
    ]
    assert [more - less for less, more in pairwise(sizes)] == [2 * 2 * WIDTH]
