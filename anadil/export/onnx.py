"""Export to ONNX: one graph that includes features, lengths and masks, and is only written if it agrees with PyTorch."""

from __future__ import annotations

import json
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import onnxruntime
import torch

from anadil.decoding.ctc import best_path
from anadil.decoding.language_model import SETTINGS as DECODER
from anadil.decoding.language_model import decoder_files
from anadil.errors import AnadilError
from anadil.export.card import Card, read_results, write_card
from anadil.export.gate import MAX_CER_INCREASE, Choice, Wish, choose_float16, choose_int8
from anadil.export.layout import CARD, CONFIG, INPUTS, MODEL, OUTPUTS, VOCABULARY, ExportedSettings, vocabulary
from anadil.export.other_runtimes import Layout, is_level_independent, write_onnx_asr, write_sherpa_onnx
from anadil.export.quantize import open_session
from anadil.export.speech import MIN_UTTERANCES, Speech, feed, read_speech
from anadil.files import refuse_overwrite, whole_folder
from anadil.models.acoustic import CARD as MODEL_CARD
from anadil.models.acoustic import CONFIG as FOLDER_CONFIG
from anadil.models.acoustic import WEIGHTS, AcousticModel, LoadedModel
from anadil.models.pretrained import read_model
from anadil.settings import read_yaml
from anadil.text.tokenizer import MODEL as TOKENIZER

_OPSET = 18
_TOLERANCE = 1e-3
"""Largest allowed difference of a log-prob between ONNX Runtime and PyTorch."""


_LENGTHS_S = (0.1, 0.5, 2.0, 7.0, 20.0, 60.0)
"""Lengths of real speech at which a graph is compared with PyTorch."""


@dataclass(frozen=True)
class ExportOptions:
    """What `anadil export` may be asked for beside a float graph for Anadil itself."""

    int8: Wish = "never"
    calibrate: Path | None = None  # manifest: calibrates int8, and errors are counted on it
    max_cer_increase: float = MAX_CER_INCREASE  # percentage points
    float16: bool = False
    layout: Layout = "anadil"
    results: tuple[Path, ...] = ()  # figures of `anadil evaluate --json`, for the card
    training: tuple[str, ...] = ()  # training manifests, for the card; `export_folder` finds them in the model's config

    def check(self) -> None:
        """Raise AnadilError if these options cannot be had together."""
        if self.int8 != "never" and self.calibrate is None:
            raise AnadilError(
                f"--int8 {self.int8} needs speech to calibrate on and to count errors\n"
                "  next: add --calibrate MANIFEST, such as the validation data: --calibrate valid.jsonl"
            )
        if self.float16 and self.calibrate is None:
            raise AnadilError(
                "--fp16 needs speech to count errors on\n  next: add --calibrate MANIFEST, such as the validation data"
            )
        if self.float16 and self.int8 != "never":
            raise AnadilError("--fp16 is for GPUs and --int8 for CPUs\n  next: export twice, each into its own --out")
        if self.layout == "onnx-asr" and (self.float16 or self.int8 != "never"):
            raise AnadilError(
                "--layout onnx-asr is written as float only: its graph begins at the features\n  next: omit --int8 and --fp16"
            )


@dataclass(frozen=True)
class Exported:
    """What was written."""

    difference: float  # the largest one of a log-prob between ONNX Runtime (float) and PyTorch
    batch_difference: float  # the largest one of ONNX Runtime between a padded batch and alone
    n_utterances: int  # of the speech that it was compared on
    choice: Choice | None  # of float, int8 or float16


