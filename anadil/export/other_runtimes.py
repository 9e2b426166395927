"""The same model for other runtimes: sherpa-onnx and onnx-asr, whose own packages load what is written here.

sherpa-onnx takes waveforms in its loader of Omnilingual models; there the whole graph fits behind a new input. onnx-asr
0.12 computes features itself, of 80 or 128 mel bands as NeMo's; there the graph begins at the features.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor, nn

from anadil.errors import AnadilError
from anadil.export.layout import CONFIG, INPUTS, MODEL, OUTPUTS, VOCABULARY, ExportedSettings, vocabulary
from anadil.export.quantize import open_session
from anadil.models.acoustic import AcousticModel
from anadil.models.features import FeatureSettings, LogMel

Layout = Literal["anadil", "sherpa-onnx", "onnx-asr"]
LAYOUTS = ("anadil", "sherpa-onnx", "onnx-asr")

TOKENS = "tokens.txt"
"""The labels in a sherpa-onnx folder; the format is that of vocab.txt."""

_SHERPA_RATE = 16_000
_SHERPA_RMS = 0.1
"""sherpa-onnx scales each recording to mean 0 and variance 1. Speech has an RMS of about 0.1, the level of training."""

_NEMO_FEATURES = FeatureSettings(window_size=0.025, mels=80)
_ONNX_ASR_MELS = (80, 128)
_OPSET = 18


def is_level_independent(acoustic: AcousticModel) -> bool:
    """Whether louder audio gives the same features, but for what lies below the smallest power that they know."""
    if isinstance(acoustic.features, LogMel):
        return acoustic.feature_settings.normalize != "none" and acoustic.feature_settings.log
    return getattr(acoustic.features, "normalize", True) is True


def write_sherpa_onnx(folder: Path, settings: ExportedSettings, is_level_independent: bool) -> None:
    """Change the graph in `folder` to what sherpa-onnx's Omnilingual loader takes, and write tokens.txt.

    Input `x` (1, samples), output `log_probs` (1, frames, labels + blank). Raises AnadilError if the sample rate is not
    16 kHz, or if the model's features depend on the level of the audio, which sherpa-onnx changes.
    """
    if settings.sample_rate != _SHERPA_RATE:
        raise AnadilError(
            f"--layout sherpa-onnx: this model takes {settings.sample_rate:,} Hz, and sherpa-onnx passes waveforms of "
            f"{_SHERPA_RATE:,} Hz alone\n  next: export with --layout anadil"
        )
    if not is_level_independent:
        raise AnadilError(
            "--layout sherpa-onnx: sherpa-onnx scales each recording to variance 1, and this model's features are not "
            "normalised, so its text would change\n  next: export with --layout anadil"
        )
    model = onnx.load(str(folder / MODEL))
    _take_one_waveform(model, settings)
    onnx.checker.check_model(model)
    before = open_session(folder / MODEL)
    onnx.save(model, str(folder / MODEL))
    _require_same(before, open_session(folder / MODEL), settings)
    (folder / TOKENS).write_text(vocabulary(settings.labels), encoding="utf-8")


def _take_one_waveform(model: Any, settings: ExportedSettings) -> None:
    """Replace the graph's inputs by one waveform of any length, and its outputs by the log-probs of its frames."""
    graph = model.graph
    waveforms, counts = INPUTS
    log_probs, frame_counts = OUTPUTS
    for node in graph.node:
        for names in (node.input, node.output):
            for i, name in enumerate(names):
                if name == log_probs:
                    names[i] = "all_log_probs"

    def constant(name: str, value: np.ndarray) -> str:
        graph.initializer.append(numpy_helper.from_array(value, f"sherpa_{name}"))
        return f"sherpa_{name}"

    one, zero = constant("one", np.array([1], np.int64)), constant("zero", np.array([0], np.int64))
    least = constant("least", np.array([settings.min_samples], np.int64))
    before = [
        helper.make_node("Mul", ["x", constant("rms", np.array(_SHERPA_RMS, np.float32))], ["sherpa_x"]),
        helper.make_node("Pad", ["sherpa_x", constant("pads", np.array([0, 0, 0, settings.min_samples]))], [waveforms]),
        helper.make_node("Shape", ["x"], ["sherpa_shape"]),
        helper.make_node("Slice", ["sherpa_shape", zero, one], ["sherpa_batch"]),
        helper.make_node("Slice", ["sherpa_shape", one, constant("two", np.array([2], np.int64))], ["sherpa_n"]),
        helper.make_node("Max", ["sherpa_n", least], ["sherpa_count"]),
        helper.make_node("Expand", ["sherpa_count", "sherpa_batch"], [counts]),
    ]
    after = [
        helper.make_node("ReduceMax", [frame_counts], ["sherpa_frames"], keepdims=1),
        helper.make_node("Slice", ["all_log_probs", zero, "sherpa_frames", one], [log_probs]),
    ]
    nodes = [*before, *graph.node, *after]
    for name, new in (("node", nodes), ("input", [_tensor("x", ["batch", "samples"])])):
        del getattr(graph, name)[:]
        getattr(graph, name).extend(new)
    del graph.output[:]
    graph.output.append(_tensor(log_probs, ["batch", "frames", len(settings.labels) + 1]))
    del graph.value_info[:]


def _tensor(name: str, shape: list[str | int]) -> Any:
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)


