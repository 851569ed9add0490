"""The laws of tying, for every tie with every architecture, its layers shared or not, its embedding in bands or not.

A new file in either folder is tested at once.

(The idea of stating them as tests: torchtitan's `test_weight_tying.py`.)
"""

import copy
import io
from collections.abc import Callable
from itertools import product
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
import torch
from precision import bound_error
from torch import Tensor
from torch.nn import functional as F

from tiebench.errors import TiebenchError
from tiebench.experiment.schema import ARCHITECTURES, TIES, ArmSpec
from tiebench.experiment.training_config import AdamWConfig, SGDConfig
from tiebench.models.language_model import (
    LanguageModel,
    build_model,
    build_on_meta,
    count_parameters,
    initialise_model,
)
from tiebench.models.sentence_pairs import PADDING, SentencePairs
from tiebench.training.checkpoints import read_weights, write_weights
from tiebench.training.optimizers import build_optimizer

pytestmark = pytest.mark.numeric
VOCABULARY, WIDTH, NUM_TOKENS = 37, 16, 18
# The absolute values in a score, a sum over a width of at most 24, sum to less than 8 (weights of 0.3, hidden vectors
# below 1, scales included). What it is off, a probability is off relatively, and again through its denominator.
NATS = bound_error(24 + 2, size=8.0) + bound_error(VOCABULARY)
GRADIENTS = 2 * NATS + bound_error(NUM_TOKENS)  # a mean over tokens of hidden vectors, weighed by probabilities


def list_bodies() -> list[str]:
    """Every architecture plainly, and with each of the parts that its layers may share: `gpt2+attention`."""
    found = []
    for name, config in ARCHITECTURES.items():
        fields = config.model_fields
        parts = get_args(fields["share"].annotation) if "share" in fields else ()
        choices = next((get_args(part) for part in parts if get_args(part)), ())
        found += [name, *(f"{name}+{share}" for share in choices if share != "none")]
    return found


BODIES = list_bodies()
PLACES = {"untied": (), "tied": ("input", "output"), "three-way": ("source", "input", "output")}  # of one matrix
PLACES["untied-late"] = PLACES["tied"]  # as it starts
ADAPTIVE = {"cutoffs": [7, 20], "factor": 2}
EMBEDDINGS = {  # `tied+adaptive` is a tie with an embedding
    "adaptive": {"adaptive": ADAPTIVE},
    "adaptive-narrower": {"adaptive": ADAPTIVE, "width": 8, "output_bias": True},
}
IN_BANDS = [f"{tie}+{embedding}" for tie, embedding in product(("untied", "tied"), EMBEDDINGS)]
PLACES |= {name: PLACES[name.partition("+")[0]] for name in IN_BANDS}


def is_possible(tie: str, body: str) -> bool:
    if body.startswith("encoder_decoder"):
        return tie not in IN_BANDS
    return tie != "three-way"


GRID = [(tie, body) for tie, body in product([*TIES, *IN_BANDS], BODIES) if is_possible(tie, body)]
SHARED = [(tie, body) for tie, body in GRID if PLACES[tie]]
SWITCHES = {
    "plain": {},
    "bias": {"output_bias": True},
    "narrower": {"width": 8},
    "wider": {"width": 24, "output_bias": True},
    "projection": {"output_projection": {"penalty": 0.15}},
    "projection with bias": {"output_projection": {"penalty": 0.1, "form": "code", "bias": True}, "output_bias": True},
    "named scales": {"input_scale": "sqrt_width", "output_scale": "inverse_sqrt_width"},
    "numbers as scales": {"input_scale": 3.0, "output_scale": 0.25, "width": 24},
    "normal": {"init": {"normal": 0.02}},
}


@pytest.fixture
def make_arm_of(make_arm: Callable, make_block: Callable) -> Callable[..., ArmSpec]:
    """An arm with a body of `BODIES`, whose tie may name an embedding of `EMBEDDINGS`.

    Where layers are shared, three passes go through two sets of weights.
    """

    def make(tie: str, body: str) -> ArmSpec:
        name, _, share = body.partition("+")
        options = {"layers": 3, "share": share, "groups": 2, "order": "cycle"} if share else {}
        tie, _, embedding = tie.partition("+")
        return make_arm(tie, architecture=make_block(name, **options), embedding=EMBEDDINGS.get(embedding, {}))

    return make


