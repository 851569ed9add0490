"""Memory that a loss over a large vocabulary writes into at every step, so that no step waits for fresh pages."""

from collections.abc import MutableMapping

import torch
from torch import Tensor
from torch.utils.weak import WeakTensorKeyDictionary


class Workspace:
    """Buffers that live from step to step: scratch (scores, weights cast to half precision) and each weight's gradient.

    A copy of a model gets a workspace of its own: `deepcopy` of a workspace is an empty one. `compiled` asks for
    kernels made by torch.compile where the loss has some.
    """

    def __init__(self) -> None:
        self.compiled = False
        self._scratch: dict[tuple, Tensor] = {}
        self._gradients: MutableMapping[Tensor, Tensor] = WeakTensorKeyDictionary()

    def __deepcopy__(self, memo: dict) -> "Workspace":
        return Workspace()

    def __reduce__(self) -> tuple:
        return Workspace, ()

    def take(self, purpose: str, *, num_elements: int, device: torch.device, dtype: torch.dtype) -> Tensor:
        """An uninitialised `(num_elements,)` row; the next call for the same purpose gives the same memory."""
        key = (purpose, device, dtype)
        buffer = self._scratch.get(key)
        if buffer is None or len(buffer) < num_elements:
            with torch.inference_mode(False):
                buffer = torch.empty(num_elements, device=device, dtype=dtype)
            self._scratch[key] = buffer
        return buffer[:num_elements]

    def open_gradient(self, parameter: Tensor) -> tuple[Tensor, float]:
        """The parameter's `.grad`, and what to multiply it by before adding (beta): 0.0 where it is new, else 1.0."""
        if parameter.grad is not None:
            return parameter.grad, 1.0
        kept = self._gradients.get(parameter)
        if kept is None or _identify(kept) != _identify(parameter):
            kept = self._gradients[parameter] = torch.empty_like(parameter)
        parameter.grad = kept
        return kept, 0.0


def _identify(tensor: Tensor) -> tuple[torch.Size, torch.device, torch.dtype]:
    return tensor.shape, tensor.device, tensor.dtype
