"""On folders that transformers itself has written: what the audit says of them is what transformers does with them."""

import json
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file
from typer.testing import CliRunner

from tiebench.cli.app import app
from tiebench.errors import TiebenchError, UsageError
from tiebench.models.tie_audit import TIE_KEY, TIED_BY_DEFAULT, audit_checkpoint

transformers = pytest.importorskip("transformers")
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
MODEL = "model.safetensors"
OUTPUT = "lm_head.weight"
INPUTS = ("wte.weight", "embed_tokens.weight")


@pytest.fixture(params=["gpt2", "llama"])
def save(request, tmp_path):
    """A function that writes a model of transformers, tied or not, and returns (model, folder)."""

    def save_model(tied, **options):
        torch.manual_seed(0)
        common = {"vocab_size": 11, "bos_token_id": 0, "eos_token_id": 0, TIE_KEY: tied}
        if request.param == "gpt2":
            config = transformers.GPT2Config(n_positions=8, n_embd=8, n_layer=1, n_head=2, **common)
        else:
            sizes = {"hidden_size": 8, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
            config = transformers.LlamaConfig(**sizes, **common)
        model = transformers.AutoModelForCausalLM.from_config(config)
        model.save_pretrained(tmp_path / "model", **options)
        return model, tmp_path / "model"

    return save_model


def write_tie(folder, tied):
    config = json.loads((folder / "config.json").read_text("utf-8"))
    (folder / "config.json").write_text(json.dumps(config | {TIE_KEY: tied}), "utf-8")


def change_tensors(folder, change):
    """Write the weights again as `change(tensors)` leaves them."""
    tensors = load_file(folder / MODEL)
    change(tensors)
    save_file(tensors, folder / MODEL, metadata={"format": "pt"})


def find_input(tensors):
    return next(name for name in tensors if name.endswith(INPUTS))


def load_again(folder):
    """What transformers makes of it: (input embedding, output embedding, names it saves)."""
    model = transformers.AutoModelForCausalLM.from_pretrained(folder)
    again = folder.with_name("again")
    model.save_pretrained(again)
    saved = [name for name in load_file(again / MODEL) if name.endswith((*INPUTS, OUTPUT))]
    return model.get_input_embeddings().weight, model.get_output_embeddings().weight, saved


def test_tied(save):
    _, folder = save(True)
    found = audit_checkpoint(folder)
    assert (found.tied, found.stored, found.agrees) == (True, "input only", True)
    given, scored, saved = load_again(folder)
    assert given is scored and len(saved) == 1
    assert found.loading == "one matrix for both ends" and found.saving == "one matrix, once"


def test_untied(save):
    model, folder = save(False)
    found = audit_checkpoint(folder)
    assert (found.tied, found.stored, found.agrees) == (False, "both different", True)
    gap = (model.get_input_embeddings().weight - model.get_output_embeddings().weight).abs().max().item()
    assert found.difference == pytest.approx(gap, rel=1e-6)
    given, scored, saved = load_again(folder)
    assert torch.equal(given, model.get_input_embeddings().weight) and len(saved) == 2
    assert torch.equal(scored, model.get_output_embeddings().weight) and found.loading == "two matrices"


def test_tied_by_config_with_two_different_matrices(save):
    model, folder = save(False)
    write_tie(folder, True)
    found = audit_checkpoint(folder)
    assert (found.tied, found.stored, found.agrees) == (True, "both different", False)
    assert found.verdict == "config.json says tied, but the files hold two different matrices"
    given, scored, saved = load_again(folder)
    if int(transformers.__version__.split(".")[0]) >= 5:
        assert given is not scored and torch.equal(scored, model.get_output_embeddings().weight) and len(saved) == 2
        assert json.loads((folder.with_name("again") / "config.json").read_text("utf-8"))[TIE_KEY] is True
    else:
        assert given is scored and torch.equal(given, model.get_input_embeddings().weight) and len(saved) == 1
    assert "transformers 5 warns and loads both, untied; version 4 ties and drops" in found.loading
    assert "transformers 5 writes both, and still tied in the config" in found.saving


def test_untied_by_config_with_one_matrix(save):
    _, folder = save(True)
    write_tie(folder, False)
    found = audit_checkpoint(folder)
    assert (found.stored, found.agrees, found.difference) == ("input only", False, None)
    given, scored, saved = load_again(folder)
    assert not torch.allclose(given, scored) and len(saved) == 2, "transformers fills it with random numbers"
    assert found.loading == "the output embedding is filled with random numbers"
    assert found.saving == "two matrices, one of them random"


def test_two_equal_matrices_agree_with_either(save):
    _, folder = save(True)
    change_tensors(folder, lambda tensors: tensors.update({OUTPUT: tensors[find_input(tensors)].clone()}))
    for tied in (True, False):
        write_tie(folder, tied)
        found = audit_checkpoint(folder)
        assert (found.stored, found.difference, found.agrees) == ("both equal", 0.0, True)
        given, scored, saved = load_again(folder)
        assert (given is scored) is tied and len(saved) == 2 - tied


def test_the_output_embedding_alone_serves_both_ends_if_tied(save):
    model, folder = save(False)
    change_tensors(folder, lambda tensors: tensors.pop(find_input(tensors)))
    found = audit_checkpoint(folder)
    assert (found.stored, found.agrees) == ("output only", False)
    write_tie(folder, True)
    assert audit_checkpoint(folder).agrees
    given, scored, saved = load_again(folder)
    assert given is scored and torch.equal(given, model.get_output_embeddings().weight)
    assert OUTPUT not in saved and "under the name of the input embedding" in audit_checkpoint(folder).saving


def test_several_files(save):
    _, folder = save(False, max_shard_size="1KB")
    found = audit_checkpoint(folder)
    assert len(found.files) > 1 and not (folder / MODEL).exists()
    assert (found.stored, found.agrees) == ("both different", True)
    shutil.copy(folder / found.files[0], folder / "kept")
    (folder / found.files[0]).unlink()
    with pytest.raises(TiebenchError, match=f"{found.files[0]} is missing"):
        audit_checkpoint(folder)
    shutil.copy(folder / found.files[1], folder / found.files[0])
    with pytest.raises(TiebenchError, match="both hold"):
        audit_checkpoint(folder)


def test_a_head_that_low_rank_training_was_merged_into(save):
    """Into the head of a tied model, saved with the config of its base: a loader could drop what was learned."""
    _, folder = save(True)
    low_rank = torch.randn(11, 2) @ torch.randn(2, 8) * 0.01

    def merge(tensors):
        tensors[OUTPUT] = tensors[find_input(tensors)] + low_rank

    change_tensors(folder, merge)
    found = audit_checkpoint(folder)
    assert not found.agrees and found.difference == pytest.approx(low_rank.abs().max().item(), rel=1e-4)
    write_tie(folder, False)
    assert audit_checkpoint(folder).agrees


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_other_precisions_are_compared_too(save, dtype):
    model, folder = save(False)
    model.to(dtype).save_pretrained(folder)
    gap = (model.get_input_embeddings().weight.double() - model.get_output_embeddings().weight.double()).abs().max()
    assert audit_checkpoint(folder).difference == pytest.approx(gap.item())


def test_a_config_that_does_not_say_is_read_as_its_class_reads_it():
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING

    for model_type, tied in TIED_BY_DEFAULT.items():
        assert getattr(CONFIG_MAPPING[model_type](), TIE_KEY) is tied, model_type


def test_where_nothing_is_written_the_default_counts_and_an_unknown_class_is_not_judged(save):
    _, folder = save(False)
    config = json.loads((folder / "config.json").read_text("utf-8"))
    del config[TIE_KEY]
    (folder / "config.json").write_text(json.dumps(config), "utf-8")
    found = audit_checkpoint(folder)
    assert not found.written and found.agrees is (config["model_type"] == "llama")
    (folder / "config.json").write_text(json.dumps(config | {"model_type": "novel"}), "utf-8")
    found = audit_checkpoint(folder)
    assert found.tied is None and "does not say" in found.verdict
    (folder / "config.json").write_text(json.dumps({"text_config": {TIE_KEY: True}}), "utf-8")
    assert audit_checkpoint(folder).tied is True
    (folder / "config.json").write_text(json.dumps({TIE_KEY: "yes"}), "utf-8")
    with pytest.raises(TiebenchError, match="tie_word_embeddings is 'yes'"):
        audit_checkpoint(folder)


def test_a_pickle_is_not_read(save, tmp_path):
    _, folder = save(True)
    (folder / MODEL).rename(folder / "pytorch_model.bin")
    with pytest.raises(UsageError, match=r"pytorch_model\.bin is a pickle: reading it could run code"):
        audit_checkpoint(folder)
    with pytest.raises(UsageError, match="is not a folder"):
        audit_checkpoint(tmp_path / "nowhere")
    (folder / "pytorch_model.bin").unlink()
    with pytest.raises(TiebenchError, match=r"model\.safetensors is missing"):
        audit_checkpoint(folder)


def describe_tensor(dtype, shape, offsets):
    return json.dumps({"wte.weight": {"dtype": dtype, "shape": shape, "data_offsets": offsets}}).encode()


def spoil_header(content, replacement):
    return len(replacement).to_bytes(8, "little") + replacement + content[8 + int.from_bytes(content[:8], "little") :]


@pytest.mark.parametrize(
    "spoil",
    [
        lambda content: content[:-8],
        lambda content: content[:5],
        lambda content: b"",
        lambda content: b"\xff" * 8 + content[8:],
        lambda content: spoil_header(content, b"[1]"),
        lambda content: spoil_header(content, b"[" * 100_000),
        lambda content: spoil_header(content, describe_tensor("F32", [2], [0, -4])),
        lambda content: spoil_header(content, describe_tensor("F32", [9], [0, 4])),
        lambda content: spoil_header(content, describe_tensor([], [1], [0, 4])),
    ],
)
def test_a_damaged_file_is_named(save, spoil):
    _, folder = save(True)
    (folder / MODEL).write_bytes(spoil((folder / MODEL).read_bytes()))
    with pytest.raises(TiebenchError, match=r"model\.safetensors is damaged"):
        audit_checkpoint(folder)


def test_an_index_may_not_lead_out_of_the_folder(save):
    _, folder = save(True)
    (folder / MODEL).rename(folder.parent / MODEL)
    index = {"weight_map": {"wte.weight": "../model.safetensors"}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index), "utf-8")
    with pytest.raises(TiebenchError, match=r"names '\.\./model\.safetensors', which is no"):
        audit_checkpoint(folder)