def build(spec: ArmSpec, *, seed: int = 1) -> LanguageModel:
    return initialise(build_model(spec, vocabulary_size=VOCABULARY), seed=seed)


def initialise(model: LanguageModel, *, seed: int = 1) -> LanguageModel:
    initialise_model(model, seed=seed)
    model.embedding.sort_by_frequency(lambda: np.arange(VOCABULARY) % 11)  # so that no place by frequency is the id
    return model


def name_partner(tie: str) -> str:
    """The untied arm that a tied one is compared with."""
    _, plus, embedding = tie.partition("+")
    return f"untied{plus}{embedding}"


@torch.no_grad()
def perturb(model: LanguageModel) -> LanguageModel:
    """Move every weight far from its small start, where a transformer hardly does anything and hides a leak."""
    generator = torch.Generator().manual_seed(7)
    for parameter in model.parameters():
        parameter.add_(torch.empty_like(parameter).normal_(0, 0.3, generator=generator))
    return model


def draw_batch(*, num_rows: int = 3, num_tokens: int = 6) -> tuple[Tensor, Tensor]:
    ids = torch.randint(VOCABULARY, (num_rows, num_tokens + 1), generator=torch.Generator().manual_seed(3))
    return ids[:, :-1], ids[:, 1:]


def give(model: LanguageModel, tokens: Tensor) -> Tensor | SentencePairs:
    """The tokens as the model reads them: beside a source, where there is one."""
    if not model.architecture.reads_source:
        return tokens
    source = torch.randint(VOCABULARY, (len(tokens), 4), generator=torch.Generator().manual_seed(5))
    source[0, 2:] = PADDING
    return SentencePairs(source, tokens)


def take_gradients(model: LanguageModel) -> dict[str, Tensor]:
    """By the road of training: lookup, body, fused loss, backward."""
    model.zero_grad(set_to_none=True)
    inputs, targets = draw_batch()
    hidden, _ = model.encode(give(model, inputs))
    model.embedding.loss(hidden, targets, scale=1 / targets.numel()).backward()
    dense = {name: parameter.grad for name, parameter in model.named_parameters() if parameter.grad is not None}
    return {name: (grad.to_dense() if grad.is_sparse else grad).clone() for name, grad in dense.items()}


def take_plain_gradients(model: LanguageModel) -> dict[str, Tensor]:
    """By the road of the textbook: the cross entropy of the model's logits."""
    inputs, targets = draw_batch()
    loss = F.cross_entropy(model(give(model, inputs)).flatten(0, 1), targets.flatten())
    names, parameters = zip(*model.named_parameters(), strict=True)
    found = torch.autograd.grad(loss, parameters, allow_unused=True)
    return {name: grad.to_dense() for name, grad in zip(names, found, strict=True) if grad is not None}


def take_weights(model: LanguageModel) -> dict[str, Tensor]:
    """The state without buffers, which are not trained."""
    buffers = dict(model.named_buffers())
    return {name: tensor for name, tensor in model.state_dict().items() if name not in buffers}


def list_matrices(model: LanguageModel, place: str) -> list[Tensor]:
    """Those that stand at a place: one, or one for each band."""
    embedding = model.embedding
    at_source = [embedding.source_embedding] if model.architecture.reads_source else []
    return {"source": at_source, "input": embedding.input_matrices, "output": embedding.output_matrices}[place]


def share_values(tied: LanguageModel, untied: LanguageModel) -> None:
    """Give the untied model the tied one's values everywhere, its one table at every place."""
    with torch.no_grad():
        for place in PLACES["three-way"]:
            for ours, theirs in zip(list_matrices(untied, place), list_matrices(tied, place), strict=True):
                ours.copy_(theirs)
        theirs = dict(tied.named_parameters())
        for name, parameter in untied.named_parameters():
            if name in theirs:
                parameter.copy_(theirs[name])


