"""What a recurrent architecture carries from window to window: tensors in lists of lists, or None before the first."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor


def map_states(change: Callable[[Tensor], Tensor], state: Any) -> Any:
    """The same with every tensor changed."""
    if isinstance(state, Tensor):
        return change(state)
    return [map_states(change, part) for part in state] if isinstance(state, list | tuple) else state


def detach_states(state: Any) -> Any:
    """The same tensors without their graph, at the end of a window: truncated backpropagation through time."""
    return map_states(Tensor.detach, state)


def move_states(state: Any, device: torch.device) -> Any:
    """The same on another device."""
    return map_states(lambda tensor: tensor.to(device), state)


def list_tensors(state: Any) -> list[Tensor]:
    """Its tensors, in order."""
    return [state] if isinstance(state, Tensor) else [tensor for part in state for tensor in list_tensors(part)]


def clone_states(state: Any) -> Any:
    """The same in memory of its own."""
    return state.clone() if isinstance(state, Tensor) else [clone_states(part) for part in state]
