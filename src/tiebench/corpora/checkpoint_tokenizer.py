"""The vocabulary of a checkpoint in the Hugging Face format, read from its tokenizer files."""

import json
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from tiebench.corpora.tokenizer_files import TOKENIZER_CONFIG_FILE, TOKENIZER_FILE, describe_tokenizer
from tiebench.corpora.vocabulary import (
    BPEVocabulary,
    ByteVocabulary,
    TokenizerVocabulary,
    Vocabulary,
    WordVocabulary,
    open_tokenizer,
)
from tiebench.errors import TiebenchError

CONFIG_KEYS = ("bos_token_id", "eos_token_id")
TOKENIZER_KEYS = ("bos_token", "eos_token")


def read_tokenizer(folder: Path, *, config: dict[str, Any]) -> Vocabulary:
    """The vocabulary of a checkpoint. `config` is what `config.json` holds.

    A tokenizer that tiebench has exported becomes the vocabulary that it was. With any other, a stream begins with the
    tokenizer's token for the beginning of a text, or else with that for its end.

    Raises TiebenchError where `tokenizer.json` is missing or damaged, is of another model, or has no such token.
    """
    serialized, size = _read_serialized(folder / TOKENIZER_FILE), config.get("vocab_size")
    if type(size) is not int or size < 1:
        raise TiebenchError(
            f"{folder / 'config.json'}: vocab_size is {str(size)[:40]!r}",
            "write the number of tokens, a whole number above 0",
        )
    for vocabulary in _list_own(serialized):
        if vocabulary.size == size and _is_exported(vocabulary, serialized):
            return vocabulary
    settings = _read_settings(folder / TOKENIZER_CONFIG_FILE)
    boundary = _find_boundary(serialized, settings=settings, config=config, size=size)
    if boundary is None:
        hint = f"write bos_token_id into config.json, below {size:,}"
        raise TiebenchError(f"{folder} names no token that begins or ends a text", hint)
    splits = settings.get("split_special_tokens") is True
    try:
        return TokenizerVocabulary(serialized, boundary=boundary, size=size, splits_special=splits)
    except ValueError as error:
        hint = "take the tokenizer that the model was trained with"
        raise TiebenchError(f"{folder / TOKENIZER_FILE} is of another model: {error}", hint) from error


def _read_serialized(file: Path) -> str:
    """The tokenizer as the library writes it, so that equal tokenizers give equal text."""
    try:
        return open_tokenizer(file.read_text("utf-8")).to_str()
    except FileNotFoundError as error:
        hint = "AutoTokenizer.from_pretrained(DIR).save_pretrained(DIR) of transformers writes it from older files"
        raise TiebenchError(f"{file} is missing", hint) from error
    except (OSError, ValueError) as error:
        raise TiebenchError(f"{file} is damaged: {error}", "copy or download it again") from error


def _read_settings(file: Path) -> dict[str, Any]:
    try:
        content = json.loads(file.read_text("utf-8")) if file.exists() else {}
    except (OSError, ValueError, RecursionError) as error:
        raise TiebenchError(f"{file} is damaged: {error}", "copy or download it again") from error
    return content if isinstance(content, dict) else {}


def _list_own(serialized: str) -> Iterator[Vocabulary]:
    """The vocabularies of tiebench from which a tokenizer may have been exported."""
    content = json.loads(serialized)
    model, splitting = content["model"], content.get("pre_tokenizer") or {}
    with suppress(ValueError):  # words without our own special tokens
        if model["type"] == "WordLevel":
            yield WordVocabulary(sorted(model["vocab"], key=model["vocab"].__getitem__))
    if model["type"] == "BPE" and not model["merges"]:
        yield ByteVocabulary()
    elif model["type"] == "BPE" and splitting.get("type") == "Sequence":
        yield BPEVocabulary(json.dumps({**content, "pre_tokenizer": splitting["pretokenizers"][-1]}))


def _is_exported(vocabulary: Vocabulary, serialized: str) -> bool:
    return open_tokenizer(describe_tokenizer(vocabulary, max_tokens=1)[TOKENIZER_FILE]).to_str() == serialized


def _find_boundary(serialized: str, *, settings: dict[str, Any], config: dict[str, Any], size: int) -> int | None:
    tokenizer = open_tokenizer(serialized)
    for key in TOKENIZER_KEYS:
        token = settings.get(key)
        name = token.get("content") if isinstance(token, dict) else token
        id = tokenizer.token_to_id(name) if isinstance(name, str) else None
        if id is not None and id < size:
            return id
    for key in CONFIG_KEYS:
        value = config.get(key)
        for id in value if isinstance(value, list) else [value]:
            if type(id) is int and 0 <= id < size:
                return id
    return None
