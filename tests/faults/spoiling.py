"""Files that somebody made to do harm: each function spoils a good one, and says how."""

import hashlib
import io
import json
import os
import pickle
import random
import re
import zipfile
from pathlib import Path
from typing import Any

from fuzz import SNIPPETS, list_places, mutate_text

DIGEST_BYTES = 32  # a checkpoint stands behind its own SHA-256, which anybody can make
VALUES = (
    -1, 0, 10**6, 2**31 - 1, 2**63, 10**30, 1e300, 1e400, float("nan"), None, True, "", "x", [], {}, [[]], {"a": {}},
    "\x1b[31mred\x1b[0m", "\x1b]0;title\x07", "<script>alert(1)</script>", "=cmd|'/c calc'!A0", "a\nb",
    "../../x", "a|b", "\\input{x}", "\ud800", "\u202eabc", "x" * 10_000,
)  # fmt: skip


class _Touch:
    """What an attacker would put into a pickle: a command that is executed when it is loaded."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple:
        return os.system, (f"touch {self.marker}",)


def spoil_checkpoint(file: Path, *, marker: Path, choose: random.Random) -> str:
    """Replace what a checkpoint holds, and seal it again."""
    parts, name = _open_checkpoint(file)
    way = choose.choice(("a command", "no archive", "another object", "a value", "a value", "a value", "a part"))
    if way == "a command":
        parts[name] = pickle.dumps(choose.choice((_Touch(marker), {"signature": _Touch(marker)})), protocol=2)
    elif way == "no archive":
        parts = {}
    elif way == "another object":
        thing = choose.choice(({}, [], 5, "x", None, {"signature": "x"}, {"signature": None, "model": {}}))
        parts[name] = pickle.dumps(thing, protocol=2)
    elif way == "a value":
        place = choose.choice(_find_numbers(parts[name]))
        number = choose.choice(
            (-1, 0, 10**6, 2**31 - 1, 2**63, 10**30, 1e300, float("nan"), float("inf"), None, True, ())
        )
        way = f"{place[2].decode()} = {number}"
        parts[name] = _exchange(parts[name], place, number)
    else:
        gone = choose.choice(sorted(parts))
        way = f"{gone} cut off"
        parts[gone] = parts[gone][: len(parts[gone]) // 2]
    _seal_checkpoint(file, parts, otherwise=pickle.dumps(_Touch(marker)))
    return way


def set_number(file: Path, *, key: str, number: Any) -> None:
    """Give a number in a checkpoint another value, and seal it again."""
    parts, name = _open_checkpoint(file)
    (place,) = (place for place in _find_numbers(parts[name]) if place[2].decode() == key)
    parts[name] = _exchange(parts[name], place, number)
    _seal_checkpoint(file, parts)


def replace_content(file: Path, pickled: bytes = b"", *, share: float = 0.0) -> None:
    """Another pickle in a checkpoint, or that share of its own, sealed again."""
    parts, name = _open_checkpoint(file)
    parts[name] = pickled or parts[name][: int(share * len(parts[name]))]
    _seal_checkpoint(file, parts)


def _open_checkpoint(file: Path) -> tuple[dict[str, bytes], str]:
    """The parts of a checkpoint, and the name of the one with its values."""
    with zipfile.ZipFile(io.BytesIO(file.read_bytes()[DIGEST_BYTES:])) as archive:
        parts = {name: archive.read(name) for name in archive.namelist()}
    (name,) = (name for name in parts if name.endswith("data.pkl"))
    return parts, name


def _find_numbers(pickled: bytes) -> list[re.Match]:
    """Where a pickle has a key, the place where it is remembered, and a number."""
    return list(re.finditer(rb"X(....)([a-z_]+)(q.|r....)(K.|M..|J....|G.{8}|N|\x88|\x89)", pickled, re.DOTALL))


def _exchange(pickled: bytes, place: re.Match, number: Any) -> bytes:
    return pickled[: place.start(4)] + pickle.dumps(number, protocol=2)[2:-1] + pickled[place.end(4) :]


def _seal_checkpoint(file: Path, parts: dict[str, bytes], *, otherwise: bytes = b"") -> None:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        for part, data in parts.items():
            archive.writestr(part, data)
    content = packed.getvalue() if parts else otherwise
    file.write_bytes(hashlib.sha256(content).digest() + content)


def spoil_json(file: Path, *, choose: random.Random) -> str:
    """Put a hostile value somewhere into a JSON file."""
    content = json.loads(file.read_text("utf-8"))
    holder, key = choose.choice(list(list_places(content)))
    holder[key] = choose.choice(VALUES)
    text = json.dumps(content)
    if choose.random() < 0.1:
        text = choose.choice(
            ("[" * 100_000, "9" * 5_000, '{"schema_version": 2}', "null", "[]", '{"a":' * 50_000, "\ufeff" + text)
        )
        file.write_text(text, "utf-8")
        return "another text"
    file.write_text(text, "utf-8")
    return f"{key} = {str(holder[key])[:30]!r}"


def spoil_array(file: Path, *, marker: Path, choose: random.Random) -> str:
    """An array of objects, an archive of arrays, or a header that promises more than there is."""
    way = choose.choice(("pickle", "archive", "header"))
    if way == "pickle":
        file.write_bytes(pickle.dumps(_Touch(marker)))
    elif way == "archive":
        with zipfile.ZipFile(file, "w") as archive:
            archive.writestr("a.npy", b"\x93NUMPY")
    else:
        header = choose.choice(("{'descr': '|O', 'fortran_order': False, 'shape': (3,), }", "{" * 300,
                                "{'descr': '<f4', 'fortran_order': False, 'shape': (10**12,), }", "__import__('os')",
                                "{'descr': '<f4', 'fortran_order': False, 'shape': (1000000000000,), }"))  # fmt: skip
        file.write_bytes(b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header.encode())
    return way


def spoil_weights(file: Path, *, choose: random.Random) -> str:
    """A header of safetensors that is too large, nested or about other tensors."""
    content = file.read_bytes()
    length = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + length])
    way = choose.choice(("length", "nested", "value", "value"))
    if way == "length":
        file.write_bytes((2 ** choose.choice((20, 40, 63))).to_bytes(8, "little") + content[8:])
        return way
    holder, key = choose.choice(list(list_places(header)))
    holder[key] = choose.choice(VALUES)
    text = (b"[" * 100_000) if way == "nested" else json.dumps(header).encode()
    file.write_bytes(len(text).to_bytes(8, "little") + text + content[8 + length :])
    return f"{way} {key}"


def spoil_text(file: Path, *, choose: random.Random) -> str:
    """A YAML file (spec.yaml) with a hostile snippet."""
    text = mutate_text(file.read_text("utf-8"), choose=choose)
    file.write_text(text if choose.random() < 0.7 else choose.choice(SNIPPETS), "utf-8", errors="surrogatepass")
    return "a snippet"
