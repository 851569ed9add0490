"""A run goes on from a checkpoint: its first logits are those of transformers, however either of them is tied."""

import json
import shutil
import signal
from functools import partial
from pathlib import Path

import pytest
import torch
import yaml
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from typer.testing import CliRunner

from tiebench.cli.app import app
from tiebench.comparison.checks import check_comparable
from tiebench.corpora.reading import read_lines
from tiebench.errors import TiebenchError, UsageError
from tiebench.execution.exporting import export_run
from tiebench.execution.initial_checkpoint import digest_checkpoint
from tiebench.execution.plan import plan_runs
from tiebench.execution.run import begin_model, execute_run
from tiebench.execution.run_data import load_data, reload_data
from tiebench.execution.sampling import sample_text
from tiebench.execution.settings import Settings
from tiebench.experiment.loading import load_experiment
from tiebench.reporting.model_card import write_model_card
from tiebench.results.curve import read_curve
from tiebench.results.record import read_record
from tiebench.results.store import Store
from tiebench.training.callbacks import Callback
from tiebench.training.signals import Interrupted

transformers = pytest.importorskip("transformers")
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
GPT2 = {"type": "gpt2", "layers": 2, "width": 16, "heads": 2, "positions": 24}
LLAMA = {"type": "llama", "layers": 2, "width": 16, "heads": 4, "kv_heads": 2, "mlp_width": 24}
BODIES = {"gpt2": GPT2, "llama": LLAMA}
TRAINING = {"steps": 6, "batch_size": 2, "window": 10, "optimizer": {"type": "adamw", "learning_rate": 0.01}}
NO_TRAINING = {**TRAINING, "steps": 1, "optimizer": {"type": "sgd", "learning_rate": 1e-30}}
CARD = partial(write_model_card, unsaid=[])


@pytest.fixture(scope="module")
def checkpoints(tiny_corpus, tmp_path_factory):
    """`gpt2-tied` and so on to a folder that transformers has written, with a tokenizer of byte pairs that it wrote."""
    place = tmp_path_factory.mktemp("checkpoints")
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=300, initial_alphabet=alphabet, special_tokens=["<|end|>"])
    tokenizer.train_from_iterator(read_lines(Path(tiny_corpus["train"])), trainer=trainer)
    fast = transformers.PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token="<|end|>", eos_token="<|end|>")
    found = {}
    for kind in BODIES:
        for tied in (True, False):
            folder = found[f"{kind}-{'tied' if tied else 'untied'}"] = place / f"{kind}-{tied}"
            save_model(kind, tied=tied).save_pretrained(folder)
            fast.save_pretrained(folder)
    return found


def save_model(kind, *, tied):
    """A random model of transformers with 304 rows, four more than its tokenizer fills."""
    torch.manual_seed(1)
    common = {"vocab_size": 304, "tie_word_embeddings": tied, "bos_token_id": 0, "eos_token_id": 0}
    if kind == "gpt2":
        sizes = {"n_positions": 24, "n_embd": 16, "n_layer": 2, "n_head": 2}
        config = transformers.GPT2Config(**sizes, initializer_range=0.3, **common)
    else:
        sizes = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2, "num_attention_heads": 4}
        config = transformers.LlamaConfig(**sizes, num_key_value_heads=2, initializer_range=0.3, **common)
    model = transformers.AutoModelForCausalLM.from_config(config)
    with torch.no_grad():  # norms and biases differ from their first values too
        for parameter in model.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    return model


@pytest.fixture
def write(write_experiment):
    """Write an experiment that goes on from a folder."""

    def write_file(folder, *, kind="gpt2", **blocks):
        embedding = {"init": {"normal": 0.02}}
        start = {"initialise_from": str(folder), "architecture": BODIES[kind], "embedding": embedding}
        return write_experiment(**(start | {"training": TRAINING} | blocks))

    return write_file


def begin(config, *, arm):
    """The model of an arm before its first step, and its data."""
    run = plan_runs(load_experiment(config).list_runs(arms=[arm]), settings=Settings(store=Store(Path("none")))).runs[0]
    data = load_data(run)
    return begin_model(run, data=data).eval(), data


TIE_BY = ["input", "output", "mean"]


