"""In which precision a run's matrix products are made: float32, or bfloat16 where the processor multiplies that faster.

Parameters, their gradients, the optimizer and all sums over the vocabulary are float32 in either.
"""

import torch

from tiebench.results.record import Precision

CPU_UNITS = ("avx512_bf16", "amx_bf16", "bf16")  # x86 and Arm, as torch names them


def has_bf16_units(device: torch.device) -> bool:
    """Whether the device multiplies bfloat16 in hardware; elsewhere it is right, but slower than float32."""
    if device.type == "cpu":
        capabilities = getattr(torch.cpu, "get_capabilities", dict)()  # where torch does not say, there are none
        return any(capabilities.get(name) for name in CPU_UNITS)
    return device.type == "cuda" and torch.cuda.get_device_capability(device) >= (8, 0)


def keep_float32() -> None:
    """From now on, LSTMs in float32 have float32's digits on a GPU too, where cuDNN would take TF32's by itself."""
    torch.backends.cudnn.rnn.fp32_precision = "ieee"  # pyright: ignore[reportAttributeAccessIssue]


def choose_precision(asked: str, *, device: torch.device) -> tuple[Precision, str | None]:
    """The precision for `training.precision` on a device, and what a person should know about it (None: nothing)."""
    there = has_bf16_units(device)
    if asked == "auto":
        return ("bf16", "precision auto: bf16") if there else ("fp32", "precision auto: fp32, no bf16 units here")
    if asked == "bf16" and not there:
        return "bf16", "no bf16 units here, so that bf16 is slower than fp32: precision auto would take fp32"
    return ("bf16" if asked == "bf16" else "fp32"), None
