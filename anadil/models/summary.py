"""Descriptions of a model: the table of its layers and parameters, its size in a few words."""

from __future__ import annotations

from torch import nn

from anadil.models.acoustic import AcousticModel, AnySettings
from anadil.models.conformer import Conformer, ConformerSettings
from anadil.models.hugging_face.network import WINDOW, FilterBank, HuggingFace, W2vBertSettings, Wav2Vec2Settings
from anadil.models.quartznet import DEFAULT_PRESET, QuartzNet


def layer_table(acoustic: AcousticModel) -> tuple[list[str], list[list[str]]]:
    """Columns and rows of the table that `anadil train` and `anadil convert` show.

    The rows are the features (window and hop in samples), one per block, the head (labels and blank) and the total.
    """
    columns = ["layer", "filters", "kernel", "repeat", "stride", "dilation", "residual", "parameters"]
    network = acoustic.network
    if isinstance(network, HuggingFace):
        rows = _hugging_face_rows(network)
    else:
        features = acoustic.feature_settings
        rows = [["log-mel", f"{features.mels}", f"{features.window_length}", "", f"{features.hop}", "", "", "0"]]
        rows += _conformer_rows(network) if isinstance(network, Conformer) else _quartznet_rows(network)
    n_labels = network.n_labels
    rows.append(["CTC head", f"{n_labels + 1}", "1", "1", "1", "1", "no", f"{count_parameters(network.decoder):,}"])
    rows.append(["total", *[""] * 6, f"{count_parameters(acoustic):,}"])
    return columns, rows


def describe_model(settings: AnySettings) -> str:
    """Family and size in a few words, such as "quartznet, small-2d"."""
    if isinstance(settings, Wav2Vec2Settings | W2vBertSettings):
        return f"{settings.kind}, {settings.num_hidden_layers} layers of {settings.hidden_size}"
    if isinstance(settings, ConformerSettings):
        return (
            f"{settings.kind}, {settings.n_layers} layers of {settings.d_model}, {settings.subsampling_factor}x stride"
        )
    size = f"{len(settings.blocks)} blocks" if settings.blocks is not None else settings.preset or DEFAULT_PRESET
    return f"{settings.kind}, {size}"


def count_parameters(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def _hugging_face_rows(network: HuggingFace) -> list[list[str]]:
    settings, encoder = network.settings, network.encoder
    width = str(settings.hidden_size)
    if isinstance(settings, Wav2Vec2Settings):
        rows = [["waveform", "1", "", "", "1", "", "", "0"]]
        sizes = zip(encoder.feature_extractor.conv_layers, settings.conv_kernel, settings.conv_stride, strict=True)
        for i, (layer, kernel, stride) in enumerate(sizes, start=1):
            numbers = [str(settings.conv_dim[i - 1]), f"{kernel}", "1", f"{stride}", "1"]
            rows.append([f"{i} convolution", *numbers, "no", f"{count_parameters(layer):,}"])
    else:
        features, hop = FilterBank(settings), str(settings.feature_stride)
        rows = [
            ["log-mel", f"{settings.feature_projection_input_dim}", f"{WINDOW}", hop, f"{features.hop}", "", "", "0"]
        ]
    rows += [
        [f"{i} {settings.kind}", width, "", "", "1", "1", "yes", f"{count_parameters(layer):,}"]
        for i, layer in enumerate(encoder.encoder.layers, start=1)
    ]
    rest = count_parameters(encoder) - sum(int(row[-1].replace(",", "")) for row in rows)
    stride = 1 if isinstance(settings, Wav2Vec2Settings) else settings.stride
    rows.append(["projection, positions, adapter", f"{settings.width}", "", "", f"{stride}", "", "no", f"{rest:,}"])
    return rows


def _quartznet_rows(network: QuartzNet) -> list[list[str]]:
    rows = []
    stem = network.encoder.stem
    if stem is not None:
        stride, size = str(2 ** len(stem.halvings)), f"{count_parameters(stem):,}"
        n_convs = str(len(stem.halvings) + len(stem.residual))
        rows.append(["2D stem", str(stem.width), "3", n_convs, stride, "1", "no", size])
    for i, (block, module) in enumerate(
        zip(network.settings.resolved_blocks, network.encoder.encoder.children(), strict=True), start=1
    ):
        kind = "separable" if block.separable else "convolution"
        sizes = [block.filters, block.kernel, block.repeat, block.stride, block.dilation]
        residual = "dense" if block.residual_dense else "yes" if block.residual else "no"
        rows.append([f"{i} {kind}", *map(str, sizes), residual, f"{count_parameters(module):,}"])
    rows += [
        [f"conditioning after {place}", str(n_out), "1", "1", "1", "1", "no", f"{count_parameters(module):,}"]
        for place, module in network.conditioning.items()
        for n_out in [network.settings.frames_in_each(int(place)) * (network.n_labels + 1)]
    ]
    return rows


def _conformer_rows(network: Conformer) -> list[list[str]]:
    settings, encoder = network.settings, network.encoder
    width = str(settings.d_model)
    stride = str(settings.subsampling_factor)
    size = f"{count_parameters(encoder.pre_encode):,}"
    rows = [[f"subsampling {settings.subsampling}", width, "3", "", stride, "", "no", size]]
    kernel = str(settings.conv_kernel_size)
    counted: set[int] = set()  # all layers may share their position biases
    for i, layer in enumerate(encoder.layers, start=1):
        parameters = [parameter for parameter in layer.parameters() if id(parameter) not in counted]
        counted.update(map(id, parameters))
        size = f"{sum(parameter.numel() for parameter in parameters):,}"
        rows.append([f"{i} {settings.kind}", width, kernel, "", "1", "1", "yes", size])
    for name, module in (("reduction", encoder.reduction_subsampling), ("projection", encoder.out_proj)):
        if module is not None:
            stride = str(settings.reduction_factor if name == "reduction" else 1)
            rows.append([name, str(settings.width), "", "", stride, "", "no", f"{count_parameters(module):,}"])
    return rows
