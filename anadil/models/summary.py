"""The table of layers and parameters that `anadil train` shows before it starts."""

from __future__ import annotations

from torch import nn

from anadil.models.acoustic import AcousticModel
from anadil.models.quartznet import Block


def layer_table(acoustic: AcousticModel) -> tuple[list[str], list[list[str]]]:
    """Columns and rows: features (window and hop in samples), one row a block, the head (labels and blank), the total."""
    features = acoustic.features.settings
    columns = ["layer", "filters", "kernel", "repeat", "stride", "dilation", "residual", "parameters"]
    rows = [["log-mel", f"{features.mels}", f"{features.window_length}", "", f"{features.hop}", "", "", "0"]]
    settings = acoustic.network.settings.resolved_blocks
    for i, (block, module) in enumerate(zip(settings, acoustic.network.encoder.encoder, strict=True), start=1):
        assert isinstance(module, Block)
        kind = "separable" if block.separable else "convolution"
        sizes = [block.filters, block.kernel, block.repeat, block.stride, block.dilation]
        rows.append(
            [f"{i} {kind}", *map(str, sizes), "yes" if block.residual else "no", f"{count_parameters(module):,}"]
        )
    n_labels = acoustic.network.n_labels
    rows.append(
        ["CTC head", f"{n_labels + 1}", "1", "1", "1", "1", "no", f"{count_parameters(acoustic.network.decoder):,}"]
    )
    rows.append(["total", *[""] * 6, f"{count_parameters(acoustic):,}"])
    return columns, rows


def count_parameters(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())
