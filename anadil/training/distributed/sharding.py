"""FSDP (Zhao et al., arXiv:2304.11277): of every weight, its gradient and its moments each process holds a part.

A block of the encoder is put together when it is heard and taken apart again, then once more on the way back; all
else (features, subsampling, head) is put together once a step. What leaves the processes, a model or a checkpoint, is
whole, so that nothing which is written tells how many there were.
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
    """Raise AnadilError if `training.strategy: fsdp` cannot do what `settings` ask for."""
    if settings.strategy != "fsdp":
        return
    found = {
        "this is one process, and it takes several to share a model out\n"
        "  next: training.devices=2 (or torchrun), or training.strategy=ddp": n_processes == 1,
        "training.precision 16-mixed has a scaler that does not know of shards\n"
        "  next: training.precision=bf16-mixed, or 32-true": settings.precision == "16-mixed",
        "training.batch_seconds auto is found by trying the whole model on one device\n"
        "  next: give seconds (to go on with a run, those of its batch_seconds.txt)": settings.batch_seconds == "auto",
    }
    problems = [f"training.strategy fsdp: {problem}" for problem, there in found.items() if there]
    if problems:
        raise AnadilError("\n".join(problems))


def refuse_layerdrop(config: Config) -> None:
    """The same for the model, once it is known."""
    model = config.model
    layerdrop = model.layerdrop if isinstance(model, Wav2Vec2Settings | W2vBertSettings) else 0.0
    if config.training.strategy == "fsdp" and layerdrop > 0:
        raise AnadilError(
            f"training.strategy fsdp: with model.layerdrop {layerdrop:g} each process would leave out other layers, but "
            "all are needed to put a layer together\n"
            f"  next: model.kind={model.kind} model.layerdrop=0, or training.strategy=ddp"
        )


def fsdp(n_processes: int) -> ModelParallelStrategy:
    return ModelParallelStrategy(_shard, data_parallel_size=n_processes, tensor_parallel_size=1, timeout=TIMEOUT)


def same_weights(fabric: Fabric, acoustic: AcousticModel) -> None:
    """Those of the first process, for all: what DDP does by itself."""
    for tensor in acoustic.network.state_dict().values():
        sent = tensor.to(fabric.device)
        torch.distributed.broadcast(sent, 0)
        tensor.copy_(sent)


def _shard(acoustic: AcousticModel, mesh: DeviceMesh) -> AcousticModel:
    mesh = mesh["data_parallel"]
    for block in _blocks(acoustic.network):
        fully_shard(block, mesh=mesh)
        if isinstance(block, Block):  # its other way forward
            register_fsdp_forward_method(block, "time_major")
    fully_shard(acoustic, mesh=mesh)
    return acoustic


def _blocks(network: QuartzNet | Conformer | HuggingFace) -> list[nn.Module]:
    """What is sharded by itself: a `Block` of QuartzNet and its relatives, a `Layer` of a Conformer, a layer of transformers.

    None if the blocks share a parameter (position biases of a Conformer): then the model is put together as a whole.
    """
    encoder: Any = network.encoder
    blocks = list(
        encoder.layers
        if isinstance(network, Conformer)
        else encoder.encoder.layers
        if isinstance(network, HuggingFace)
        else encoder.encoder
    )
    owned = [parameter for block in blocks for parameter in block.parameters()]
    return blocks if len(set(owned)) == len(owned) else []


def local(tensor: Tensor) -> Tensor:
    """This process's part, to be read or changed number by number."""
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor


def sums(tensors: list[Tensor]) -> Tensor:
    """The sum of each: (tensors,)."""
    found = torch.stack([local(tensor).sum() for tensor in tensors])
    if isinstance(tensors[0], DTensor):
        torch.distributed.all_reduce(found, group=tensors[0].device_mesh.get_group())
    return found


def whole(value: Any, keep: bool) -> Any:
    """A nested state with its shards put together, on the CPU, for those that are to `keep` it; what is whole stays.

    All processes are to call it together.
    """
    if isinstance(value, DTensor):
        full = value.full_tensor()
        return full.cpu() if keep else None
    if isinstance(value, dict):
        return {key: whole(one, keep) for key, one in value.items()}
    return value


def part_of(value: Tensor, like: Tensor) -> Tensor:
    """`value` cut as `like` is."""
    if not isinstance(like, DTensor):
        return value
    mesh = like.device_mesh
    chunks = value.to(like.device).chunk(mesh.size())
    mine = chunks[mesh.get_local_rank()] if mesh.get_local_rank() < len(chunks) else chunks[0][:0]
    return DTensor.from_local(
        mine, mesh, like.placements, run_check=False, shape=like.shape, stride=like.stride()
    )  # DTensor's own function for it would also exchange random numbers


def without_weights(acoustic: AcousticModel) -> AcousticModel:
    """A copy that takes no memory until it is `filled`."""
    empty = {id(one): nn.Parameter(one.detach().to("meta"), one.requires_grad) for one in acoustic.parameters()}
    return copy.deepcopy(acoustic, empty)


def filled(hollow: AcousticModel, state: dict[str, Tensor], device: torch.device) -> AcousticModel:
    """A copy of what `without_weights` made, with the network's weights."""
    acoustic = copy.deepcopy(hollow)
    acoustic.network.load_state_dict(state, assign=True)
    return acoustic.to(device)
