"""An exported model is the same model to transformers: same ids, same logits, same perplexity, and tied as it was."""

import json
import math
from functools import partial

import numpy as np
import pytest
import torch
from safetensors import safe_open
from typer.testing import CliRunner

from tiebench.cli.app import app
from tiebench.corpora.vocabulary import load_vocabulary
from tiebench.errors import UsageError
from tiebench.execution import exporting
from tiebench.execution.exporting import export_run
from tiebench.execution.run import execute_run, open_model
from tiebench.execution.run_data import load_data
from tiebench.execution.settings import Settings
from tiebench.experiment.loading import load_experiment
from tiebench.models.hugging_face_config import describe_config, list_dropout_unsaid
from tiebench.reporting.model_card import write_model_card
from tiebench.reporting.render import format_number
from tiebench.results.record import VOCABULARY_FILE, read_record
from tiebench.results.store import Store
from tiebench.training.evaluation import plan_windows

transformers = pytest.importorskip("transformers")
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
EXPERIMENT = """
corpus: {{type: text, train: {train}, valid: {valid}, test: {test}}}
vocabulary: {{type: words}}
architecture: {{type: gpt2, layers: 2, width: 16, heads: 2, positions: 24}}
embedding: {{init: {{normal: 0.3}}}}
training: {{epochs: 2, batch_size: 4, window: 16, optimizer: {{type: adamw, learning_rate: 0.02}}}}
evaluation: {{context: 20, stride: 7}}
arms:
  gpt2-tied: {{tie: true}}
  gpt2-untied: {{tie: false, vocabulary: {{type: bpe, size: 300}}}}
  llama-tied: {{tie: true, architecture: {{type: llama, layers: 2, width: 16, heads: 4, kv_heads: 2}}}}
  llama-untied: {{tie: false, architecture: {{type: llama, layers: 1, width: 16, heads: 4, rope_theta: 500.0}}}}
"""
ARMS = ["gpt2-tied", "gpt2-untied", "llama-tied", "llama-untied"]
CARD = partial(write_model_card, unsaid=[])


@pytest.fixture(scope="module")
def trained_arms(tiny_corpus, tmp_path_factory):
    """Arm to (the run, its folder)."""
    place = tmp_path_factory.mktemp("exporting")
    (place / "exporting.yaml").write_text(EXPERIMENT.format(**tiny_corpus), "utf-8")
    settings = Settings(store=Store(place / "results"), device="cpu")
    runs = load_experiment(place / "exporting.yaml").list_runs()
    for run in runs:
        execute_run(run, settings=settings)
    return {run.arm: (run, settings.store.folder(run.experiment, run.arm, run.seed)) for run in runs}


@pytest.fixture(scope="module")
def exported(trained_arms, tmp_path_factory):
    """Arm to the exported folder."""
    place = tmp_path_factory.mktemp("exported")
    for arm, (_, folder) in trained_arms.items():
        export_run(folder, to=place / arm, write_card=CARD)
    return {arm: place / arm for arm in trained_arms}


@pytest.mark.parametrize("arm", ARMS)
def test_logits_and_the_perplexity_of_the_whole_test_split_are_the_same(arm, trained_arms, exported):
    run, folder = trained_arms[arm]
    theirs = transformers.AutoModelForCausalLM.from_pretrained(exported[arm]).eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained(exported[arm])
    record = read_record(folder)
    ours = open_model(record, folder)
    text = load_data(run).corpus.files["test"].read_text("utf-8")
    ids = torch.tensor([tokenizer.bos_token_id, *tokenizer(text, verbose=False)["input_ids"]])
    context, stride = 20, 7
    nats = np.zeros(len(ids) - 1)
    with torch.inference_mode():
        for start, end in plan_windows(len(ids) - 1, context=context, stride=stride):
            window = ids[None, end - context : end + 1]
            logits = theirs(window[:, :-1]).logits
            assert (logits - ours(window[:, :-1])).abs().max() < 1e-5
            losses = torch.nn.functional.cross_entropy(logits[0], window[0, 1:], reduction="none")
            nats[start:end] = losses[context - (end - start) :].numpy()
    assert logits.abs().max() > 1, "the model has learned something"
    found = record.evaluations["test"]
    assert found.tokens == len(nats) > 200
    assert math.exp(nats.sum() / len(nats)) == pytest.approx(found.perplexity, rel=1e-5)