def check_laws(tied: LanguageModel, untied: LanguageModel, *, places: tuple[str, ...] = ("input", "output")) -> None:
    """What must hold of a model with one matrix at these places, and of an untied one, whatever was done to them."""
    has_source = tied.architecture.reads_source
    everywhere = PLACES["three-way"] if has_source else PLACES["tied"]
    for number in range(len(tied.embedding.input_matrices)):
        matrices = {place: list_matrices(tied, place)[number] for place in everywhere}
        assert len({id(matrices[place]) for place in places}) == 1
        assert len({id(matrix) for matrix in matrices.values()}) == 1 + len(everywhere) - len(places)
        apart_ones = [list_matrices(untied, place)[number] for place in everywhere]
        assert len({matrix.data_ptr() for matrix in apart_ones}) == len(everywhere)
    for model in (tied, untied):
        total = count_parameters(model).total
        assert total == sum(tensor.numel() for tensor in take_weights(model).values())
        assert model(give(model, draw_batch()[0])).shape == (3, 6, VOCABULARY)
    table = sum(matrix.numel() for matrix in tied.embedding.input_matrices)
    assert table == VOCABULARY * WIDTH or len(tied.embedding.input_matrices) > 1
    saved = (len(places) - 1) * table
    assert count_parameters(untied).total - count_parameters(tied).total == saved
    assert count_parameters(tied).shared == table and count_parameters(untied).shared == 0
    assert count_parameters(tied).input == (len(everywhere) - len(places)) * table
    assert count_parameters(untied).input == (len(everywhere) - 1) * table
    share_values(tied, untied)
    shared, apart = take_gradients(tied), take_gradients(untied)
    for name in [name for name, role in tied.embedding.roles.items() if role == "shared"]:
        asked = [apart[f"embedding.{name.replace('shared', place)}"] for place in places]
        check_sum(shared[f"embedding.{name}"], asked)


def check_sum(shared: Tensor, asked: list[Tensor]) -> None:
    """The gradient of one parameter is the sum of what its places ask for, and no place is lost in the others."""
    total = torch.stack(asked).sum(0)
    assert all(gradient.norm() > 1e-3 * total.norm() for gradient in asked)
    # the same terms in another order: one for each token and place, which cancel to no less than a fourth in the
    # largest element
    limit = bound_error(len(asked) * NUM_TOKENS, size=4 * float(total.abs().max()))
    torch.testing.assert_close(shared, total, rtol=0.0, atol=limit)


def by_deepcopy(model: LanguageModel, spec: ArmSpec) -> LanguageModel:
    return copy.deepcopy(model)


def by_saving_and_loading(model: LanguageModel, spec: ArmSpec) -> LanguageModel:
    file = io.BytesIO()
    torch.save(model.state_dict(), file)
    file.seek(0)
    twin = build(spec, seed=2)
    twin.load_state_dict(torch.load(file, weights_only=True))
    return twin


def by_assigning(model: LanguageModel, spec: ArmSpec) -> LanguageModel:
    twin = build_on_meta(spec, vocabulary_size=VOCABULARY)
    twin.load_state_dict({name: tensor.clone() for name, tensor in model.state_dict().items()}, assign=True)
    return twin


def by_meta_and_empty(model: LanguageModel, spec: ArmSpec) -> LanguageModel:
    return perturb(initialise(build_on_meta(spec, vocabulary_size=VOCABULARY).to_empty(device="cpu")))


def by_one_step(model: LanguageModel, options: SGDConfig | AdamWConfig) -> LanguageModel:
    optimizer = build_optimizer(model, options)
    inputs, targets = draw_batch()
    optimizer.zero_grad()
    hidden, _ = model.encode(give(model, inputs))
    model.embedding.loss(hidden, targets, scale=0.1).backward()
    optimizer.step(options.learning_rate)
    model.embedding.sparse_lookup = False
    return model


def by_sgd(model: LanguageModel, spec: ArmSpec) -> LanguageModel:
    return by_one_step(model, SGDConfig(type="sgd", learning_rate=0.1, clip_norm=1.0))


def by_adamw(model: LanguageModel, spec: ArmSpec) -> LanguageModel:
    """Every weight moves by 0.01; after ten times that, shared post-norm layers hardly pass gradients on."""
    return by_one_step(model, AdamWConfig(type="adamw", learning_rate=0.01))


SURVIVED = [by_deepcopy, by_saving_and_loading, by_assigning, by_meta_and_empty, by_sgd, by_adamw]


