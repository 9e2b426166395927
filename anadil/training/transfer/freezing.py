"""Which weights hold still, and how fast the others learn: `init.freeze`, `layer_lr_decay`, `encoder_lr_factor`.

Both follow from the config and the epoch alone, so that a resumed run needs no state for them.
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
"""NeMo's names: `encoder.encoder.N` of QuartzNet, Jasper and Citrinet, `encoder.layers.N` of the Conformers; and
Hugging Face's, `encoder.encoder.layers.N`."""
_CONVOLUTIONS = "encoder.feature_extractor."

NORMS = (nn.modules.batchnorm._BatchNorm, nn.LayerNorm, nn.GroupNorm, nn.modules.instancenorm._InstanceNorm)
_SQUEEZE_EXCITE = "fc"
"""NeMo's name of the layers of a squeeze-and-excitation."""


def apply_freezing(network: nn.Module, init: InitSettings | None, epoch: int) -> None:
    """Freeze what `init.freeze` says, at the start of each epoch, when all of `network` is in training mode.

    Frozen modules are in evaluation mode (no dropout, running statistics as they are), and need no backward pass;
    with `encoder_except_norm` the encoder stays in training mode, its norms and squeeze-excite layers learn.
    """
    frozen = never_learning(network)
    if init is not None and is_frozen(init, epoch):
        frozen |= frozen_names(network, init)
    if not frozen and (init is None or init.freeze == "none"):
        return
    for name, parameter in network.named_parameters():
        parameter.requires_grad = name not in frozen
    if not frozen or (init is not None and init.freeze == "encoder_except_norm"):
        return
    for module in network.modules():
        own = list(module.parameters())
        if own and not any(parameter.requires_grad for parameter in own):
            module.eval()


def is_frozen(init: InitSettings, epoch: int) -> bool:
    """Whether something is frozen in `epoch`, the first being 1."""
    if init.lora is not None:
        return True
    return init.freeze != "none" and (init.unfreeze_after is None or epoch <= init.unfreeze_after)


def never_learning(network: nn.Module) -> frozenset[str]:
    """Parameters that `model.freeze_feature_encoder` holds still: wav2vec 2.0's convolutions."""
    settings = network.settings if isinstance(network, HuggingFace) else None
    if not isinstance(settings, Wav2Vec2Settings) or not settings.freeze_feature_encoder:
        return frozenset()
    return frozenset(name for name, _ in network.named_parameters() if name.startswith(_CONVOLUTIONS))


def frozen_names(network: nn.Module, init: InitSettings) -> frozenset[str]:
    """Parameters that `init.freeze` freezes. Raises AnadilError if there are fewer blocks than are to be frozen."""
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
    learning = _norms(network) if init.freeze == "encoder_except_norm" else frozenset()
    return frozenset(name for name in names if name.startswith(_ENCODER) and name not in learning)


def lr_factors(names: Sequence[str], init: InitSettings | None) -> dict[str, float]:
    """Factor of the learning rate for each parameter: 1 for the head, `layer_lr_decay` smaller with each block below it."""
    if init is None:
        return dict.fromkeys(names, 1.0)
    depth, n_blocks = block_depths(names)
    return {
        name: init.encoder_lr_factor * init.layer_lr_decay ** (n_blocks - depth[name]) if name in depth else 1.0
        for name in names
    }


def block_depths(names: Sequence[str]) -> tuple[dict[str, int], int]:
    """The block of each of the encoder's parameters, 0 next to the input, and how many there are.

    What comes before the first block (subsampling) counts as part of it, what comes after the last as part of that.
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
        if isinstance(module, NORMS) or _SQUEEZE_EXCITE in path.split(".")
        for name, _ in module.named_parameters(recurse=False)
    )