def test_a_damaged_config_is_named_and_unknown_names_are_no_guess(save):
    _, folder = save(True)
    (folder / "config.json").write_text("{", "utf-8")
    with pytest.raises(TiebenchError, match=r"config\.json is damaged"):
        audit_checkpoint(folder)
    (folder / "config.json").write_text("{}", "utf-8")
    save_file({"layers.0.output.weight": torch.ones(2, 2)}, folder / MODEL)
    with pytest.raises(TiebenchError, match="has no embedding among its 1 tensors"):
        audit_checkpoint(folder)


def test_the_command_ends_in_3_where_they_disagree_and_escapes_what_it_reads(save):
    _, folder = save(True)
    answer = CliRunner().invoke(app, ["audit", str(folder)])
    assert answer.exit_code == 0 and answer.stdout.endswith("config and files agree\n"), answer.output
    write_tie(folder, False)
    answer = CliRunner().invoke(app, ["audit", str(folder), "--json"])
    assert answer.exit_code == 3 and json.loads(answer.stdout)["agrees"] is False
    assert 'write "tie_word_embeddings": true into config.json' in answer.stderr
    (folder / "config.json").write_text(json.dumps({"model_type": "\x1b[31mred", TIE_KEY: True}), "utf-8")
    answer = CliRunner().invoke(app, ["audit", str(folder)])
    assert "\x1b" not in answer.output and r"\x1b[31mred" in answer.stdout
