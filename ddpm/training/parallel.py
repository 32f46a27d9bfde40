"""How several ranks share a network: by DDP, each with all of it, or by FSDP, each with a part."""

import warnings
from collections.abc import Iterable

import torch
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor
from torch.nn.parallel import DistributedDataParallel

from ddpm.distributed import Ranks
from ddpm.training.compute import blocks


def replicate(model: nn.Module, ranks: Ranks) -> DistributedDataParallel:
    """The network in DDP, which averages gradients over the ranks during the backward pass."""
    ids = [ranks.device] if ranks.device.type == "cuda" else None
    return DistributedDataParallel(model, device_ids=ids, gradient_as_bucket_view=True)


def shard(model: nn.Module, ranks: Ranks, policy: MixedPrecisionPolicy) -> None:
    """Leave each rank its part of every weight; a block's are gathered while it computes.

    The weights become contiguous, which FSDP asks for; images may still have their channels last.

    Args:
        model: The network, changed in place.
        ranks: The ranks; each calls this with the same weights.
        policy: In which precision to gather and to reduce.
    """
    # Torch warns of in-place operations on a network's output, which nothing here does.
    warnings.filterwarnings("ignore", message="FSDP2-wrapped module")
    mesh = init_device_mesh(ranks.device.type, (ranks.world,))
    model.to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]
    for block in blocks(model):
        fully_shard(block, mesh=mesh, mp_policy=policy)
    fully_shard(model, mesh=mesh, mp_policy=policy)


def local(x: Tensor) -> Tensor:
    """The part of a tensor that lies on this rank, sharing its memory."""
    part: Tensor = x.to_local() if isinstance(x, DTensor) else x
    return part


def placed_like(value: Tensor, target: Tensor) -> Tensor:
    """A value as sharded as a tensor that it is to replace, without communication.

    Args:
        value: All of it, the same on every rank, or already sharded.
        target: What is to be replaced.
    """
    if not isinstance(target, DTensor) or isinstance(value, DTensor):
        return value
    return distribute_tensor(
        value.to(target.device), target.device_mesh, target.placements, src_data_rank=None
    )


def clip_gradient(parameters: Iterable[nn.Parameter], limit: float, ranks: Ranks) -> Tensor:
    """Scale the gradient down to a norm of at most `limit` and return its norm before that.

    Args:
        parameters: Parameters with gradients, sharded or not; those without one are left out.
        limit: Largest norm, positive.
        ranks: The ranks that hold shards.

    Returns:
        float32 0-d, the same on every rank.
    """
    having = [p for p in parameters if p.grad is not None]
    gradients = [local(p.grad) for p in having if p.grad is not None]
    norm: Tensor = torch.linalg.vector_norm(torch.stack(torch._foreach_norm(gradients)))
    if any(isinstance(p, DTensor) for p in having):
        norm = ranks.total(norm.square()).sqrt()
    # On a CPU the norm can be looked at for nothing, and most gradients need no scaling.
    if norm.device.type != "cpu" or norm > limit:
        torch._foreach_mul_(gradients, torch.clamp(limit / (norm + 1e-6), max=1.0))
    return norm
