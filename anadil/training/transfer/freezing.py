"""Frozen weights, and learning rates of the others: `init.freeze`, `layer_lr_decay`, `encoder_lr_factor`.

Both depend only on the config and the epoch, so a resumed run needs no saved state for them.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from torch import nn

from anadil.errors import AnadilError
from anadil.models.hugging_face.network import HuggingFace, Wav2Vec2Settings
from anadil.training.transfer.lora import is_lora
from anadil.training.transfer.settings import FirstBlocks, InitSettings

_ENCODER = "encoder."
_BLOCK = re.compile(r"encoder\.(?:encoder|layers|encoder\.layers)\.(\d+)\.")
"""Names of a block's parameters: NeMo's `encoder.encoder.N` (QuartzNet, Jasper, Citrinet) and `encoder.layers.N`
(Conformers), and Hugging Face's `encoder.encoder.layers.N`."""

_CONVOLUTIONS = "encoder.feature_extractor."
"""Prefix of the parameters of wav2vec 2.0's convolutions."""

_NORMS = (nn.modules.batchnorm._BatchNorm, nn.LayerNorm, nn.GroupNorm, nn.modules.instancenorm._InstanceNorm)
_SQUEEZE_EXCITE = "fc"
"""NeMo's name of the layers of a squeeze-and-excitation."""


def apply_freezing(network: nn.Module, init: InitSettings | None, epoch: int) -> None:
    """Freeze the parameters that `init.freeze` names. Call it in each epoch, after `network.train()`.

    Frozen modules are put in evaluation mode (no dropout, constant running statistics) and need no backward pass. With
    `encoder_except_norm` the encoder stays in training mode, and its norms and squeeze-and-excitations are trained.
    """
    frozen = _always_frozen(network)
    if init is not None and is_frozen(init, epoch):
        frozen |= frozen_names(network, init)
    if not frozen and (init is None or init.freeze == "none"):
        return
    for name, parameter in network.named_parameters():
        parameter.requires_grad = name not in frozen
    if not frozen or (init is not None and init.freeze == "encoder_except_norm"):
        return
    for module in network.modules():
        parameters = list(module.parameters())
        if parameters and not any(parameter.requires_grad for parameter in parameters):
            module.eval()


def is_frozen(init: InitSettings, epoch: int) -> bool:
    """Whether `init` freezes any weights in `epoch`; the first epoch is 1."""
    if init.lora is not None:
        return True
    return init.freeze != "none" and (init.unfreeze_after is None or epoch <= init.unfreeze_after)


def _always_frozen(network: nn.Module) -> frozenset[str]:
    """Parameters that `model.freeze_feature_encoder` freezes: wav2vec 2.0's convolutions."""
    settings = network.settings if isinstance(network, HuggingFace) else None
    if not isinstance(settings, Wav2Vec2Settings) or not settings.freeze_feature_encoder:
        return frozenset()
    return frozenset(name for name, _ in network.named_parameters() if name.startswith(_CONVOLUTIONS))


def frozen_names(network: nn.Module, init: InitSettings) -> frozenset[str]:
    """Parameters that `init.freeze` or `init.lora` freezes. Raises AnadilError if `first_n` exceeds the number of blocks."""
    names = [name for name, _ in network.named_parameters()]
    if init.lora is not None:
        return frozenset(name for name in names if name.startswith(_ENCODER) and not is_lora(name))
    if isinstance(init.freeze, FirstBlocks):
        depth, n_blocks = block_depths(names)
        if init.freeze.first_n > n_blocks:
            raise AnadilError(
                f"init.freeze.first_n: {init.freeze.first_n}, but the encoder has {n_blocks} blocks\n"
                f"  next: give at most {n_blocks} (all of them: init.freeze=encoder)"
            )
        return frozenset(name for name in depth if depth[name] < init.freeze.first_n)
    if init.freeze == "none":
        return frozenset()
    trained = _norms(network) if init.freeze == "encoder_except_norm" else frozenset()
    return frozenset(name for name in names if name.startswith(_ENCODER) and name not in trained)


def lr_factors(names: Sequence[str], init: InitSettings | None) -> dict[str, float]:
    """Factor of the learning rate for each parameter.

    It is 1 for the head. For the encoder it is `encoder_lr_factor`, times `layer_lr_decay` for each block from the head
    down to the parameter's.
    """
    if init is None:
        return dict.fromkeys(names, 1.0)
    depth, n_blocks = block_depths(names)
    return {
        name: init.encoder_lr_factor * init.layer_lr_decay ** (n_blocks - depth[name]) if name in depth else 1.0
        for name in names
    }


def block_depths(names: Sequence[str]) -> tuple[dict[str, int], int]:
    """The block index of each parameter of the encoder, counted from the input, and the number of blocks.

    Parameters before the first block (subsampling) count as part of it, parameters after the last block as part of that.
    """
    depth: dict[str, int] = {}
    latest = 0
    for name in names:
        if not name.startswith(_ENCODER):
            continue
        block = _BLOCK.match(name)
        latest = int(block[1]) if block else latest
        depth[name] = latest
    return depth, latest + 1


def _norms(network: nn.Module) -> frozenset[str]:
    """Parameters of the encoder's norms and squeeze-and-excitations."""
    return frozenset(
        f"{path}.{name}" if path else name
        for path, module in network.named_modules()
        if isinstance(module, _NORMS) or _SQUEEZE_EXCITE in path.split(".")
        for name, _ in module.named_parameters(recurse=False)
    )
