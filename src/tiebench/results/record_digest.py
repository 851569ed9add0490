"""The digest of a record: over its values, however they are laid out in the file."""

import json
from typing import Any

from tiebench.files import compute_digest

PLAIN = json.JSONEncoder(sort_keys=True, separators=(",", ":"), allow_nan=False)


def compute_record_digest(content: dict[str, Any]) -> str:
    """The SHA-256 over a record's values, however they are laid out in the file. Raises ValueError for NaN."""
    return digest_texts(write_plainly(content))


def write_plainly(content: dict[str, Any]) -> dict[str, str]:
    """By key, in order, the values as JSON without white space. Raises ValueError for NaN."""
    return {key: PLAIN.encode(content[key]) for key in sorted(content)}


def digest_texts(texts: dict[str, str]) -> str:
    """The SHA-256 over such texts."""
    text = ",".join(f"{PLAIN.encode(key)}:{value}" for key, value in texts.items())
    return compute_digest(f"{{{text}}}".encode("utf-8", "surrogatepass"))
