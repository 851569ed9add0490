"""Named random generators: at one seed, what two arms share is drawn from equal generators.

With one global generator, an untied output embedding would silently change the body's initial weights.
"""

import hashlib

import torch


def derive_seed(seed: int, name: str) -> int:
    """A 63-bit seed for the generator of that name."""
    digest = hashlib.sha256(f"{seed}/{name}".encode()).digest()
    return int.from_bytes(digest[:8], "little") >> 1


def open_generator(seed: int, name: str, *, device: torch.device | str = "cpu") -> torch.Generator:
    """The generator `name` at this seed; equal calls give generators that draw equal numbers."""
    return torch.Generator(device=device).manual_seed(derive_seed(seed, name))
