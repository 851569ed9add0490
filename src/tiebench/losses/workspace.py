"""Memory that a loss over a large vocabulary writes into at every step, so that none waits for fresh pages."""

import torch
from torch import Tensor


class Workspace:
    """Buffers that live from step to step: scratch (scores, weights cast to half precision) and each weight's gradient.

    A copy of a model gets a workspace of its own: `deepcopy` of a workspace is an empty one. Models that take their
    turns may share the scratch, which nobody needs after the call that wrote it.
    """

    def __init__(self) -> None:
        self._scratch: dict[tuple, Tensor] = {}
        self._gradients: dict[tuple, Tensor] = {}

    def __deepcopy__(self, memo: dict) -> "Workspace":
        return Workspace()

    def __reduce__(self) -> tuple:
        return Workspace, ()

    def share_scratch(self, other: "Workspace") -> None:
        """Use the scratch memory of `other` from now on."""
        self._scratch = other._scratch

    def take(self, purpose: str, *, num_elements: int, device: torch.device, dtype: torch.dtype) -> Tensor:
        """An uninitialised `(num_elements,)` row; the next call for the same purpose gives the same memory."""
        key = (purpose, device, dtype)
        buffer = self._scratch.get(key)
        if buffer is None or len(buffer) < num_elements:
            with torch.inference_mode(False):
                buffer = torch.empty(num_elements, device=device, dtype=dtype)
            self._scratch[key] = buffer
        return buffer[:num_elements]

    def open_gradient(self, parameter: Tensor) -> float:
        """Make sure that `parameter.grad` is there; 0.0 when it is to be overwritten (beta), 1.0 when added to."""
        if parameter.grad is not None:
            return 1.0
        key = (id(parameter), parameter.shape, parameter.device, parameter.dtype)
        if key not in self._gradients:
            self._gradients[key] = torch.empty_like(parameter)
        parameter.grad = self._gradients[key]
        return 0.0
