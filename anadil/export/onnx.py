"""Export to ONNX: one graph that includes features, lengths and masks, and is only written if it agrees with PyTorch."""

from __future__ import annotations

import json
import warnings
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import onnxruntime
import torch

from anadil.decoding.language_model import decoder_files
from anadil.errors import AnadilError
from anadil.export.layout import CARD, CONFIG, INPUTS, MODEL, OUTPUTS, VOCABULARY, ExportedSettings, vocabulary
from anadil.files import refuse_overwrite, whole_folder
from anadil.models.acoustic import CARD as MODEL_CARD
from anadil.models.acoustic import CONFIG as FOLDER_CONFIG
from anadil.models.acoustic import WEIGHTS, AcousticModel, LoadedModel
from anadil.models.pretrained import read_model
from anadil.text.tokenizer import MODEL as TOKENIZER

_OPSET = 18
_TOLERANCE = 1e-3
"""Largest allowed difference of a log-prob between ONNX Runtime and PyTorch."""


def export_model(
    model: LoadedModel, out: Path, card: str = "", force: bool = False, decoder: Mapping[str, bytes] | None = None
) -> float:
    """Write the exported folder, with the files of `decoder`, and return the largest difference of a log-prob from PyTorch.

    Raises AnadilError, and writes nothing, if `out` exists or if ONNX Runtime disagrees with PyTorch.
    """
    refuse_overwrite(out, force)
    acoustic = model.acoustic.eval()
    settings = ExportedSettings(
        name=model.name,
        language=model.rules.language,
        sample_rate=acoustic.sample_rate,
        frame_s=acoustic.frame_s,
        min_samples=acoustic.min_samples,
        labels=list(model.rules.labels),
        text=model.rules.to_dict(),
        subwords=bool(model.rules.subwords),
        longest_pause_s=model.pauses.longest_s,
        pause_margin_s=model.pauses.margin_s,
    )
    with whole_folder(out) as beside:
        trace(acoustic, beside / MODEL)
        difference = verify(acoustic, beside / MODEL)
        data = settings.model_dump(exclude=None if settings.subwords else {"subwords"})
        (beside / CONFIG).write_text(json.dumps(data, ensure_ascii=False, indent=1), encoding="utf-8")
        if model.rules.subwords:
            (beside / TOKENIZER).write_bytes(model.rules.subwords)
        for name, content in (decoder or {}).items():
            (beside / name).write_bytes(content)
        (beside / VOCABULARY).write_text(vocabulary(settings.labels), encoding="utf-8")
        (beside / CARD).write_text(card + _usage(settings, difference), encoding="utf-8")
    return difference


def export_folder(folder: Path, out: Path, force: bool = False) -> float:
    """Export a model folder with its card and LM, a NeMo archive, or a folder of transformers; returns as `export_model`.

    Raises AnadilError as `export_model`, and if there is no model.
    """
    refuse_overwrite(out, force)
    model = read_model(folder)
    if model is None or not model.has_head:
        raise AnadilError(
            f"{folder} is no model folder (with {WEIGHTS} and {FOLDER_CONFIG}), no NeMo archive, and no model of Hugging "
            "Face with a CTC head\n  next: give one of these, such as RUN/best"
        )
    card = ""
    if model.source is not None:
        card = f"# {model.loaded.name}\n\nConverted from {model.source}.\n"
    elif (folder / MODEL_CARD).is_file():
        card = (folder / MODEL_CARD).read_text(encoding="utf-8")
    return export_model(model.loaded, out, card, force, decoder_files(folder, model.loaded.rules.labels))


def trace(acoustic: AcousticModel, path: Path) -> None:
    """Write the graph, whose numbers of utterances, samples and frames are dynamic.

    PyTorch's tracing exporter takes 0.5 s for the small preset. The newer one (dynamo=True) takes 14 s and needs two more
    dependencies, for graphs that are equally fast. `verify` notices if tracing has fixed a size in the graph.
    """
    waveforms, counts = probe_batch(acoustic.sample_rate, [1.0, 0.7])
    batch = {0: "batch"}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            acoustic,
            (torch.from_numpy(waveforms), torch.from_numpy(counts)),
            str(path),
            input_names=list(INPUTS),
            output_names=list(OUTPUTS),
            dynamic_axes={
                "waveforms": batch | {1: "samples"},
                "sample_counts": batch,
                "log_probs": batch | {1: "frames"},
                "frame_counts": batch,
            },
            opset_version=_OPSET,
            dynamo=False,
        )


def verify(acoustic: AcousticModel, path: Path) -> float:
    """The largest difference of a log-prob from PyTorch, over padded batches and single files.

    Raises AnadilError if it is above 1e-3, or if frame counts differ.
    """
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    largest = 0.0
    for seed, durations in enumerate(([2.0, 0.3, 5.1], [3.3], [0.05], [0.4] * 5, [11.7, 1.0])):
        waveforms, counts = probe_batch(acoustic.sample_rate, durations, seed)
        log_probs, frame_counts = session.run(list(OUTPUTS), dict(zip(INPUTS, (waveforms, counts), strict=True)))
        with torch.no_grad():
            expected, expected_counts = acoustic(torch.from_numpy(waveforms), torch.from_numpy(counts))
        if frame_counts.tolist() != expected_counts.tolist():
            raise _disagreement(f"frame counts {frame_counts.tolist()}, expected {expected_counts.tolist()}")
        for row, expected_row, count in zip(log_probs, expected.numpy(), frame_counts, strict=True):
            difference = np.abs(row[:count] - expected_row[:count]).max(initial=0.0)
            largest = float(np.maximum(largest, difference))  # unlike max(), it keeps NaN
    if not largest <= _TOLERANCE:  # `not <=`, so that NaN is refused too
        raise _disagreement(f"log-probs differ by {largest:.2g}, allowed is {_TOLERANCE:g}")
    return largest


def probe_batch(sample_rate: int, durations_s: list[float], seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Padded noise whose loudness rises and falls as in syllables: float32 (batch, samples) and int64 counts (batch,)."""
    rng = np.random.default_rng(seed)
    counts = np.array([round(duration * sample_rate) for duration in durations_s], dtype=np.int64)
    time = np.arange(counts.max()) / sample_rate
    loudness = 0.2 * (0.02 + np.square(np.sin(2 * np.pi * 2.5 * time)))
    waveforms = (rng.standard_normal((len(counts), len(time))) * loudness).clip(-1, 1)
    return (waveforms * (np.arange(len(time)) < counts[:, None])).astype(np.float32), counts


def _disagreement(what: str) -> AnadilError:
    return AnadilError(
        f"the exported graph disagrees with PyTorch: {what}; nothing was written\n  next: report this with the config"
    )


def _usage(settings: ExportedSettings, difference: float) -> str:
    return f"""
## Exported

`model.onnx` computes, from waveforms (float32, batch x samples, {settings.sample_rate} Hz, mono, [-1, 1]) and sample
counts (int64, batch), natural log-probs (float32, batch x frames x {len(settings.labels) + 1}, the blank last, a frame
every {1000 * settings.frame_s:g} ms) and frame counts (int64, batch). Its log-probs differ from PyTorch's by at most
{difference:.1e}.

    anadil transcribe . recording.wav
"""
