"""Layers that share their weights: several passes through one module, whose parameters exist once.

Everything else is as without sharing: each pass has the place and the name that a layer of its own would have.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import nn

from tiebench.experiment.architecture_config import EncoderDecoderConfig, GPT2Config, LlamaConfig, LSTMConfig
from tiebench.experiment.block import InitConfig
from tiebench.layers.initialisation import fill_from

TransformerConfig = GPT2Config | LlamaConfig | EncoderDecoderConfig
COVERED = {"attention": ("attention", "source_attention"), "feed_forward": ("mlp",)}
COVERED["all"] = (*COVERED["attention"], *COVERED["feed_forward"])


class Lent(nn.Module):
    """One more use of a module that belongs to another place of the model.

    It is not registered as a child, so its parameters are counted, saved and updated only at their first place, under
    one name; it is copied and moved with the module there.
    """

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self._owner = [module]  # in a list, which nn.Module does not look into

    @property
    def module(self) -> nn.Module:
        return self._owner[0]

    def forward(self, *arguments: Any) -> Any:
        return self._owner[0](*arguments)


def choose_groups(config: TransformerConfig | LSTMConfig) -> list[int]:
    """Which set of weights each pass uses, from 0; as many sets as passes where nothing is shared.

    Six passes and three groups: `sequence` is 0 0 1 1 2 2, `cycle` 0 1 2 0 1 2, and `cycle_reverse` 0 1 2 2 1 0: the
    last cycle runs backwards (Takase & Kiyono 2021, section 3). One group is ALBERT's sharing (Lan et al. 2020) and the
    Universal Transformer's (Dehghani et al. 2019).
    """
    layers = config.layers
    if config.share is None:
        return list(range(layers))
    groups = min(config.groups or 1, layers)
    if config.order in (None, "sequence"):
        return [index * groups // layers for index in range(layers)]
    start_of_last = groups * (-(-layers // groups) - 1)
    backwards = start_of_last if config.order == "cycle_reverse" and start_of_last else layers
    return [index % groups if index < backwards else groups - 1 - index % groups for index in range(layers)]


def lend_repeats(modules: Sequence[nn.Module], *, groups: list[int]) -> list[nn.Module]:
    """The modules, each later one of a group replaced by the first of its group, lent."""
    firsts: dict[int, nn.Module] = {}
    found = []
    for module, group in zip(modules, groups, strict=True):
        first = firsts.setdefault(group, module)
        found.append(module if first is module else Lent(first))
    return found


def share_parts(blocks: Sequence[nn.Module], *, config: TransformerConfig) -> None:
    """Let the blocks of a stack use the shared parts of the first block of their group."""
    groups = choose_groups(config)
    for path in _list_shared_parts(blocks[0], config=config):
        owner, _, name = path.rpartition(".")
        parts = lend_repeats([block.get_submodule(path) for block in blocks], groups=groups)
        for block, part in zip(blocks, parts, strict=True):
            setattr(block.get_submodule(owner), name, part)


def walk_passes(root: nn.Module, *, name: str = "", lent: bool = False) -> Iterator[tuple[str, nn.Module, bool]]:
    """Every module with its name and whether it was lent, in the order of `named_modules` without sharing.

    A lent module comes again for each of its uses, under the name that an unshared one would have there.
    """
    if isinstance(root, Lent):
        root, lent = root.module, True
    yield name, root, lent
    for child_name, child in root.named_children():
        yield from walk_passes(child, name=f"{name}.{child_name}" if name else child_name, lent=lent)


@torch.no_grad()
def fill_passes(
    root: nn.Module, *, choose_init: Callable[[str, torch.Tensor], InitConfig], generator: torch.Generator
) -> None:
    """Norms become 1, biases 0, and a weight what `choose_init(name, weight)` says.

    For each use of a lent module, the values of an unshared one are drawn and thrown away, so that the first use, and
    all that is not shared, starts as without sharing.
    """
    for module_name, module, lent in walk_passes(root):
        for name, parameter in module.named_parameters(module_name, recurse=False):
            target = torch.empty_like(parameter) if lent else parameter
            if name.endswith("bias"):
                target.zero_()
            elif parameter.ndim == 1:
                target.fill_(1.0)
            else:
                fill_from(target, choose_init(name, parameter), generator=generator)


def _list_shared_parts(block: nn.Module, *, config: TransformerConfig) -> list[str]:
    """The paths of a block's parts that `share` covers; norms only where `share_norms` asks for them.

    A part stands beside its norm (`mlp`, `norm_mlp`), or both in a sub-layer (`mlp.part`, `mlp.norm`).
    """
    covered = COVERED[config.share] if config.share else ()
    found: list[str] = []
    for name, child in block.named_children():
        if name in covered:
            in_sub_layer = "part" in dict(child.named_children())
            found.append(f"{name}.part" if in_sub_layer else name)
            if config.share_norms:
                found.append(f"{name}.norm" if in_sub_layer else f"norm_{name}")
    return found