@pytest.mark.parametrize("kind", BODIES)
@pytest.mark.parametrize("stored", ["tied", "untied"])
@pytest.mark.parametrize("arm", ["untied", *(f"tied-{way}" for way in TIE_BY)])
def test_the_first_logits_are_those_of_transformers(kind, stored, arm, checkpoints, write):
    folder = checkpoints[f"{kind}-{stored}"]
    way = arm.partition("-")[2] if stored == "untied" else ""
    block = {"tie": arm != "untied"} | ({"initialise_from": {"tie_by": way}} if way else {})
    ours, data = begin(write(folder, kind=kind, arms={arm: block}), arm=arm)
    theirs = transformers.AutoModelForCausalLM.from_pretrained(folder).eval()
    if way:
        given, scored = theirs.get_input_embeddings().weight, theirs.get_output_embeddings().weight
        shared = {"input": given, "output": scored, "mean": (given + scored) / 2}[way].detach().clone()
        for end in (given, scored):
            end.data.copy_(shared)
    tokens = torch.from_numpy(data.streams["valid"].ids[:48].astype("int64")).view(2, 24)
    with torch.inference_mode():
        expected, found = theirs(tokens, use_cache=False).logits, ours(tokens)
    assert expected.abs().max() > 1
    assert (found - expected).abs().max() < 1e-5
    embedding = ours.embedding
    assert (embedding.input_embedding is embedding.output_embedding) is (arm != "untied")
    if arm == "untied" and stored == "tied":
        assert torch.equal(embedding.input_embedding, embedding.output_embedding), "begins as a copy"


def test_tokens_are_those_of_its_tokenizer(checkpoints, write):
    folder = checkpoints["gpt2-tied"]
    _, data = begin(write(folder), arm="tied")
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    text = data.corpus.files["test"].read_text("utf-8")
    expected = [tokenizer.bos_token_id, *tokenizer(text, verbose=False)["input_ids"]]
    assert data.streams["test"].ids.tolist() == expected
    assert data.vocabulary.decode(expected[1:]) == text
    assert data.vocabulary.size == 304 and len({data.vocabulary.token(id) for id in range(304)}) == 304


EXPORTED = {
    "words": {"vocabulary": {"type": "words"}},
    "bpe": {"vocabulary": {"type": "bpe", "size": 300}},
    "bytes": {"vocabulary": {"type": "bytes"}, "tie": False},
}


@pytest.mark.parametrize("kind", EXPORTED)
def test_an_export_of_our_own_goes_on_where_it_ended(kind, write_experiment, write, tmp_path):
    settings = Settings(store=Store(tmp_path / "results"), device="cpu")
    start = {"architecture": GPT2, "training": TRAINING, "tie": True, "arms": None}
    (run,) = load_experiment(write_experiment("pre.yaml", **(start | EXPORTED[kind]))).list_runs()
    before = execute_run(run, settings=settings)
    export_run(settings.store.folder_of(before), to=tmp_path / "model", write_card=CARD)
    arms = {"same": {"tie": EXPORTED[kind].get("tie", True)}}
    config = write("model", training=NO_TRAINING, arms=arms)  # beside the experiment file
    after = execute_run(load_experiment(config).list_runs()[0], settings=settings)
    assert after.evaluations["test"].nll == pytest.approx(before.evaluations["test"].nll, rel=1e-6)
    assert after.vocabulary == before.vocabulary, "it is known again"


@pytest.fixture
def trained_arms(checkpoints, write, tmp_path):
    """An experiment whose arms go on from one untied checkpoint, its settings and its records by arm."""
    shutil.copytree(checkpoints["gpt2-untied"], tmp_path / "model")
    arms = {"untied": {"tie": False}, "tied": {"tie": True, "initialise_from": {"tie_by": "mean"}}}
    config = write("model", arms=arms)
    settings = Settings(store=Store(tmp_path / "results"), device="cpu")
    return (
        config,
        settings,
        {run.arm: execute_run(run, settings=settings) for run in load_experiment(config).list_runs()},
    )


def test_arms_from_one_checkpoint_are_comparable_and_the_record_says_which_it_was(trained_arms, tmp_path):
    config, settings, found = trained_arms
    check_comparable({arm: [record] for arm, record in found.items()})
    digest = digest_checkpoint(tmp_path / "model")
    for record in found.values():
        assert record.spec.initialise_from.digest == digest
        assert record.vocabulary.type == "tokenizer" and record.vocabulary.size == 304
    assert found["untied"].declared == ["initialise_from.tie_by", "tie"]
    folder = settings.store.folder_of(found["tied"])
    shutil.rmtree(tmp_path / "model")
    assert reload_data(found["tied"], folder).streams["test"].num_tokens == found["tied"].evaluations["test"].tokens
    assert sample_text(folder, prompt="the", num_tokens=3, temperature=0.0, seed=1).startswith("the")
    with pytest.raises(TiebenchError, match="the checkpoint of initialise_from was not found: tried"):
        plan_runs(load_experiment(config).list_runs(), settings=settings)
    (again,) = load_experiment(folder).list_runs()
    assert plan_runs([again], settings=settings).finished, "its own file names the digest"


