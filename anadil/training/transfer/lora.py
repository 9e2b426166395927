"""LoRA: the attention's projections learn by a product of two thin matrices (Hu et al., arXiv:2106.09685, section 4.1).

y = W x + alpha / rank * B A x, with W still, A random and B zero at the start. The thin matrices lie beside the weight
under its own names, so that blocks are counted and rates decay as without; a model is saved with W + alpha / rank * B A.
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

A, B = "lora_a", "lora_b"
_NAME = re.compile(r"encoder\..*\.(?:self_attn|attention)\.(?:linear_)?(q|k|v|out)(?:_proj)?")


def insert_lora(network: nn.Module, lora: LoraSettings) -> list[str]:
    """Give the projections of `lora.targets` their thin matrices, drawn by PyTorch's generator. Returns their names.

    Raises AnadilError if the network has no attention.
    """
    found = [
        (name, module)
        for name, module in network.named_modules()
        if isinstance(module, nn.Linear) and projection_of(name) in lora.targets
    ]
    if not found:
        raise AnadilError(
            "init.lora: the model has no attention to adapt\n  next: leave init.lora out, or start from a Conformer or a "
            "model of Hugging Face"
        )
    for _, module in found:
        first = torch.empty(lora.rank, module.in_features)
        nn.init.kaiming_uniform_(first, a=math.sqrt(5))
        module.register_parameter(A, nn.Parameter(first))
        module.register_parameter(B, nn.Parameter(torch.zeros(module.out_features, lora.rank)))
        module.register_forward_hook(_adder(lora))
    return [name for name, _ in found]


def projection_of(name: str) -> str | None:
    """q, k, v or out for the name of a projection: NeMo's `self_attn.linear_q`, Hugging Face's `attention.q_proj`."""
    match = _NAME.fullmatch(name)
    return match[1] if match else None


def is_lora(name: str) -> bool:
    return name.endswith((f".{A}", f".{B}"))


def merged_state(network: nn.Module, lora: LoraSettings | None) -> dict[str, Tensor]:
    """The network's tensors, with the thin matrices' product inside the weights that they stand beside."""
    state: dict[str, Tensor] = network.state_dict()
    if lora is None:
        return state
    for name in [name for name in state if name.endswith(f".{A}")]:
        base = name.removesuffix(A)
        update = state.pop(base + B).float() @ state.pop(name).float()
        state[f"{base}weight"] = state[f"{base}weight"] + (lora.alpha / lora.rank * update).to(
            state[f"{base}weight"].dtype
        )
    return state


def _adder(lora: LoraSettings) -> Any:
    def add(module: nn.Linear, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
        first, second = module.get_parameter(A), module.get_parameter(B)
        x = F.dropout(inputs[0], lora.dropout, module.training)
        return output + lora.alpha / lora.rank * F.linear(F.linear(x, first), second)

    return add
