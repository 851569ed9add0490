"""Initial values depend on the generator only: they are drawn on the CPU in fp32 and copied to where they belong."""

import torch

from tiebench.experiment.block import InitConfig


@torch.no_grad()
def fill_from(parameter: torch.Tensor, init: InitConfig, *, generator: torch.Generator) -> None:
    """Fill a tensor of any shape with U(-a, a) or N(0, s^2), whatever the device and type of the tensor."""
    values = torch.empty(parameter.shape, dtype=torch.float32, device="cpu")
    if init.uniform is not None:
        values.uniform_(-init.uniform, init.uniform, generator=generator)
    elif init.normal is not None:
        values.normal_(0.0, init.normal, generator=generator)
    parameter.copy_(values)
