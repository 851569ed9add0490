"""A vocabulary as the tokenizer files of the Hugging Face format: text becomes the same ids as in a token stream."""

import json
from typing import Any

from tiebench.corpora.text_statistics import END_OF_LINE
from tiebench.corpora.vocabulary import (
    UNKNOWN,
    BPEVocabulary,
    ByteVocabulary,
    TokenizerVocabulary,
    Vocabulary,
    WordVocabulary,
)
from tiebench.errors import UsageError

TOKENIZER_FILE = "tokenizer.json"
TOKENIZER_CONFIG_FILE = "tokenizer_config.json"
# What `str.split` cuts at: the white space of Unicode, and the four separators that other libraries leave out.
WHITE_SPACE = r"[\t-\r\x1c-\x20\x{85}\x{a0}\x{1680}\x{2000}-\x{200a}\x{2028}\x{2029}\x{202f}\x{205f}\x{3000}]+"


def describe_tokenizer(vocabulary: Vocabulary, *, max_tokens: int) -> dict[str, str]:
    """The content of `tokenizer.json` and `tokenizer_config.json`, by the name of the file.

    `bos_token` and `eos_token` are the vocabulary's boundary. With `split_special_tokens`, text that looks like a
    special token is ordinary text, as in a token stream. `max_tokens` is the longest context.

    Raises UsageError for a vocabulary that the format has no tokenizer for.
    """
    if isinstance(vocabulary, WordVocabulary):
        tokenizer, boundary = _describe_words(vocabulary), END_OF_LINE
    elif isinstance(vocabulary, BPEVocabulary):
        tokenizer, boundary = _describe_bpe(vocabulary), vocabulary.token(vocabulary.boundary)
    elif isinstance(vocabulary, ByteVocabulary):
        tokenizer, boundary = _describe_bytes(), _name_bytes()[vocabulary.boundary]
    elif isinstance(vocabulary, TokenizerVocabulary):
        tokenizer, boundary = vocabulary.describe()["tokenizer"], vocabulary.token(vocabulary.boundary)
    else:
        kind = vocabulary.describe()["type"]
        raise UsageError(f"vocabulary.type: {kind} has no tokenizer.json", "words, bpe and bytes have one")
    config: dict[str, Any] = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": boundary,
        "eos_token": boundary,
        "split_special_tokens": getattr(vocabulary, "splits_special", True),
        "clean_up_tokenization_spaces": False,
        "model_input_names": ["input_ids", "attention_mask"],
        "model_max_length": max_tokens,
    }
    if vocabulary.unknown is not None:
        config["unk_token"] = vocabulary.token(vocabulary.unknown)
    return {TOKENIZER_FILE: tokenizer, TOKENIZER_CONFIG_FILE: json.dumps(config, indent=2, ensure_ascii=False) + "\n"}


def _describe_words(vocabulary: WordVocabulary) -> str:
    """Words between white space; the decoder puts spaces between them and a newline for the end of a line."""
    from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers

    ids = {token: id for id, token in enumerate(vocabulary.tokens)}
    tokenizer = Tokenizer(models.WordLevel(ids, unk_token=UNKNOWN))
    tokenizer.normalizer = normalizers.Replace("\n", f" {END_OF_LINE} ")
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex(WHITE_SPACE), "removed")
    with_spaces = decoders.WordPiece(prefix="\n", cleanup=False)  # no word begins with a newline, so none is joined
    lines = decoders.Replace(Regex(f" ?{END_OF_LINE} ?"), "\n")
    tokenizer.decoder = decoders.Sequence([with_spaces, decoders.Fuse(), lines])
    return tokenizer.to_str(pretty=True)


def _describe_bpe(vocabulary: BPEVocabulary) -> str:
    """Line by line, as a stream is encoded: no token reaches over the end of a line."""
    from tokenizers import Tokenizer, pre_tokenizers

    tokenizer = Tokenizer.from_str(vocabulary.describe()["tokenizer"])
    by_line = pre_tokenizers.Split("\n", "isolated")
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([by_line, pre_tokenizers.ByteLevel(add_prefix_space=False)])
    return tokenizer.to_str(pretty=True)


def _describe_bytes() -> str:
    """Byte pair encoding without a pair."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers

    tokenizer = Tokenizer(models.BPE({name: byte for byte, name in enumerate(_name_bytes())}, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    return tokenizer.to_str(pretty=True)


def _name_bytes() -> list[str]:
    """The character that stands for each byte in a byte-level vocabulary (Radford et al. 2019, section 2.2).

    A printable byte stands for itself; the others follow each other from U+0100.
    """
    printable = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    names, num_others = [], 0
    for byte in range(256):
        names.append(chr(byte if byte in printable else 256 + num_others))
        num_others += byte not in printable
    return names
