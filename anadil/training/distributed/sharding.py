"""FSDP (Zhao et al., arXiv:2304.11277): each rank holds a shard of every weight, its gradient and its moments.

A block of the encoder is gathered for its forward pass, freed, and gathered again for its backward pass; everything else
(features, subsampling, head) is gathered once a step. Models and checkpoints hold full weights, so they do not depend on
the number of processes that wrote them.
"""

from __future__ import annotations

import copy
from typing import Any

import torch
import torch.distributed
from lightning_fabric import Fabric
from lightning_fabric.strategies.model_parallel import ModelParallelStrategy
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp import fully_shard, register_fsdp_forward_method
from torch.distributed.tensor import DTensor

from anadil.errors import AnadilError
from anadil.models.acoustic import AcousticModel
from anadil.models.conformer import Conformer
from anadil.models.hugging_face.network import HuggingFace, W2vBertSettings, Wav2Vec2Settings
from anadil.models.quartznet import Block, QuartzNet
from anadil.training.config import Config, TrainingSettings
from anadil.training.distributed.workers import TIMEOUT


def refuse_unshardable(settings: TrainingSettings, n_processes: int) -> None:
    """Raise AnadilError if `training.strategy` is fsdp and other settings exclude it."""
    if settings.strategy != "fsdp":
        return
    problem_if = {
        "this is one process, and a model is sharded over several\n"
        "  next: training.devices=2 (or torchrun), or training.strategy=ddp": n_processes == 1,
        "training.precision 16-mixed needs a loss scaler, which does not support shards\n"
        "  next: training.precision=bf16-mixed, or 32-true": settings.precision == "16-mixed",
        "training.batch_seconds auto is measured with the full model on one device\n"
        "  next: give seconds (to resume a run, those of its batch_seconds.txt)": settings.batch_seconds == "auto",
    }
    problems = [f"training.strategy fsdp: {problem}" for problem, applies in problem_if.items() if applies]
    if problems:
        raise AnadilError("\n".join(problems))


def refuse_layerdrop(config: Config) -> None:
    """Raise AnadilError if `training.strategy` is fsdp and the model skips layers at random."""
    model = config.model
    layerdrop = model.layerdrop if isinstance(model, Wav2Vec2Settings | W2vBertSettings) else 0.0
    if config.training.strategy == "fsdp" and layerdrop > 0:
        raise AnadilError(
            f"training.strategy fsdp: with model.layerdrop {layerdrop:g} each process would skip other layers, but "
            "all processes are needed to gather a layer\n"
            f"  next: model.kind={model.kind} model.layerdrop=0, or training.strategy=ddp"
        )


def refuse_self_conditioned(config: Config) -> None:
    """Raise AnadilError if `training.strategy` is fsdp and the loss has intermediate heads, whose shards nobody would gather."""
    if config.training.strategy == "fsdp" and getattr(config.model, "conditioned_places", None):
        raise AnadilError(
            "training.strategy fsdp: not with model.self_conditioned\n"
            "  next: training.strategy=ddp, or model.self_conditioned=[]"
        )


def fsdp_strategy(n_processes: int) -> ModelParallelStrategy:
    """Return Fabric's strategy for FSDP over all processes."""
    return ModelParallelStrategy(_shard, data_parallel_size=n_processes, tensor_parallel_size=1, timeout=TIMEOUT)


def broadcast_weights(fabric: Fabric, acoustic: AcousticModel) -> None:
    """Copy the weights of rank 0 to all ranks, as DDP does by itself."""
    for tensor in acoustic.network.state_dict().values():
        on_device = tensor.to(fabric.device)
        torch.distributed.broadcast(on_device, 0)
        tensor.copy_(on_device)


def _shard(acoustic: AcousticModel, mesh: DeviceMesh) -> AcousticModel:
    mesh = mesh["data_parallel"]
    for block in _blocks(acoustic.network):
        fully_shard(block, mesh=mesh)
        if isinstance(block, Block):  # called by this method as well as by `forward`
            register_fsdp_forward_method(block, "time_major")
    fully_shard(acoustic, mesh=mesh)
    return acoustic


def _blocks(network: QuartzNet | Conformer | HuggingFace) -> list[nn.Module]:
    """Return the modules that are sharded one by one: `Block` of QuartzNet and its relatives, `Layer` of a Conformer, a
    layer of transformers.

    The list is empty if they share a parameter (position biases of a Conformer): then the model is gathered as a whole.
    """
    encoder: Any = network.encoder
    blocks = list(
        encoder.layers
        if isinstance(network, Conformer)
        else encoder.encoder.layers
        if isinstance(network, HuggingFace)
        else encoder.encoder
    )
    parameters = [parameter for block in blocks for parameter in block.parameters()]
    return blocks if len(set(parameters)) == len(parameters) else []


def local_shard(tensor: Tensor) -> Tensor:
    """Return this rank's shard as a plain tensor that shares its memory; return a tensor that is not sharded as it is."""
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor


def full_sums(tensors: list[Tensor]) -> Tensor:
    """Return the sum of each full tensor: (tensors,). All ranks must call it."""
    sums = torch.stack([local_shard(tensor).sum() for tensor in tensors])
    if isinstance(tensors[0], DTensor):
        torch.distributed.all_reduce(sums, group=tensors[0].device_mesh.get_group())
    return sums


def full_state(value: Any, keep: bool) -> Any:
    """Return a nested state with its shards replaced by full tensors on the CPU, or by None where `keep` is false.

    All ranks must call it. Other values stay as they are.
    """
    if isinstance(value, DTensor):
        full = value.full_tensor()
        return full.cpu() if keep else None
    if isinstance(value, dict):
        return {key: full_state(item, keep) for key, item in value.items()}
    return value


def shard_like(full: Tensor, like: Tensor) -> Tensor:
    """Return `full` sharded as `like` is, or as it is if `like` is not sharded."""
    if not isinstance(like, DTensor):
        return full
    mesh = like.device_mesh
    chunks = full.to(like.device).chunk(mesh.size())
    shard = chunks[mesh.get_local_rank()] if mesh.get_local_rank() < len(chunks) else chunks[0][:0]
    return DTensor.from_local(
        shard, mesh, like.placements, run_check=False, shape=like.shape, stride=like.stride()
    )  # PyTorch's `distribute_tensor` would also exchange random numbers


def empty_copy(acoustic: AcousticModel) -> AcousticModel:
    """Return a copy whose parameters are on the meta device and take no memory."""
    weights = list(acoustic.parameters())
    on_meta = {id(weight): nn.Parameter(weight.detach().to("meta"), weight.requires_grad) for weight in weights}
    return copy.deepcopy(acoustic, on_meta)


def with_weights(empty: AcousticModel, state: dict[str, Tensor], device: torch.device) -> AcousticModel:
    """Return a copy of `empty_copy`'s model on `device`, with the network's weights from `state`."""
    acoustic = copy.deepcopy(empty)
    acoustic.network.load_state_dict(state, assign=True)
    return acoustic.to(device)
