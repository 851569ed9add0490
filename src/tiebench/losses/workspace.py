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

    def open_gradient(self, parameter: Tensor, *, num_rows: int | None = None) -> tuple[Tensor, float]:
        """The parameter's `.grad`, and what to multiply it by before adding (beta): 0.0 where it is new, else 1.0.

        With `num_rows`, memory of so many rows, of which the first are the `.grad`; where the `.grad` lies in other
        memory, it comes without the rest.
        """
        shape = parameter.shape if num_rows is None else torch.Size((num_rows, *parameter.shape[1:]))
        kept = self._gradients.get(parameter)
        if parameter.grad is not None:
            is_ours = kept is not None and kept.shape == shape and kept.data_ptr() == parameter.grad.data_ptr()
            return (kept if is_ours and kept is not None else parameter.grad), 1.0
        if kept is None or (kept.shape, kept.device, kept.dtype) != (shape, parameter.device, parameter.dtype):
            kept = self._gradients[parameter] = parameter.new_empty(shape, requires_grad=False)
        parameter.grad = kept[: len(parameter)]
        return kept, 0.0

    def list_buffers(self) -> list[Tensor]:
        """All the memory that it has now."""
        return [*self._scratch.values(), *self._gradients.values()]
