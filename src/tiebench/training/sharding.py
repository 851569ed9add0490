"""A model whose parameters, gradients and optimizer memory are cut over the ranks (`training: {sharding: true}`).

torch's FSDP2 does it. Each transformer block is a group of its own, put together only while it computes. All else is
one group, put together for the whole step: the token embedding, whose loss reads and writes it between the two passes,
what stands beside the blocks, an LSTM, which reads its weights step by step, and blocks that share weights. So both
uses of a tied matrix are in one group, and it stays one parameter. The price is that while a step computes, each rank
holds that group and its gradient whole, as without sharding; cut over the ranks are what the optimizer remembers, the
parameters between two steps, and the gradients of the blocks.
"""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_map_only

from tiebench.layers.sharing import Lent
from tiebench.layers.transformer import PreNormBlock
from tiebench.models.language_model import LanguageModel


def shard_model(model: LanguageModel, *, device: torch.device) -> None:
    """Cut a filled model, on the CPU and equal at all ranks, and put this rank's part on `device`.

    Gradients are added up over the ranks, not averaged: a rank's loss is already scaled by the whole batch.
    """
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import FSDPModule, fully_shard, register_fsdp_forward_method

    mesh = init_device_mesh(device.type, (torch.distributed.get_world_size(),))
    if not any(isinstance(module, Lent) for module in model.modules()):
        for block in [module for module in model.modules() if isinstance(module, PreNormBlock)]:
            fully_shard(block, mesh=mesh)
    fully_shard(model, mesh=mesh, reshard_after_forward=False)
    register_fsdp_forward_method(model, "encode")
    for module in model.modules():
        if isinstance(module, FSDPModule):
            module.set_gradient_divide_factor(1.0)
            module.set_force_sum_reduction_for_comms(True)  # gloo knows no other
    warnings.filterwarnings("ignore", message="FSDP2-wrapped module .* returned a view tensor")  # none is written to


@contextmanager
def only_score(model: nn.Module) -> Iterator[None]:
    """No gradients within the block, and afterwards nothing is left put together.

    A sharded model keeps tensors of its first pass, so they may not be those of inference mode: nothing trains on them.
    """
    let_go: Any = getattr(model, "reshard", None)
    with torch.inference_mode() if let_go is None else torch.no_grad():
        yield
    if let_go is not None:
        let_go()


def is_sharded(tensor: Tensor) -> bool:
    """Whether a rank has only a part of it."""
    return hasattr(tensor, "device_mesh")


def read_local(tensor: Any) -> Tensor:
    """This rank's part; of an ordinary tensor, all of it."""
    return tensor.to_local() if is_sharded(tensor) else tensor


def put_together(tree: Any) -> Any:
    """A state with every sharded tensor whole. All ranks must call it."""

    def put(tensor: Any) -> Tensor:
        return tensor.full_tensor() if is_sharded(tensor) else tensor

    return tree_map_only(Tensor, put, tree)


def cut_like(tensor: Tensor, own: Any) -> Tensor:
    """A whole tensor as this rank holds `own`, on its device."""
    if not is_sharded(own) or is_sharded(tensor):
        return tensor.to(own.device)
    from torch.distributed.tensor import distribute_tensor

    return distribute_tensor(tensor.to(own.device), own.device_mesh, own.placements, src_data_rank=None)


def load_tensors(model: nn.Module, tensors: dict[str, Tensor]) -> None:
    """Read whole parameters into a model, sharded or not."""
    own = model.state_dict()
    model.load_state_dict({name: cut_like(tensor, own.get(name, tensor)) for name, tensor in tensors.items()})


def cut_memory(optimizer: torch.optim.Optimizer) -> None:
    """Cut what an optimizer of sharded parameters remembers as the parameters are cut, after it was read whole."""
    for parameter, memory in optimizer.state.items():
        for name, value in memory.items():
            if isinstance(value, Tensor) and value.shape == parameter.shape:
                memory[name] = cut_like(value, parameter)