def test_there_is_something_to_test():
    assert set(PLACES) == {*TIES, *IN_BANDS}, "a new tie needs its places"
    assert ("three-way", "encoder_decoder") in SHARED
    assert {"lstm", "gpt2", "llama", "lstm+all", "gpt2+attention", "llama+feed_forward", "encoder_decoder+all"} <= set(
        BODIES
    )


@pytest.mark.parametrize(("tie", "body"), GRID)
def test_a_model_has_scores_roles_and_a_complete_state(tie, body, make_arm_of):
    model = build(make_arm_of(tie, body))
    assert model(give(model, draw_batch()[0])).shape == (3, 6, VOCABULARY)
    counts = count_parameters(model).model_dump()
    total = counts.pop("total")
    weights = take_weights(model)
    assert total == sum(counts.values()) == sum(tensor.numel() for tensor in weights.values())
    assert set(weights) == {name for name, _ in model.named_parameters(remove_duplicate=False)}
    rest = {"embedding.ranks"} if tie in IN_BANDS else set()
    assert set(model.state_dict()) == {*weights, *rest}
    assert counts["architecture"] == sum(parameter.numel() for parameter in model.architecture.parameters())


@pytest.mark.parametrize(("tie", "body"), GRID)
def test_at_one_seed_arms_begin_with_one_input_table_and_one_body(tie, body, make_arm_of):
    untied, model = (build(make_arm_of(name, body)) for name in (name_partner(tie), tie))
    assert all(map(torch.equal, model.embedding.input_matrices, untied.embedding.input_matrices))
    bodies = untied.architecture.state_dict(), model.architecture.state_dict()
    assert all(torch.equal(bodies[0][name], bodies[1][name]) for name in bodies[0].keys() | bodies[1].keys())
    other = build(make_arm_of(tie, body), seed=2)
    assert not any(map(torch.equal, other.embedding.input_matrices, model.embedding.input_matrices))


def test_an_untied_output_table_is_drawn_independently(make_arm):
    embedding = build_model(make_arm("untied"), vocabulary_size=2000)
    initialise_model(embedding, seed=1)
    tables = torch.stack(
        [embedding.embedding.input_embedding.flatten(), embedding.embedding.output_embedding.flatten()]
    )
    correlation = torch.corrcoef(tables)[0, 1].abs()
    assert correlation < 4 / tables.shape[1] ** 0.5, "four standard errors of independent draws"


@pytest.mark.parametrize(("tie", "body"), SHARED)
def test_the_laws_hold_at_the_start(tie, body, make_arm_of):
    tied, untied = (perturb(build(make_arm_of(name, body))) for name in (tie, name_partner(tie)))
    check_laws(tied, untied, places=PLACES[tie])


@pytest.mark.parametrize("survived", SURVIVED)
@pytest.mark.parametrize(("tie", "body"), SHARED)
def test_the_laws_survive(survived: Callable, tie, body, make_arm_of):
    specs = [make_arm_of(name, body) for name in (tie, name_partner(tie))]
    models = [perturb(build(spec)) for spec in specs]
    tokens = draw_batch()[0]
    before = [model(give(model, tokens)).detach() for model in models]
    after = [survived(model, spec) for model, spec in zip(models, specs, strict=True)]
    moved = survived in (by_sgd, by_adamw)
    for expected, model in zip(before, after, strict=True):
        assert torch.equal(model(give(model, tokens)), expected) is not moved
    check_laws(*after, places=PLACES[tie])


@pytest.mark.parametrize(("tie", "body"), GRID)
def test_the_weights_file_brings_back_the_same_model(tie, body, make_arm_of, tmp_path: Path):
    spec = make_arm_of(tie, body)
    model, twin = perturb(build(spec)), build(spec, seed=2)
    twin.embedding.sort_by_frequency(lambda: np.ones(VOCABULARY))
    write_weights(model.state_dict(), tmp_path, signature="00000000")
    read_weights(twin, tmp_path)
    assert torch.equal(twin(give(twin, draw_batch()[0])), model(give(model, draw_batch()[0])))


