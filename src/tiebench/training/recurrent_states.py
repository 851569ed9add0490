"""What a recurrent architecture carries from window to window: tensors in lists of lists, or None before the first."""

from typing import Any

import torch
from torch import Tensor


def detach_states(state: Any) -> Any:
    """The same tensors without their graph, at the end of a window: truncated backpropagation through time."""
    if isinstance(state, Tensor):
        return state.detach()
    return [detach_states(part) for part in state] if isinstance(state, list | tuple) else state


def move_states(state: Any, device: torch.device) -> Any:
    """The same on another device."""
    if isinstance(state, Tensor):
        return state.to(device)
    return [move_states(part, device) for part in state] if isinstance(state, list | tuple) else state


def list_tensors(state: Any) -> list[Tensor]:
    """Its tensors, in order."""
    return [state] if isinstance(state, Tensor) else [tensor for part in state for tensor in list_tensors(part)]


def clone_states(state: Any) -> Any:
    """The same in memory of its own."""
    return state.clone() if isinstance(state, Tensor) else [clone_states(part) for part in state]
