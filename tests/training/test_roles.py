"""Learning rate, weight decay and betas by role, and Muon: parameter for parameter what plain torch does."""

import copy

import pytest
import torch
from precision import bound_error
from pydantic import ValidationError

from tiebench.errors import UsageError
from tiebench.experiment.training_config import AdamWConfig, MuonConfig, SGDConfig
from tiebench.models.language_model import LanguageModel, build_model, build_on_meta, initialise_model
from tiebench.training.optimizers import build_optimizer, find_matrices, list_roles

pytestmark = pytest.mark.numeric
VOCABULARY, NUM_STEPS, BASE = 31, 4, 0.02
TABLES = {"tied": ("shared",), "untied": ("input", "output")}
RATES = {"input": 0.3, "output": 0.1, "shared": 0.2, "body": 0.01, "bias": 0.05}
DECAYS = {"input": 0.02, "output": 0.0, "shared": 0.3, "body": 0.1, "bias": 0.05}
BETAS = {"input": (0.8, 0.9), "output": (0.5, 0.99), "shared": (0.7, 0.95), "body": (0.9, 0.95), "bias": (0.6, 0.9)}
EMBEDDING = {"output_bias": True, "output_projection": {"bias": True}}


def build(make_arm, tie: str = "untied", *, architecture: str = "lstm", optimizer: dict | None = None) -> LanguageModel:
    training = {
        "epochs": 1,
        "batch_size": 4,
        "window": 10,
        "optimizer": optimizer or {"type": "sgd", "learning_rate": 1.0},
    }
    model = build_model(
        make_arm(tie, architecture=architecture, embedding=EMBEDDING, training=training), vocabulary_size=VOCABULARY
    )
    initialise_model(model, seed=1)
    return model


def give_gradients(*models: LanguageModel, step: int) -> None:
    """The same ones to each; equal, because Adam and Muon divide by their size."""
    for index, parameters in enumerate(zip(*(model.parameters() for model in models), strict=True)):
        gradient = torch.randn(parameters[0].shape, generator=torch.Generator().manual_seed(100 * step + index))
        for parameter in parameters:
            parameter.grad = gradient.clone()


def name_parameters(model: LanguageModel) -> dict[str, list[torch.nn.Parameter]]:
    """By role, written down here by name and not as the optimizer does."""
    found: dict[str, list] = {}
    for name, parameter in model.named_parameters():
        table = name.removeprefix("embedding.") if name in {f"embedding.{table}" for table in RATES} else None
        role = table or ("bias" if "bias" in name or "norm" in name else "body")
        found.setdefault(role, []).append(parameter)
    return found


def train_beside_torch(model: LanguageModel, options, optimizers: list, plain: LanguageModel) -> None:
    """Some steps with a schedule, and a checkpoint in the middle; after each, both have the same parameters."""
    ours = build_optimizer(model, options)
    given = [[group["lr"] for group in optimizer.param_groups] for optimizer in optimizers]
    for step in range(NUM_STEPS):
        factor = 1 - 0.2 * step
        give_gradients(model, plain, step=step)
        for optimizer, rates in zip(optimizers, given, strict=True):
            for group, rate in zip(optimizer.param_groups, rates, strict=True):
                group["lr"] = rate * factor
            optimizer.step()
        ours.step(options.learning_rate * factor)
        if step == 1:
            state, ours = copy.deepcopy(ours.state_dict()), build_optimizer(model, options)
            ours.load_state_dict(state)
        for (name, found), wanted in zip(model.named_parameters(), plain.parameters(), strict=True):
            # some twenty operations a step on numbers below 4; two more where the rate is found from the configured one
            limit = (step + 1) * bound_error(22, size=4.0)
            torch.testing.assert_close(found, wanted, rtol=0.0, atol=limit, msg=lambda text, at=name: f"{at}: {text}")


@pytest.mark.parametrize("tie", TABLES)
def test_every_parameter_has_one_role(tie, make_arm):
    for architecture in ("lstm", "gpt2", "llama"):
        model = build(make_arm, tie, architecture=architecture)
        by_name = {id(parameter): role for role, members in name_parameters(model).items() for parameter in members}
        assert list_roles(model) == [by_name[id(parameter)] for parameter in model.parameters()]
        assert set(list_roles(model)) == {*TABLES[tie], "body", "bias"}


@pytest.mark.parametrize("momentum", [0.0, 0.9])
@pytest.mark.parametrize("tie", TABLES)
def test_sgd_by_role_is_torchs_with_a_group_for_each(tie, momentum, make_arm):
    roles = {
        role: {"learning_rate": RATES[role], "weight_decay": DECAYS[role]} for role in (*TABLES[tie], "body", "bias")
    }
    options = SGDConfig.model_validate({"type": "sgd", "learning_rate": BASE, "momentum": momentum, "roles": roles})
    model = build(make_arm, tie)
    plain = copy.deepcopy(model)
    groups = [
        {"params": members, "lr": RATES[role], "weight_decay": DECAYS[role]}
        for role, members in name_parameters(plain).items()
    ]
    train_beside_torch(model, options, [torch.optim.SGD(groups, momentum=momentum)], plain)