@pytest.mark.parametrize("arm", ARMS)
def test_the_tie_is_written_in_the_config_and_in_the_file(arm, exported, tmp_path):
    tied = arm.endswith("-tied")
    assert json.loads((exported[arm] / "config.json").read_text("utf-8"))["tie_word_embeddings"] is tied
    with safe_open(exported[arm] / "model.safetensors", "np") as file:
        assert ("lm_head.weight" in file.keys()) is not tied  # noqa: SIM118 (it is no dict)
    model, loading = transformers.AutoModelForCausalLM.from_pretrained(exported[arm], output_loading_info=True)
    assert (model.get_output_embeddings().weight is model.get_input_embeddings().weight) is tied
    assert not loading["missing_keys"] and not loading["unexpected_keys"] and not loading["mismatched_keys"]


def test_it_writes_text_with_the_tokens_of_its_vocabulary(exported, trained_arms):
    tokenizer = transformers.AutoTokenizer.from_pretrained(exported["gpt2-tied"])
    model = transformers.AutoModelForCausalLM.from_pretrained(exported["gpt2-tied"])
    prompt = tokenizer("\nthe", return_tensors="pt")
    ids = model.generate(**prompt, max_new_tokens=8, min_new_tokens=8, do_sample=False)[0].tolist()
    vocabulary = load_vocabulary(trained_arms["gpt2-tied"][1] / VOCABULARY_FILE)
    assert len(ids) == 10 and tokenizer.decode(ids) == vocabulary.decode(ids)
    assert model.generation_config.eos_token_id == vocabulary.boundary


def test_the_card_has_the_figures_of_the_record_and_no_path(exported, trained_arms):
    card = (exported["llama-tied"] / "README.md").read_text("utf-8")
    run, folder = trained_arms["llama-tied"]
    record = read_record(folder)
    for split in ("valid", "test"):
        found = record.evaluations[split]
        assert f"| {split} | {format_number(found.perplexity)} |" in card and f"| {found.tokens:,} |" in card
    assert run.signature in card and record.corpus.checksum in card
    assert run.spec.corpus.train not in card and "(tied)" in card


@pytest.mark.parametrize(
    ("key", "block", "change"),
    [
        ("architecture.type", "architecture", {"type": "lstm", "layers": 1, "width": 16}),
        ("embedding.width", "embedding", {"width": 8}),
        ("embedding.input_scale", "embedding", {"input_scale": "sqrt_width"}),
        ("embedding.output_scale", "embedding", {"output_scale": 0.5}),
        ("embedding.output_bias", "embedding", {"output_bias": True}),
        ("embedding.output_projection", "embedding", {"output_projection": {"penalty": 0.1}}),
    ],
)
def test_what_the_format_cannot_say_is_refused_by_the_name_of_its_key(key, block, change, make_arm):
    spec = make_arm("tied", **{"architecture": "gpt2", block: change})
    with pytest.raises(UsageError, match=rf"^{key}: .* has no equivalent in the Hugging Face format"):
        describe_config(spec, vocabulary_size=5, boundary=0)


def test_a_key_that_did_not_exist_when_this_was_written_is_refused_too(make_arm):
    from tiebench.experiment.architecture_config import GPT2Config

    class Newer(GPT2Config):
        shared_layers: bool = False

    spec = make_arm("tied", architecture="gpt2")
    old = spec.architecture.model_dump()
    assert describe_config(spec.model_copy(update={"architecture": Newer(**old)}), vocabulary_size=5, boundary=0)
    newer = spec.model_copy(update={"architecture": Newer(**old, shared_layers=True)})
    with pytest.raises(UsageError, match="^architecture.shared_layers: true has no equivalent"):
        describe_config(newer, vocabulary_size=5, boundary=0)