def test_a_changed_checkpoint_is_another_recipe(trained_arms, checkpoints, tmp_path):
    config, settings, found = trained_arms
    tensors = load_file(tmp_path / "model" / "model.safetensors")
    tensors["transformer.ln_f.bias"][0] += 1
    save_file(tensors, tmp_path / "model" / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(UsageError, match=r"initialise_from\.digest is [0-9a-f]{64} there and [0-9a-f]{64} here"):
        plan_runs(load_experiment(config).list_runs(), settings=settings)
    (again,) = load_experiment(settings.store.folder_of(found["tied"])).list_runs()
    with pytest.raises(UsageError, match="has changed: its digest is"):
        load_data(again)


def test_the_same_checkpoint_in_another_folder_is_the_same_recipe(trained_arms, tmp_path):
    config, settings, _ = trained_arms
    (tmp_path / "model").rename(tmp_path / "moved")
    runs = load_experiment(config, overrides=("initialise_from.folder=moved",)).list_runs()
    assert len(plan_runs(runs, settings=settings).finished) == 2


def test_an_exported_run_of_a_foreign_tokenizer_has_that_tokenizer(trained_arms, tmp_path):
    _, settings, found = trained_arms
    export_run(settings.store.folder_of(found["tied"]), to=tmp_path / "tuned", write_card=CARD)
    before, after = (transformers.AutoTokenizer.from_pretrained(tmp_path / name) for name in ("model", "tuned"))
    text = "a line\nof  text <|end|> and more\n"
    assert after(text)["input_ids"] == before(text)["input_ids"] and after.bos_token == before.bos_token


class CtrlC(Callback):
    """Sends SIGINT after so many tokens."""

    def __init__(self, num_tokens):
        self.left = num_tokens

    def advance(self, num_tokens, *, nll_per_token=None):
        self.left -= num_tokens
        if -num_tokens < self.left <= 0:
            signal.raise_signal(signal.SIGINT)


def test_an_interrupted_run_goes_on_to_the_same_record(trained_arms, tmp_path):
    config, settings, found = trained_arms
    aside = Settings(store=Store(tmp_path / "aside"), device="cpu")
    (run,) = load_experiment(config).list_runs(arms=["tied"])
    with pytest.raises(Interrupted, match="was checkpointed at step [1-5]$"):
        execute_run(run, settings=aside, callback=CtrlC(60))
    again = execute_run(run, settings=aside)
    assert again.evaluations == found["tied"].evaluations and again.usage.steps == 6
    folders = [place.store.folder_of(again) for place in (settings, aside)]
    curves = [[point.model_dump(exclude={"seconds"}) for point in read_curve(folder)] for folder in folders]
    assert curves[0] == curves[1] and again.signature == found["tied"].signature


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"layers": 3}, r"architecture\.layers is 3, but the checkpoint has n_layer 2 \(.*config\.json\)"),
        ({"positions": 25}, r"architecture\.positions is 25, but the checkpoint has n_positions 24"),
        ({"mlp_width": 32}, r"architecture\.mlp_width is 32, but the checkpoint has n_inner 64"),
        ({"norm_epsilon": 0.1}, r"architecture\.norm_epsilon is 0\.1, but the checkpoint has layer_norm_epsilon 1e-05"),
        ({"share": "all"}, r"architecture\.share: all has no equivalent in the Hugging Face format"),
    ],
)
def test_another_architecture_is_refused_by_its_key_and_both_values(change, message, checkpoints, write):
    config = write(checkpoints["gpt2-tied"], architecture={**GPT2, **change})
    with pytest.raises(UsageError, match=f"^{message}"):
        begin(config, arm="tied")


def test_another_type_is_refused(checkpoints, write):
    with pytest.raises(UsageError, match=r"^architecture\.type is gpt2, but the checkpoint has model_type llama"):
        begin(write(checkpoints["llama-tied"]), arm="tied")


@pytest.mark.parametrize(
    ("kind", "change", "message"),
    [
        ("gpt2", {"activation_function": "relu"}, "activation_function is relu"),
        ("gpt2", {"scale_attn_by_inverse_layer_idx": True}, "scale_attn_by_inverse_layer_idx is True"),
        ("llama", {"attention_bias": True}, "attention_bias is True"),
        ("llama", {"rope_parameters": {"rope_type": "yarn", "factor": 4.0}}, r"rope_parameters\.rope_type is yarn"),
    ],
)
def test_what_it_computes_and_we_do_not_is_refused_by_its_key(kind, change, message, checkpoints, write, tmp_path):
    folder = shutil.copytree(checkpoints[f"{kind}-tied"], tmp_path / "other")
    edit_config(folder, **change)
    with pytest.raises(UsageError, match=rf"config\.json: {message}, and a model here computes with"):
        begin(write(folder, kind=kind), arm="tied")


