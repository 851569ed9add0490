"""Where an interrupted run goes on: one file that is whole or recognised as damaged."""

import hashlib
import io
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn
from torch.utils._pytree import tree_map_only

from tiebench.errors import TiebenchError
from tiebench.files import open_atomic

CHECKPOINT_FILE = "checkpoint.pt"
WEIGHTS_FILE = "weights.safetensors"
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
    """A row of a stack alone: torch writes all memory that a tensor is a view of."""
    return tensor.clone() if tensor.untyped_storage().nbytes() > tensor.nbytes else tensor


def read_checkpoint(folder: Path) -> dict[str, Any] | None:
    """The last checkpoint, on the CPU; None where there is none. Raises TiebenchError when it is damaged."""
    file = folder / CHECKPOINT_FILE
    if not file.exists():
        return None
    content = file.read_bytes()
    if hashlib.sha256(content[DIGEST_BYTES:]).digest() != content[:DIGEST_BYTES]:
        hint = f"remove {file} to begin the run again, or train with --force"
        raise TiebenchError(f"{file} is damaged: its checksum does not match", hint)
    return torch.load(io.BytesIO(content[DIGEST_BYTES:]), map_location="cpu", weights_only=True)


def remove_checkpoint(folder: Path) -> None:
    (folder / CHECKPOINT_FILE).unlink(missing_ok=True)


def write_weights(model: nn.Module, folder: Path, *, signature: str) -> None:
    """The parameters as safetensors, with the run's signature in the header. Raises TiebenchError on a full disk."""
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in model.state_dict().items()}
    with open_atomic(folder / WEIGHTS_FILE) as aside:
        try:
            save_file(tensors, aside, metadata={"signature": signature})
        except SafetensorError as error:
            hint = "make room on the disk and train again: the run goes on from its last checkpoint"
            raise TiebenchError(f"cannot write {folder / WEIGHTS_FILE}: {error}", hint) from None


def read_weights(model: nn.Module, folder: Path) -> None:
    """Load the best weights into a model.

    Raises TiebenchError when they are missing, damaged, or those of a model with other tables (another tie, say).
    """
    file = folder / WEIGHTS_FILE
    if not file.exists():
        raise TiebenchError(f"{folder} has no weights", "published records come without them: train the run again")
    try:
        tensors = load_file(file)
    except SafetensorError as error:
        raise TiebenchError(f"{file} is damaged: {error}", "train the run again with --force") from None
    own = {name: tensor.shape for name, tensor in model.state_dict().items()}
    found = {name: tensor.shape for name, tensor in tensors.items()}
    if own != found:
        odd = sorted(name for name in own.keys() | found.keys() if own.get(name) != found.get(name))
        raise TiebenchError(
            f"{file} belongs to another model: {', '.join(odd[:4])} differ",
            "a checkpoint of one tie cannot be read into another; train this run with --force",
        )
    model.load_state_dict(tensors)