@pytest.mark.parametrize("tie", TABLES)
def test_adamw_by_role_is_torchs_with_a_group_for_each(tie, make_arm):
    roles = {
        role: {"learning_rate": RATES[role], "weight_decay": DECAYS[role], "betas": list(BETAS[role])}
        for role in (*TABLES[tie], "bias")
    }
    options = AdamWConfig.model_validate({"type": "adamw", "learning_rate": BASE, "weight_decay": 0.4, "roles": roles})
    model = build(make_arm, tie)
    plain = copy.deepcopy(model)
    groups = []
    for role, members in name_parameters(plain).items():
        own = {"lr": RATES[role], "weight_decay": DECAYS[role], "betas": BETAS[role]}
        rest = {"lr": BASE, "weight_decay": 0.4, "betas": (0.9, 0.999)}  # the body says nothing
        groups.append({"params": members, **(rest if role == "body" else own)})
    train_beside_torch(model, options, [torch.optim.AdamW(groups, eps=options.epsilon)], plain)


@pytest.mark.parametrize("adjust", ["original", "match_rms_adamw"])
@pytest.mark.parametrize(("tie", "architecture"), [("untied", "gpt2"), ("tied", "llama"), ("tied", "lstm")])
def test_muon_moves_the_matrices_and_adamw_the_rest_as_torchs_do(tie, architecture, adjust, make_arm):
    rest = {"learning_rate": 0.003, "betas": [0.8, 0.95], "weight_decay": 0.2}
    rest["roles"] = {TABLES[tie][-1]: {"learning_rate": 0.01, "weight_decay": 0.0}}
    options = MuonConfig.model_validate({"type": "muon", "learning_rate": BASE, "adjust": adjust, "rest": rest})
    model = build(make_arm, tie, architecture=architecture)
    plain = copy.deepcopy(model)
    named = dict(plain.named_parameters())
    tables = {f"embedding.{table}" for table in TABLES[tie]} | {"architecture.positions"}
    matrices = [parameter for name, parameter in named.items() if parameter.ndim == 2 and name not in tables]
    moved = {id(parameter) for parameter in matrices}
    assert len(matrices) >= 3 and find_matrices(plain) == moved
    groups = []
    for name, parameter in named.items():
        if id(parameter) not in moved:
            decay = 0.0 if parameter.ndim < 2 else 0.2
            own = name == f"embedding.{TABLES[tie][-1]}"
            setting = {"lr": 0.01, "weight_decay": 0.0} if own else {"lr": 0.003, "weight_decay": decay}
            groups.append({"params": [parameter], **setting})
    muon = torch.optim.Muon(matrices, lr=BASE, weight_decay=0.1, momentum=0.95, nesterov=True, adjust_lr_fn=adjust)
    train_beside_torch(model, options, [muon, torch.optim.AdamW(groups, betas=(0.8, 0.95))], plain)


def test_muon_clips_and_returns_the_norm_of_all_gradients(make_arm):
    rest = {"learning_rate": BASE, "weight_decay": 0.0}
    options = MuonConfig.model_validate(
        {"type": "muon", "learning_rate": BASE, "clip_norm": 0.5, "weight_decay": 0.0, "rest": rest}
    )
    model = build(make_arm)
    give_gradients(model, step=0)
    gradients = torch.cat([parameter.grad.flatten() for parameter in model.parameters()]).double()
    assert float(build_optimizer(model, options).step(BASE)) == pytest.approx(float(gradients.norm()), rel=1e-4)
    clipped = torch.cat([parameter.grad.flatten() for parameter in model.parameters()]).double()
    assert float(clipped.norm()) == pytest.approx(0.5, rel=1e-4)


def test_where_no_row_stands_still_the_lookup_is_dense(make_arm):
    """Decay of the input's rows moves all of them; decay of the body does not."""
    found = []
    for role in ("input", "body"):
        block = {"type": "sgd", "learning_rate": 0.1, "roles": {role: {"weight_decay": 0.1}}}
        model = build(make_arm)
        build_optimizer(model, SGDConfig.model_validate(block))
        found.append(model.embedding.sparse_lookup)
    assert found == [False, True]


@pytest.mark.parametrize(
    ("tie", "role", "optimizer"),
    [
        ("tied", "input", {"type": "adamw", "learning_rate": 0.1, "roles": {"input": {"learning_rate": 0.2}}}),
        ("untied", "shared", {"type": "sgd", "learning_rate": 0.1, "roles": {"shared": {"weight_decay": 0.2}}}),
        (
            "tied",
            "output",
            {
                "type": "muon",
                "learning_rate": 0.1,
                "rest": {"learning_rate": 0.1, "roles": {"output": {"learning_rate": 0.2}}},
            },
        ),
    ],
)
def test_a_role_that_no_parameter_has_is_an_error(tie, role, optimizer, make_arm):
    training = {"epochs": 1, "batch_size": 4, "window": 10, "optimizer": optimizer}
    with pytest.raises(UsageError, match=rf"roles\.{role}: {tie} embeddings have no such role"):
        build_on_meta(make_arm(tie, training=training), vocabulary_size=VOCABULARY)


def test_options_that_an_optimizer_would_not_read_are_errors():
    with pytest.raises(ValidationError, match="betas"):
        SGDConfig.model_validate({"type": "sgd", "learning_rate": 0.1, "roles": {"body": {"betas": [0.9, 0.9]}}})
    rest = {"learning_rate": 0.1, "roles": {"body": {"learning_rate": 0.2}}}
    with pytest.raises(ValidationError, match="Muon's own"):
        MuonConfig.model_validate({"type": "muon", "learning_rate": 0.1, "rest": rest})
