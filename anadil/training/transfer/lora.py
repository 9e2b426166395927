"""LoRA: low-rank updates of the attention's projections (Hu et al., arXiv:2106.09685, section 4.1).

y = W x + alpha / rank * B A x, where W is frozen, and initially A is random and B is zero. A and B are parameters of the
projection, so that block counts and learning-rate decay work as without LoRA. A model is saved with the merged weight
W + alpha / rank * B A.
"""

from __future__ import annotations

import math
import re
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from anadil.errors import AnadilError
from anadil.training.transfer.settings import LoraSettings

_A, _B = "lora_a", "lora_b"
_NAME = re.compile(r"encoder\..*\.(?:self_attn|attention)\.(?:linear_)?(q|k|v|out)(?:_proj)?")


def insert_lora(network: nn.Module, lora: LoraSettings) -> list[str]:
    """Add A and B to the projections of `lora.targets`, and return the projections' names.

    A is drawn by PyTorch's generator. Raises AnadilError if the network has no attention.
    """
    projections = [
        (name, module)
        for name, module in network.named_modules()
        if isinstance(module, nn.Linear) and projection_of(name) in lora.targets
    ]
    if not projections:
        raise AnadilError(
            "init.lora: the model has no attention to adapt\n  next: leave init.lora out, or start from a Conformer or a "
            "model of Hugging Face"
        )
    for _, module in projections:
        a = torch.empty(lora.rank, module.in_features)
        nn.init.kaiming_uniform_(a, a=math.sqrt(5))
        module.register_parameter(_A, nn.Parameter(a))
        module.register_parameter(_B, nn.Parameter(torch.zeros(module.out_features, lora.rank)))
        module.register_forward_hook(_add_update(lora))
    return [name for name, _ in projections]


def projection_of(name: str) -> str | None:
    """q, k, v or out for the name of an attention's projection; None for other modules.

    NeMo's names are such as `self_attn.linear_q`, Hugging Face's such as `attention.q_proj`.
    """
    match = _NAME.fullmatch(name)
    return match[1] if match else None


def is_lora(name: str) -> bool:
    """Whether this is the name of a low-rank parameter."""
    return name.endswith((f".{_A}", f".{_B}"))


def merged_state(network: nn.Module, lora: LoraSettings | None) -> dict[str, Tensor]:
    """The network's tensors, with the low-rank updates merged into the weights."""
    state: dict[str, Tensor] = network.state_dict()
    if lora is None:
        return state
    for name in [name for name in state if name.endswith(f".{_A}")]:
        base = name.removesuffix(_A)
        update = state.pop(base + _B).float() @ state.pop(name).float()
        state[f"{base}weight"] = state[f"{base}weight"] + (lora.alpha / lora.rank * update).to(
            state[f"{base}weight"].dtype
        )
    return state


def _add_update(lora: LoraSettings) -> Any:
    """A forward hook that adds the low-rank update to a projection's output."""

    def add(module: nn.Linear, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
        a, b = module.get_parameter(_A), module.get_parameter(_B)
        x = F.dropout(inputs[0], lora.dropout, module.training)
        return output + lora.alpha / lora.rank * F.linear(F.linear(x, a), b)

    return add
