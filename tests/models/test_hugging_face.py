"""Ours against the transformers library: the same weights give the same logits and the same gradients."""

from functools import partial

import pytest
import torch
from precision import bound_error
from torch.nn import functional

from tiebench.architectures import gpt2, llama
from tiebench.experiment.architecture_config import GPT2Config, LlamaConfig
from tiebench.models.hugging_face import convert_hugging_face, to_hugging_face

transformers = pytest.importorskip("transformers")
pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning"),
    pytest.mark.numeric,
]
VOCABULARY = 61
# Relative to the largest: a logit stands on four sums in a row over the width of 32, or three times that, in each of
# three layers; each term is one rounding.
RELATIVE = bound_error(3 * (32 + 48 + 32 + 96) + 32)


def make_gpt2(tied):
    config = transformers.GPT2Config(
        vocab_size=VOCABULARY, n_positions=48, n_embd=32, n_layer=3, n_head=4, tie_word_embeddings=tied,
        resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0, initializer_range=0.2, bos_token_id=0, eos_token_id=0,
    )  # fmt: skip
    options = GPT2Config(type="gpt2", layers=3, width=32, heads=4, positions=48)
    return transformers.GPT2LMHeadModel(config), gpt2.build(options), partial(convert_hugging_face, architecture="gpt2")


def make_llama(tied, kv_heads=None):
    config = transformers.LlamaConfig(
        vocab_size=VOCABULARY, hidden_size=32, intermediate_size=96, num_hidden_layers=3, num_attention_heads=4,
        num_key_value_heads=kv_heads or 4, max_position_embeddings=48, rms_norm_eps=1e-6, initializer_range=0.2,
        tie_word_embeddings=tied, bos_token_id=0, eos_token_id=0,
    )  # fmt: skip
    options = LlamaConfig(type="llama", layers=3, width=32, heads=4, kv_heads=kv_heads)
    return (
        transformers.LlamaForCausalLM(config),
        llama.build(options),
        partial(convert_hugging_face, architecture="llama"),
    )


def make_grouped_llama(tied):
    return make_llama(tied, kv_heads=2)


@pytest.fixture(params=[make_gpt2, make_llama, make_grouped_llama], ids=["gpt2", "llama", "grouped-llama"])
def make_pair(request):
    """A function from `tied` to (their model, our body with its weights, the conversion)."""

    def make(tied):
        torch.manual_seed(0)
        theirs, ours, convert = request.param(tied)
        with torch.no_grad():  # norms and biases too must differ from their initial values
            for parameter in theirs.parameters():
                parameter.add_(0.05 * torch.randn_like(parameter))
        ours.load_state_dict(convert(theirs.state_dict()))
        return theirs, ours, convert

    return make


def compute_logits(theirs, ours, tokens):
    vectors, _ = ours(theirs.get_input_embeddings()(tokens))
    return functional.linear(vectors, theirs.lm_head.weight)


@pytest.mark.parametrize("tied", [True, False], ids=["tied", "untied"])
@pytest.mark.parametrize("num_tokens", [1, 17, 48])
def test_logits_are_equal(make_pair, tied, num_tokens):
    theirs, ours, _ = make_pair(tied)
    assert (theirs.lm_head.weight is theirs.get_input_embeddings().weight) == tied
    tokens = torch.randint(VOCABULARY, (3, num_tokens))
    theirs.eval()
    expected = theirs(tokens, use_cache=False).logits
    actual = compute_logits(theirs, ours.eval(), tokens)
    assert expected.abs().max() > 0.5
    assert (actual - expected).abs().max() < RELATIVE * expected.abs().max()


def test_gradients_are_equal(make_pair):
    theirs, ours, convert = make_pair(True)
    tokens = torch.randint(VOCABULARY, (3, 21))
    inputs, targets = tokens[:, :-1], tokens[:, 1:].flatten()
    functional.cross_entropy(compute_logits(theirs, ours, inputs).flatten(0, 1), targets).backward()
    theirs.zero_grad()
    functional.cross_entropy(theirs(inputs, use_cache=False).logits.flatten(0, 1), targets).backward()
    expected = convert({name: parameter.grad for name, parameter in theirs.named_parameters()})
    actual = {name: parameter.grad for name, parameter in ours.named_parameters()}
    assert actual.keys() == expected.keys()
    largest = max(gradient.abs().max() for gradient in expected.values())
    for name, gradient in actual.items():
        assert gradient.abs().max() > 1e-6, name
        assert (gradient - expected[name]).abs().max() < 2 * RELATIVE * largest, name  # there and back


def test_the_body_alone_converts_too(make_pair):
    theirs, ours, convert = make_pair(True)
    converted = convert(theirs.base_model.state_dict())
    assert all(torch.equal(converted[name], values) for name, values in ours.state_dict().items())
    assert converted.keys() == ours.state_dict().keys()


def test_initial_distribution_is_theirs():
    config = transformers.GPT2Config(vocab_size=8, n_positions=16, n_embd=128, n_layer=4, n_head=4)
    ours = gpt2.build(GPT2Config(type="gpt2", layers=4, width=128, heads=4, positions=16))
    ours.initialise(torch.Generator().manual_seed(0))
    torch.manual_seed(0)
    expected = convert_hugging_face(transformers.GPT2LMHeadModel(config).state_dict(), architecture="gpt2")
    for name, values in ours.state_dict().items():
        spread, error = expected[name].std(), (2 / values.numel()) ** 0.5  # of the difference of two means
        assert (values.std() - spread).abs() <= 4 * spread * error / 2**0.5, f"{name}: four standard errors"
        assert (values.mean() - expected[name].mean()).abs() <= 4 * spread * error, f"{name}: four standard errors"


def test_the_way_back_gives_their_names_and_their_values(make_pair, request):
    theirs, ours, _ = make_pair(True)
    kind = "gpt2" if "gpt2" in request.node.callspec.id else "llama"
    back = to_hugging_face(ours.state_dict(), architecture=kind)
    tables = ("transformer.wte.weight", "model.embed_tokens.weight", "lm_head.weight")
    expected = {name: value for name, value in theirs.state_dict().items() if name not in tables}
    assert back.keys() == expected.keys()
    assert all(torch.equal(back[name], value) for name, value in expected.items())
