"""The files of a checkpoint in the Hugging Face format, read without torch and without running anything in them.

Only safetensors is read: a `.bin` file is a pickle, and to unpickle it is to run what somebody else wrote.
"""

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tiebench.errors import TiebenchError, UsageError

CONFIG_FILE = "config.json"
WEIGHTS_INDEX_FILE = "model.safetensors.index.json"
SINGLE_WEIGHTS_FILE = "model.safetensors"
PICKLES = ("*.bin", "*.pt", "*.pth", "*.ckpt", "*.pkl")
LARGEST_HEADER_BYTES = 100_000_000
NUMPY_TYPES = {"F64": "<f8", "F32": "<f4", "F16": "<f2", "BF16": "<u2"}
SHARD_NAME = re.compile(r"[^/\\]+\.safetensors")
ROWS_AT_ONCE = 2**22  # numbers that are compared at a time


@dataclass(frozen=True)
class StoredTensor:
    """Where a tensor lies: bytes `[start, end)` of its file."""

    name: str
    file: Path
    dtype: str
    shape: tuple[int, ...]
    start: int
    end: int

    def bits(self) -> np.ndarray:
        """The stored numbers in a row, memory-mapped, bfloat16 as uint16. Raises TiebenchError for integers."""
        kind = NUMPY_TYPES.get(self.dtype)
        if kind is None:
            raise TiebenchError(
                f"{self.file}: {self.name} has the type {self.dtype}", "only floating point numbers can be compared"
            )
        count = (self.end - self.start) // np.dtype(kind).itemsize
        if not count:
            return np.empty(0, kind)
        return np.memmap(self.file, dtype=kind, mode="r", offset=self.start, shape=(count,))


def read_json(file: Path) -> dict[str, Any]:
    """Raises TiebenchError for a file that is missing, damaged or holds something else than an object."""
    try:
        content = json.loads(file.read_text("utf-8"))
    except FileNotFoundError as error:
        raise TiebenchError(f"{file} is missing", "give the folder that save_pretrained wrote") from error
    except (OSError, ValueError, RecursionError) as error:
        raise TiebenchError(f"{file} is damaged: {error}", "copy or download it again") from error
    if not isinstance(content, dict):
        raise TiebenchError(f"{file} is damaged: it holds no object", "copy or download it again")
    return content


def find_weight_files(folder: Path) -> list[Path]:
    """The safetensors files of a checkpoint: one, or the shards that its index names.

    Raises UsageError where there is no folder or it has pickles only, TiebenchError for a missing or damaged file.
    """
    if not folder.is_dir():
        raise UsageError(f"{folder} is not a folder", "give the folder that save_pretrained wrote")
    index = folder / WEIGHTS_INDEX_FILE
    if (folder / SINGLE_WEIGHTS_FILE).exists() or not index.exists():
        return [_require_file(folder / SINGLE_WEIGHTS_FILE)]
    weight_map = read_json(index).get("weight_map")
    names = sorted(set(map(str, weight_map.values()))) if isinstance(weight_map, dict) else []
    if not names:
        raise TiebenchError(f"{index} is damaged: it has no weight_map", "copy or download it again")
    if odd := [name for name in names if not SHARD_NAME.fullmatch(name)]:
        raise TiebenchError(
            f"{index} names {odd[0][:80]!r}, which is no .safetensors beside it",
            "do not trust this checkpoint, and do not load it",
        )
    return [_require_file(folder / name) for name in names]


def list_tensors(folder: Path) -> dict[str, StoredTensor]:
    """Every tensor of a checkpoint by its name; of several files, all must agree with the index.

    Raises as `find_weight_files` does.
    """
    found: dict[str, StoredTensor] = {}
    files = find_weight_files(folder)
    for file in files:
        tensors = _read_header(file)
        if double := sorted(found.keys() & tensors.keys()):
            raise TiebenchError(f"{file.name} and {found[double[0]].file.name} both hold {double[0]}", "remove one")
        found |= tensors
    if files[0].name != SINGLE_WEIGHTS_FILE:
        weight_map = read_json(folder / WEIGHTS_INDEX_FILE)["weight_map"]
        for name, file_name in weight_map.items():
            if name not in found or found[name].file.name != file_name:
                raise TiebenchError(f"{folder / str(file_name)} has no {name}, which the index says", "copy it again")
    return found


def find_largest_difference(one: StoredTensor, other: StoredTensor) -> float | None:
    """The largest absolute difference of two tensors, 0.0 where all numbers are equal; None for other shapes.

    NaN where a NaN stands against anything but the same bits.
    """
    if one.shape != other.shape:
        return None
    largest = 0.0
    first, second = one.bits(), other.bits()
    for start in range(0, len(first), ROWS_AT_ONCE):
        piece, against = (part[start : start + ROWS_AT_ONCE] for part in (first, second))
        if one.dtype == other.dtype and piece.tobytes() == against.tobytes():
            continue
        difference = np.abs(_to_float64(piece, one.dtype) - _to_float64(against, other.dtype)).max()
        largest = float(np.maximum(largest, difference))
    return largest


def _to_float64(numbers: np.ndarray, dtype: str) -> np.ndarray:
    """As float64; a bfloat16 is the upper half of a float32."""
    if dtype == "BF16":
        numbers = (numbers.astype(np.uint32) << 16).view(np.float32)
    return numbers.astype(np.float64)


def _require_file(file: Path) -> Path:
    if file.exists():
        return file
    pickles = sorted(path.name for pattern in PICKLES for path in file.parent.glob(pattern))
    if pickles:
        hint = "load it where you trust it and write it again: model.save_pretrained(DIR) writes safetensors"
        raise UsageError(f"{file.parent / pickles[0]} is a pickle: reading it could run code, so it was not read", hint)
    raise TiebenchError(f"{file} is missing", "copy or download the whole folder again")


def _read_header(file: Path) -> dict[str, StoredTensor]:
    """The header of a safetensors file, every tensor's place checked against the length of the file."""
    size = file.stat().st_size
    with file.open("rb") as stream:
        length = int.from_bytes(stream.read(8), "little")
        if size < 8 or not 2 <= length <= min(size - 8, LARGEST_HEADER_BYTES):
            raise _explain_damage(file, "its header is longer than the file")
        head = stream.read(length)
    try:
        entries = json.loads(head)
        return {
            name: _place_tensor(name, entry, file=file, begin=8 + length, size=size)
            for name, entry in entries.items()
            if name != "__metadata__"
        }
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise _explain_damage(file, f"its header cannot be read ({error})") from error


def _place_tensor(name: str, entry: dict[str, Any], *, file: Path, begin: int, size: int) -> StoredTensor:
    dtype, shape, (start, end) = entry["dtype"], tuple(entry["shape"]), entry["data_offsets"]
    if not all(type(number) is int and number >= 0 for number in (*shape, start, end)) or start > end:
        raise ValueError(f"the place of {name} is not two ascending whole numbers")
    if begin + end > size:
        raise _explain_damage(file, f"it ends before {name} does")
    width = np.dtype(NUMPY_TYPES[dtype]).itemsize if dtype in NUMPY_TYPES else None
    if width is not None and end - start != width * int(np.prod(shape, dtype=object)):
        raise ValueError(f"{name} has {end - start} bytes for the shape {list(shape)}")
    return StoredTensor(name, file, str(dtype), shape, begin + start, begin + end)


def _explain_damage(file: Path, reason: str) -> TiebenchError:
    return TiebenchError(f"{file} is damaged: {reason}", "copy or download it again")