def _require_same(before: Any, after: Any, settings: ExportedSettings) -> None:
    """Raise AnadilError unless both graphs give the same log-probs for one waveform."""
    rng = np.random.default_rng(0)
    for n in (settings.min_samples // 2, 3 * settings.sample_rate + 7):
        x = rng.standard_normal((1, n)).astype(np.float32)
        counts = np.array([max(n, settings.min_samples)], np.int64)
        waveform = np.zeros((1, int(counts[0])), np.float32)
        waveform[:, :n] = _SHERPA_RMS * x
        expected, frames = before.run(list(OUTPUTS), dict(zip(INPUTS, (waveform, counts), strict=True)))
        (found,) = after.run([OUTPUTS[0]], {"x": x})
        if found.shape[1] != frames[0] or not np.abs(found - expected[:, : frames[0]]).max(initial=0.0) <= 1e-3:
            raise AnadilError(
                "the graph for sherpa-onnx disagrees with Anadil's; nothing was written\n  next: report this"
            )


class _Network(nn.Module):
    """The network alone: features (batch, mels, frames) and their frame counts to log-probs."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, audio_signal: Tensor, length: Tensor) -> Tensor:
        log_probs: Tensor = self.network(audio_signal, length)[0]
        return log_probs


def write_onnx_asr(folder: Path, settings: ExportedSettings, acoustic: AcousticModel) -> None:
    """Replace the graph in `folder` by the network alone, as onnx-asr's `nemo-conformer-ctc` loads it.

    Raises AnadilError if the model's features are not those that onnx-asr computes, or if the graph disagrees with PyTorch.
    """
    require_onnx_asr_features(acoustic)
    network, stride = acoustic.network, int(acoustic.network.settings.stride)
    _require_frames(acoustic.network.frame_count, stride)
    mels = acoustic.feature_settings.mels
    features, counts = torch.randn(2, mels, 120), torch.tensor([120, 83])
    frames = {0: "batch", 2: "frames"}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            _Network(network).eval(),
            (features, counts),
            str(folder / MODEL),
            input_names=["audio_signal", "length"],
            output_names=["logprobs"],
            dynamic_axes={"audio_signal": frames, "length": {0: "batch"}, "logprobs": {0: "batch", 1: "frames"}},
            opset_version=_OPSET,
            dynamo=False,
        )
    session = open_session(folder / MODEL)
    for n in (41, 500, 2000):
        features, counts = torch.randn(2, mels, n), torch.tensor([n, n // 2])
        (found,) = session.run(["logprobs"], {"audio_signal": features.numpy(), "length": counts.numpy()})
        with torch.no_grad():
            expected, frame_counts = network(features, counts)
        for row, wanted, count in zip(found, expected.numpy(), frame_counts, strict=True):
            if not np.abs(row[:count] - wanted[:count]).max(initial=0.0) <= 1e-3:
                raise AnadilError(
                    "the graph for onnx-asr disagrees with PyTorch; nothing was written\n  next: report this"
                )
    config = {"model_type": "nemo-conformer-ctc", "features_size": mels, "subsampling_factor": stride}
    (folder / CONFIG).write_text(json.dumps(config, indent=1), encoding="utf-8")
    (folder / VOCABULARY).write_text(vocabulary(settings.labels), encoding="utf-8")


def require_onnx_asr_features(acoustic: AcousticModel) -> None:
    """Raise AnadilError that lists how the model's features differ from those that onnx-asr 0.12 computes."""
    wanted = _NEMO_FEATURES.model_copy(update={"mels": acoustic.feature_settings.mels})
    found = acoustic.feature_settings
    ignored = {"dither", "pad_to", "exact_pad", "mels", "n_fft", "high_hz"}  # of training, or compared below
    differ = [
        f"{name} {getattr(found, name)} (onnx-asr: {getattr(wanted, name)})"
        for name in FeatureSettings.model_fields
        if name not in ignored and getattr(found, name) != getattr(wanted, name)
    ]
    if found.mels not in _ONNX_ASR_MELS:
        differ.insert(0, f"mels {found.mels} (onnx-asr: 80 or 128)")
    if found.fft_size != wanted.fft_size:
        differ.append(f"n_fft {found.fft_size} (onnx-asr: {wanted.fft_size})")
    if found.high_hz not in (None, wanted.sample_rate / 2):
        differ.append(f"high_hz {found.high_hz} (onnx-asr: 8000)")
    if not isinstance(acoustic.features, LogMel):
        differ = ["it computes the features of Hugging Face"]
    if differ:
        raise AnadilError(
            "--layout onnx-asr: onnx-asr 0.12 computes NeMo's features itself, and cannot compute this model's: "
            f"{', '.join(differ)}\n  next: use --layout sherpa-onnx or anadil, or train with features.mels=80 "
            "features.window_size=0.025"
        )


def _require_frames(frame_count: Callable[[int], int], stride: int) -> None:
    """Raise AnadilError if onnx-asr's formula gives more output frames than the network has."""
    for n in range(1, 3000):
        if (n - 1) // stride + 1 > frame_count(n):
            raise AnadilError(
                f"--layout onnx-asr: {n} feature frames give {frame_count(n)} output frames, and onnx-asr expects "
                f"{(n - 1) // stride + 1}\n  next: use --layout sherpa-onnx or anadil"
            )