def edit_config(folder, **changes):
    config = json.loads((folder / "config.json").read_text("utf-8"))
    (folder / "config.json").write_text(json.dumps(config | changes), "utf-8")


def test_which_matrix_must_be_said_where_there_are_two_and_not_where_there_is_one(checkpoints, write):
    with pytest.raises(UsageError, match=r"^initialise_from\.tie_by is missing: .* has two matrices"):
        begin(write(checkpoints["gpt2-untied"]), arm="tied")
    arms = {"tied": {"tie": True, "initialise_from": {"tie_by": "input"}}}
    with pytest.raises(UsageError, match=r"tie_by is input, but .* is tied: there is one matrix"):
        begin(write(checkpoints["gpt2-tied"], arms=arms), arm="tied")
    arms = {"untied": {"tie": False, "initialise_from": {"tie_by": "input"}}}
    with pytest.raises(UsageError, match=r"tie_by is for an arm that ties, and this one does not"):
        load_experiment(write(checkpoints["gpt2-untied"], arms=arms))


def test_a_checkpoint_that_contradicts_itself_is_refused(checkpoints, write, tmp_path):
    folder = shutil.copytree(checkpoints["gpt2-untied"], tmp_path / "other")
    edit_config(folder, tie_word_embeddings=True)
    with pytest.raises(UsageError, match="says tied, but the files hold two different matrices"):
        begin(write(folder), arm="tied")


def test_weights_of_another_config_are_refused(checkpoints, write, tmp_path):
    folder = shutil.copytree(checkpoints["gpt2-tied"], tmp_path / "other")
    tensors = load_file(folder / "model.safetensors")
    del tensors["transformer.h.1.ln_2.bias"]
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(TiebenchError, match=r"are not those of its config: blocks\.1\.norm_mlp\.bias differ"):
        begin(write(folder), arm="tied")


def test_a_tokenizer_that_is_missing_damaged_or_too_large_is_refused(checkpoints, write, tmp_path):
    folder = shutil.copytree(checkpoints["gpt2-tied"], tmp_path / "other")
    edit_config(folder, vocab_size=200)
    with pytest.raises(TiebenchError, match=r"is of another model: the model has 200 tokens, .* up to 299"):
        begin(write(folder), arm="tied")
    (folder / "tokenizer.json").write_text("{}", "utf-8")
    with pytest.raises(TiebenchError, match=r"tokenizer\.json is damaged: it is no tokenizer"):
        begin(write(folder), arm="tied")
    (folder / "tokenizer.json").unlink()
    with pytest.raises(TiebenchError, match=r"tokenizer\.json is missing"):
        begin(write(folder), arm="tied")


@pytest.mark.parametrize(
    ("blocks", "message"),
    [
        ({"vocabulary": {"type": "bytes"}}, "initialise_from takes the vocabulary of its checkpoint over"),
        ({"initialise_from": None, "vocabulary": {"type": "checkpoint"}}, "write initialise_from: DIR too"),
        ({"architecture": {"type": "lstm", "layers": 1, "width": 16}}, "reads gpt2 and llama, and .* lstm"),
    ],
)
def test_what_does_not_go_together_is_said_when_the_file_is_read(blocks, message, write_experiment):
    content = {"initialise_from": "model", "architecture": GPT2, **blocks}
    with pytest.raises(UsageError, match=message):
        load_experiment(write_experiment(**content))


def test_check_and_train_and_compare_on_the_command_line(checkpoints, write, tmp_path):
    arms = {"untied": {"tie": False}, "tied": {"tie": True, "initialise_from": {"tie_by": "output"}}}
    config = write(checkpoints["llama-untied"], kind="llama", arms=arms)
    invoke = CliRunner().invoke
    checked = invoke(app, ["check", str(config)])
    assert checked.exit_code == 0 and "initialise_from.tie_by" in checked.output
    compared = invoke(app, ["compare", "--config", str(config), "--results", str(tmp_path / "results"), "--jobs", "1"])
    assert compared.exit_code == 0, compared.output
    record = read_record(tmp_path / "results" / "tiny" / "tied" / "seed-1")
    spec = yaml.safe_load((tmp_path / "results" / "tiny" / "tied" / "seed-1" / "spec.yaml").read_text("utf-8"))["spec"]
    assert spec["initialise_from"]["digest"] == record.spec.initialise_from.digest
    options = ["--results", str(tmp_path / "results"), "--jobs", "1"]
    assert invoke(app, ["train", str(config), "--seed", "2", *options]).exit_code == 0
    again = invoke(app, ["compare", "--config", str(config), "--no-train", "--results", str(tmp_path / "results")])
    assert again.exit_code == 0 and "seeds 1, 2" in " ".join(again.output.split()), again.output