def test_scales_of_one_and_a_width_of_the_architecture_are_nothing_to_say(make_arm):
    embedding = {"width": 16, "input_scale": 1.0, "output_scale": "one", "output_init": {"normal": 0.1}}
    spec = make_arm("untied", architecture="llama", embedding=embedding)
    assert describe_config(spec, vocabulary_size=5, boundary=0)["tie_word_embeddings"] is False


def test_dropout_without_a_key_is_named_because_the_model_is_the_same_without(make_arm, make_block):
    embedding = {"word_dropout": 0.1}
    llama = make_arm("tied", architecture=make_block("llama", dropout=0.2, dropout_embedding=0.0), embedding=embedding)
    assert list_dropout_unsaid(llama) == ["embedding.word_dropout", "architecture.dropout_residual"]
    assert describe_config(llama, vocabulary_size=5, boundary=0)["attention_dropout"] == 0.2
    gpt2 = make_arm("tied", architecture=make_block("gpt2", dropout=0.2, dropout_residual=0.3))
    config = describe_config(gpt2, vocabulary_size=5, boundary=0)
    assert list_dropout_unsaid(gpt2) == []
    assert [config[f"{part}_pdrop"] for part in ("embd", "resid", "attn")] == [0.2, 0.3, 0.2]


def test_a_folder_with_something_in_it_stays_unless_it_is_an_export_and_may_be_replaced(trained_arms, tmp_path):
    folder, to = trained_arms["gpt2-tied"][1], tmp_path / "model"
    to.mkdir()
    export_run(folder, to=to, write_card=CARD)
    with pytest.raises(UsageError, match="is there already and not empty"):
        export_run(folder, to=to, write_card=CARD)
    export_run(trained_arms["llama-untied"][1], to=to, write_card=CARD, force=True)
    assert json.loads((to / "config.json").read_text("utf-8"))["model_type"] == "llama"
    (to / "thesis.tex").write_text("three years", "utf-8")
    with pytest.raises(UsageError, match=r"holds thesis\.tex, which no export writes"):
        export_run(folder, to=to, write_card=CARD, force=True)
    assert (to / "thesis.tex").read_text("utf-8") == "three years"
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


def test_a_link_to_a_folder_leads_to_the_new_export(trained_arms, tmp_path):
    to, link = tmp_path / "model", tmp_path / "link"
    link.symlink_to(to)
    export_run(trained_arms["gpt2-tied"][1], to=link, write_card=CARD)
    export_run(trained_arms["llama-untied"][1], to=link, write_card=CARD, force=True)
    assert link.is_symlink() and json.loads((to / "config.json").read_text("utf-8"))["model_type"] == "llama"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["link", "model"]


def test_what_fails_halfway_leaves_the_old_folder_and_nothing_beside_it(trained_arms, tmp_path, monkeypatch):
    folder, to = trained_arms["gpt2-tied"][1], tmp_path / "model"
    export_run(folder, to=to, write_card=CARD)
    before = {file.name: file.read_bytes() for file in to.iterdir()}

    def fail(path):
        raise OSError("no space left")

    monkeypatch.setattr(exporting, "sync", fail)
    with pytest.raises(OSError, match="no space left"):
        export_run(trained_arms["llama-tied"][1], to=to, write_card=CARD, force=True)
    assert {file.name: file.read_bytes() for file in to.iterdir()} == before
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


def test_the_command_says_what_it_wrote(trained_arms, tmp_path):
    folder = trained_arms["gpt2-untied"][1]
    answer = CliRunner().invoke(app, ["export", str(folder), str(tmp_path / "model")])
    assert answer.exit_code == 0, answer.output
    total = read_record(folder).parameters.total
    assert answer.stdout == f"wrote {tmp_path / 'model'}: gpt2, untied, {total:,} parameters\n"
    answer = CliRunner().invoke(app, ["export", str(folder), str(tmp_path / "other"), "--format", "onnx"])
    assert answer.exit_code == 2 and "--format onnx is not known" in answer.stderr
