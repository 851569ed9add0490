"""Where an interrupted run goes on: one file that is whole or recognised as damaged."""

import hashlib
import io
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save
from torch import nn
from torch.utils._pytree import tree_map_only

from tiebench.errors import TiebenchError
from tiebench.files import compute_digest, open_atomic
from tiebench.results.record import WEIGHTS_FILE
from tiebench.training.sharding import load_tensors
from tiebench.tying.untied_late import UntiedLate

CHECKPOINT_FILE = "checkpoint.pt"
DIGEST_BYTES = 32


def write_checkpoint(state: dict[str, Any], folder: Path) -> None:
    """Write a dictionary of tensors and plain values, behind its own SHA-256, and rename it into place."""
    payload = io.BytesIO()
    torch.save(tree_map_only(torch.Tensor, _own_memory, state), payload)
    content = payload.getbuffer()
    with open_atomic(folder / CHECKPOINT_FILE) as aside, aside.open("wb") as file:
        file.write(hashlib.sha256(content).digest())
        file.write(content)


def _own_memory(tensor: torch.Tensor) -> torch.Tensor:
    """The tensor in memory of its own: torch would write all the memory that it is a view of."""
    return tensor.clone() if tensor.untyped_storage().nbytes() > tensor.nbytes else tensor


def read_checkpoint(folder: Path) -> dict[str, Any] | None:
    """The last checkpoint, on the CPU; None where there is none. Raises TiebenchError when it is damaged."""
    file = folder / CHECKPOINT_FILE
    if not file.exists():
        return None
    content = file.read_bytes()
    if hashlib.sha256(content[DIGEST_BYTES:]).digest() != content[:DIGEST_BYTES]:
        raise TiebenchError(f"{file} is damaged: its checksum does not match", _begin_again(folder))
    try:
        state = torch.load(io.BytesIO(content[DIGEST_BYTES:]), map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged pickle can raise IndexError, MemoryError and more
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise TiebenchError(f"{file} is no checkpoint: {reason}", _begin_again(folder)) from error
    if not isinstance(state, dict):
        raise TiebenchError(f"{file} is no checkpoint: it holds no dictionary", _begin_again(folder))
    return state


def remove_checkpoint(folder: Path) -> None:
    (folder / CHECKPOINT_FILE).unlink(missing_ok=True)


def write_weights(tensors: dict[str, torch.Tensor], folder: Path, *, signature: str) -> str:
    """Whole parameters as safetensors, with the run's signature in the header. Returns the file's SHA-256."""
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    content = save(tensors, metadata={"signature": signature})
    with open_atomic(folder / WEIGHTS_FILE) as aside:
        aside.write_bytes(content)
    return compute_digest(content)


def read_weights(
    model: nn.Module, folder: Path, *, digest: str | None = None, signature: str | None = None, hint: str = ""
) -> None:
    """Load the best weights into a model.

    Raises TiebenchError, with `hint` as the way out, when they are missing, damaged, not the ones with this SHA-256 or
    of this run, or those of a model with other embeddings (another tie, say).
    """
    file = folder / WEIGHTS_FILE
    hint = hint or "train the run again with --force"
    if not file.exists():
        raise TiebenchError(f"{folder} has no weights", "published records come without weights: train the run again")
    if digest is not None and compute_digest(file) != digest:
        raise TiebenchError(f"{file} is damaged, or of another run: its SHA-256 is not the one in the record", hint)
    try:
        tensors = load_file(file)
        with safe_open(file, framework="pt") as opened:
            found_signature = (opened.metadata() or {}).get("signature")
    except SafetensorError as error:
        raise TiebenchError(f"{file} is damaged: {error}", hint) from None
    if signature is not None and found_signature != signature:
        raise TiebenchError(f"{file} is of another run ({found_signature}, not {signature})", hint)
    take_form_of(model, tensors)
    own = {name: tensor.shape for name, tensor in model.state_dict().items()}
    found = {name: tensor.shape for name, tensor in tensors.items()}
    if own != found:
        odd = sorted(name for name in own.keys() | found.keys() if own.get(name) != found.get(name))
        raise TiebenchError(
            f"{file} belongs to another model: {', '.join(odd[:4])} differ",
            "a checkpoint of one tie cannot be read into another; train this run with --force",
        )
    load_tensors(model, tensors)


def take_form_of(model: nn.Module, names: Iterable[str]) -> None:
    """Give a model that unties while it trains the parameters of before or after, as a state with these names has."""
    embedding = getattr(model, "embedding", None)
    if isinstance(embedding, UntiedLate):
        embedding.take_form_of(names)


def _begin_again(folder: Path) -> str:
    return f"remove {folder / CHECKPOINT_FILE} to begin the run again, or train with --force"