def export_model(
    model: LoadedModel,
    out: Path,
    card: str = "",
    force: bool = False,
    decoder: Mapping[str, bytes] | None = None,
    options: ExportOptions | None = None,
    say: Callable[[str], None] = lambda text: None,
) -> Exported:
    """Write the exported folder, with the files of `decoder` if given. `say` gets a line per step of a long export.

    Raises AnadilError, and writes nothing, if `out` exists, if ONNX Runtime disagrees with PyTorch, or if the options or
    their speech cannot be used.
    """
    refuse_overwrite(out, force)
    options = options or ExportOptions()
    options.check()
    acoustic = model.acoustic.eval()
    results = read_results(options.results)
    at_least = 1 if options.int8 == "never" and not options.float16 else MIN_UTTERANCES
    speech = read_speech(options.calibrate, model.rules, acoustic.sample_rate, at_least) if options.calibrate else None
    settings = _settings(model)
    with whole_folder(out) as beside:
        trace(acoustic, beside / MODEL)
        difference = verify(acoustic, beside / MODEL, speech)
        batch_difference = compare_batch(beside / MODEL, acoustic)
        choice = None
        if speech is not None and options.int8 != "never":
            allowed = options.max_cer_increase / 100
            choice = choose_int8(beside / MODEL, settings, model.rules, speech, options.int8, allowed, say)
        elif speech is not None and options.float16:
            choice = choose_float16(beside / MODEL, settings, model.rules, speech, options.max_cer_increase / 100)
        if choice is not None:
            settings = settings.model_copy(update={"precision": choice.kept.precision})
        exported = Exported(difference, batch_difference, len(speech.utterances) if speech else 0, choice)
        speed = choice.kept.speed if choice else noise_speed(beside / MODEL, acoustic)
        described = Card(
            card,
            settings,
            difference,
            batch_difference,
            speed,
            choice,
            results,
            options.training,
            options.layout,
            any(name != DECODER for name in decoder or {}),
        )
        if options.layout == "anadil":
            _write_files(beside, settings, model, decoder or {})
        elif options.layout == "sherpa-onnx":
            write_sherpa_onnx(beside, settings, is_level_independent(acoustic))
        else:
            write_onnx_asr(beside, settings, acoustic)
        (beside / CARD).write_text(write_card(described, beside), encoding="utf-8")
    return exported


