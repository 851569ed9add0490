"""A finished run as a model folder that other libraries read, whole or not at all."""

import json
import os
import secrets
import shutil
from collections.abc import Callable
from pathlib import Path

import torch
from safetensors.torch import save

from tiebench.corpora.tokenizer_files import TOKENIZER_CONFIG_FILE, TOKENIZER_FILE, describe_tokenizer
from tiebench.corpora.vocabulary import load_vocabulary
from tiebench.errors import UsageError
from tiebench.execution.run import open_model
from tiebench.files import make_folder, sync
from tiebench.models.hugging_face import INPUT_NAMES, OUTPUT_NAME, to_hugging_face
from tiebench.models.hugging_face_config import count_context, describe_config, describe_generation
from tiebench.models.language_model import LanguageModel
from tiebench.results.record import VOCABULARY_FILE, Record, read_record

MODEL_FILE = "model.safetensors"
CARD_FILE = "README.md"
EXPORTED_FILES = {
    *("config.json", "generation_config.json", MODEL_FILE, TOKENIZER_FILE, TOKENIZER_CONFIG_FILE, CARD_FILE),
}


def export_run(folder: Path, *, to: Path, write_card: Callable[[Record], str], force: bool = False) -> Record:
    """Write the model of a finished run to the folder `to`; its README is what `write_card` makes of the record.

    Raises UsageError for options that the format has no key for, for a folder that is not empty, and with `force` for
    one that holds more than an exported model; TiebenchError when the run has no weights.
    """
    record = read_record(folder)
    _check_destination(to, force=force)
    vocabulary = load_vocabulary(folder / VOCABULARY_FILE, identity=record.vocabulary.identity)
    boundary = vocabulary.boundary
    config = describe_config(record.spec, vocabulary_size=vocabulary.size, boundary=boundary)
    texts = describe_tokenizer(vocabulary, max_tokens=count_context(record.spec))
    texts["config.json"] = json.dumps(config, indent=2) + "\n"
    texts["generation_config.json"] = json.dumps(describe_generation(boundary=boundary), indent=2) + "\n"
    texts[CARD_FILE] = write_card(record)
    tensors = gather_tensors(open_model(record, folder), architecture=record.spec.architecture.type)
    contents = {name: text.encode("utf-8") for name, text in texts.items()}
    contents[MODEL_FILE] = save(tensors, metadata={"format": "pt"})
    _replace_folder(to, contents)
    return record


def gather_tensors(model: LanguageModel, *, architecture: str) -> dict[str, torch.Tensor]:
    """Every tensor of a GPT-2 or Llama under its name in the format; a tied one stands there once."""
    embedding = model.embedding
    tensors = to_hugging_face(model.architecture.state_dict(), architecture=architecture)
    tensors[INPUT_NAMES[architecture]] = embedding.input_embedding.detach().contiguous()
    if embedding.output_embedding is not embedding.input_embedding:
        tensors[OUTPUT_NAME] = embedding.output_embedding.detach().contiguous()
    return tensors


def _check_destination(to: Path, *, force: bool) -> None:
    if to.exists() and not to.is_dir():
        raise UsageError(f"{to} is a file", "name a folder")
    there = {file.name for file in to.iterdir()} if to.exists() else set()
    if there and not force:
        raise UsageError(f"{to} is there already and not empty", "name another folder, or replace it with --force")
    if others := sorted(there - EXPORTED_FILES):
        hint = "--force replaces an exported model and nothing else: name another folder"
        raise UsageError(f"{to} holds {others[0]}, which no export writes", hint)


def _replace_folder(folder: Path, contents: dict[str, bytes]) -> None:
    """Written beside it and renamed into place, so that a reader finds the old folder, none, or the new one. A symbolic
    link stays, and leads to the new one.
    """
    folder = folder.resolve()
    make_folder(folder.parent)
    mark = f"{os.getpid()}-{secrets.token_hex(4)}"
    aside, old = folder.with_name(f".{folder.name}.{mark}"), folder.with_name(f".{folder.name}.old-{mark}")
    try:
        aside.mkdir()
        for name, content in contents.items():
            (aside / name).write_bytes(content)
            sync(aside / name)
        sync(aside)
        if folder.exists():
            os.replace(folder, old)
        os.replace(aside, folder)
        sync(folder.parent)
    finally:
        if old.exists() and not folder.exists():
            os.replace(old, folder)
        for left in (aside, old):
            if left.exists():
                shutil.rmtree(left)