OTHERS = [("tied", "untied", "lstm"), ("untied", "tied", "lstm"), ("tied+adaptive", "untied+adaptive", "lstm")]
OTHERS += [("untied+adaptive", "tied+adaptive", "lstm"), ("tied", "tied+adaptive", "lstm")]
OTHERS += [(ours, theirs, "encoder_decoder") for ours, theirs in product(TIES, TIES) if ours != theirs]
# a late tie reads what it is before its moment and what it is after it, and a tied model reads what it is before
OTHERS = [names for names in OTHERS if "untied-late" not in names[:2] or "three-way" in names[:2]]


@pytest.mark.parametrize(("ours", "theirs", "body"), OTHERS)
def test_weights_of_another_tie_are_refused(ours, theirs, body, make_arm_of, tmp_path: Path):
    write_weights(build(make_arm_of(theirs, body)).state_dict(), tmp_path, signature="00000000")
    reader = build(make_arm_of(ours, body))
    before = copy.deepcopy(reader.state_dict())
    with pytest.raises(TiebenchError, match="another model.*embedding"):
        read_weights(reader, tmp_path)
    assert all(torch.equal(before[name], tensor) for name, tensor in reader.state_dict().items())


FUSED = [(tie, body) for tie, body in GRID if body in ("lstm", "encoder_decoder") and "narrower" not in tie]


@pytest.mark.parametrize("switch", SWITCHES)
@pytest.mark.parametrize(("tie", "body"), FUSED)
def test_the_fused_loss_is_the_cross_entropy_of_the_logits(tie, body, switch, make_arm):
    embedding = SWITCHES[switch] | EMBEDDINGS.get(tie.partition("+")[2], {})
    model = perturb(build(make_arm(tie.partition("+")[0], architecture=body, embedding=embedding)))
    inputs, targets = draw_batch()
    hidden, _ = model.encode(give(model, inputs))
    plain = F.cross_entropy(model.embedding.logits(hidden).flatten(0, 1), targets.flatten(), reduction="none")
    torch.testing.assert_close(model.embedding.nll(hidden, targets).flatten(), plain, rtol=0.0, atol=NATS)
    torch.testing.assert_close(model.embedding.loss(hidden, targets), plain.sum(), rtol=0.0, atol=NUM_TOKENS * NATS)
    fused, expected = take_gradients(model), take_plain_gradients(model)
    assert fused.keys() == expected.keys() == {name for name, _ in model.named_parameters()}
    for name in expected:
        limit = max(1.0, float(expected[name].abs().max())) * GRADIENTS
        torch.testing.assert_close(
            fused[name], expected[name], rtol=0.0, atol=limit, msg=lambda text, name=name: f"{name}: {text}"
        )


@pytest.mark.parametrize("switch", SWITCHES)
def test_every_switch_costs_both_ties_the_same(switch, make_arm):
    tied, untied = (build(make_arm(tie, embedding=SWITCHES[switch])) for tie in ("tied", "untied"))
    embedding_width = SWITCHES[switch].get("width", WIDTH)
    counts = [count_parameters(model) for model in (tied, untied)]
    assert counts[1].total - counts[0].total == VOCABULARY * embedding_width
    assert counts[0].other == counts[1].other
    for name, parameter in untied.named_parameters():
        if name not in ("embedding.input", "embedding.output"):
            assert torch.equal(parameter, tied.get_parameter(name))
    assert torch.equal(untied.embedding.input_embedding, tied.embedding.input_embedding)


def test_scales_do_what_they_say(make_arm):
    embedding = build(make_arm("untied", embedding=SWITCHES["named scales"])).embedding
    tokens, hidden = draw_batch()[0], torch.randn(2, WIDTH)
    torch.testing.assert_close(embedding.embed(tokens), embedding.input_embedding[tokens] * WIDTH**0.5)
    torch.testing.assert_close(embedding.logits(hidden), hidden @ embedding.output_embedding.t() / WIDTH**0.5)


def test_output_init_fills_only_the_second_table(make_arm):
    plain = build(make_arm("untied")).embedding
    other = build(make_arm("untied", embedding={"output_init": {"normal": 0.001}})).embedding
    assert torch.equal(plain.input_embedding, other.input_embedding)
    assert other.output_embedding.std() < 0.002 < plain.output_embedding.std()