def _settings(model: LoadedModel) -> ExportedSettings:
    acoustic = model.acoustic
    return ExportedSettings(
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


def _write_files(folder: Path, settings: ExportedSettings, model: LoadedModel, decoder: Mapping[str, bytes]) -> None:
    """Write all files of an exported folder but the graph and the card."""
    omitted = {name for name in ("subwords", "precision") if getattr(settings, name) in (False, "float32")}
    data = settings.model_dump(exclude=omitted)  # without them earlier versions can read the folder
    (folder / CONFIG).write_text(json.dumps(data, ensure_ascii=False, indent=1), encoding="utf-8")
    if model.rules.subwords:
        (folder / TOKENIZER).write_bytes(model.rules.subwords)
    for name, content in decoder.items():
        (folder / name).write_bytes(content)
    (folder / VOCABULARY).write_text(vocabulary(settings.labels), encoding="utf-8")


def export_folder(
    folder: Path,
    out: Path,
    force: bool = False,
    options: ExportOptions | None = None,
    say: Callable[[str], None] = lambda text: None,
) -> Exported:
    """Export a model folder with its card and LM, a NeMo archive, or a folder of transformers; returns as `export_model`.

    Raises AnadilError as `export_model`, and if there is no model.
    """
    refuse_overwrite(out, force)
    if options is not None:
        options.check()
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
        training = (read_yaml(folder / FOLDER_CONFIG).get("data") or {}).get("train")
        manifests = tuple(map(str, training)) if isinstance(training, list) else ()
        options = replace(options or ExportOptions(), training=manifests)
    decoder = decoder_files(folder, model.loaded.rules.labels)
    return export_model(model.loaded, out, card, force, decoder, options, say)


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


def verify(acoustic: AcousticModel, path: Path, speech: Speech | None = None) -> float:
    """The largest difference of a log-prob from PyTorch, over noise and, if given, real speech of 0.1 to 60 s.

    Padded batches and single files. Raises AnadilError if it is above 1e-3, if frame counts differ, or if a greedy text of the
    speech differs.
    """
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    largest = 0.0
    for waveforms, counts in _probes(acoustic, speech):
        log_probs, frame_counts = session.run(list(OUTPUTS), dict(zip(INPUTS, (waveforms, counts), strict=True)))
        with torch.no_grad():
            expected, expected_counts = acoustic(torch.from_numpy(waveforms), torch.from_numpy(counts))
        if frame_counts.tolist() != expected_counts.tolist():
            raise _disagreement(f"frame counts {frame_counts.tolist()}, expected {expected_counts.tolist()}")
        for row, expected_row, count in zip(log_probs, expected.numpy(), frame_counts, strict=True):
            difference = np.abs(row[:count] - expected_row[:count]).max(initial=0.0)
            largest = float(np.maximum(largest, difference))  # unlike max(), it keeps NaN
            if largest <= _TOLERANCE and not _same_text(row[:count], expected_row[:count]):
                raise _disagreement(f"another greedy text for {counts.max() / acoustic.sample_rate:.1f} s of audio")
    if not largest <= _TOLERANCE:  # `not <=`, so that NaN is refused too
        raise _disagreement(f"log-probs differ by {largest:.2g}, allowed is {_TOLERANCE:g}")
    return largest


def _probes(acoustic: AcousticModel, speech: Speech | None) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Inputs of the graph to compare with PyTorch on."""
    for seed, durations in enumerate(([2.0, 0.3, 5.1], [3.3], [0.05], [0.1], [0.4] * 5, [11.7, 1.0], [60.0])):
        yield probe_batch(acoustic.sample_rate, durations, seed)
    if speech is None:
        return
    rate, recording = acoustic.sample_rate, np.concatenate(speech.waveforms)
    recording = np.tile(
        recording, 1 + int(_LENGTHS_S[-1] * rate) // len(recording)
    )  # a small manifest has less than 60 s
    stretches = [recording[: round(length * rate)] for length in _LENGTHS_S]
    for one in (*([stretch] for stretch in stretches), stretches[:4]):
        inputs = feed(one, acoustic.min_samples)
        yield inputs[INPUTS[0]], inputs[INPUTS[1]]


def _same_text(found: np.ndarray, expected: np.ndarray) -> bool:
    """Whether the best paths are the same, but for frames where two labels are equally likely within the tolerance."""
    chosen = found.argmax(axis=1)
    blank = found.shape[1] - 1
    if [token.id for token in best_path(found, blank)] == [token.id for token in best_path(expected, blank)]:
        return True
    lost = expected.max(axis=1) - np.take_along_axis(expected, chosen[:, None], axis=1)[:, 0]
    return bool((lost <= 2 * _TOLERANCE).all())


def noise_speed(path: Path, acoustic: AcousticModel) -> float:
    """Seconds of noise per second of processor time on one core, the best of three runs."""
    session, best = open_session(path), float("inf")
    waveforms, counts = probe_batch(acoustic.sample_rate, [10.0])
    for _ in range(3):
        started = time.process_time()
        session.run(list(OUTPUTS), dict(zip(INPUTS, (waveforms, counts), strict=True)))
        best = min(best, time.process_time() - started)
    return 10.0 / best


def compare_batch(path: Path, acoustic: AcousticModel) -> float:
    """The largest difference of a log-prob of ONNX Runtime between a padded batch and each utterance alone."""
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    waveforms, counts = probe_batch(acoustic.sample_rate, [1.5, 0.4, 0.9], seed=9)
    together, frame_counts = session.run(list(OUTPUTS), dict(zip(INPUTS, (waveforms, counts), strict=True)))
    largest = 0.0
    for row, waveform, count, n in zip(together, waveforms, counts, frame_counts, strict=True):
        (alone,), _ = session.run(
            list(OUTPUTS), dict(zip(INPUTS, (waveform[None, :count], np.array([count])), strict=True))
        )
        largest = max(largest, float(np.abs(row[:n] - alone[:n]).max(initial=0.0)))
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
