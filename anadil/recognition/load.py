"""Loading a recogniser: the kind of a MODEL is read from its contents, never from its name."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np

from anadil.decoding.language_model import read_language_model, read_weights
from anadil.errors import AnadilError, shortened
from anadil.export import layout
from anadil.files import recover_folder
from anadil.models.hugging_face.vocabulary import is_hugging_face
from anadil.recognition.providers import CPU, OPENVINO, open_on_cpu, with_provider
from anadil.recognition.recognizer import Recognizer

WEIGHTS, CONFIG = "model.safetensors", "config.yaml"  # of a model folder; anadil.models needs PyTorch to be imported


def load(
    path: str | Path,
    lm: bool = True,
    provider: str = CPU,
    warn: Callable[[str], None] = warnings.warn,
    threads: int | None = None,
) -> Recognizer:
    """Load an exported folder (ONNX Runtime), a model folder, a NeMo archive or a folder of transformers (PyTorch).

    `lm`: with the language model that the folder holds, if it holds one. `provider`: what runs an exported folder, a name of
    recognition/providers.py or auto; `warn` gets the reason if the CPU runs it instead. `threads`: of
    the network, by default one per core. Raises AnadilError if it is none of
    these, or if another provider than the CPU is asked for a model that is no exported folder.
    """
    folder = Path(path)
    recover_folder(folder)
    if (folder / layout.MODEL).is_file() and (folder / layout.CONFIG).is_file():
        recognizer = _load_exported(folder, provider, warn, threads)
    elif _is_model_folder(folder) or folder.is_file():
        if provider not in (CPU, "auto"):
            raise AnadilError(
                f"provider {provider} is for exported folders, and {folder} is none\n"
                f"  next: anadil export {folder} --out DIR, then use DIR"
            )
        recognizer = _load_with_pytorch(folder, threads)
    else:
        raise AnadilError(_not_a_model(folder))
    weights = read_weights(folder)
    return replace(
        recognizer,
        lm=read_language_model(folder, recognizer.rules.labels) if lm else None,
        greedy_confidence=weights.greedy_confidence if weights else None,
    )


def _is_model_folder(path: Path) -> bool:
    """Whether `path` is a model that needs PyTorch."""
    ours = (path / WEIGHTS).is_file() and (path / CONFIG).is_file()
    return ours or path.is_file() or (is_hugging_face(path) and not (path / layout.MODEL).is_file())


def _load_exported(folder: Path, provider: str, warn: Callable[[str], None], threads: int | None) -> Recognizer:
    if layout.is_onnx_asr(folder):
        raise AnadilError(_of_another_runtime(folder, "onnx-asr"))
    settings, where = layout.read_settings(folder), str(folder / layout.MODEL)
    rules = layout.read_rules(folder, settings)
    try:
        cpu = open_on_cpu(folder / layout.MODEL, threads)
    except Exception as error:  # onnxruntime raises a dozen classes of its own
        raise AnadilError(
            f"{where}: ONNX Runtime cannot read it: {shortened(str(error), 300)}\n  next: export the model again"
        ) from error

    layout.check_graph(cpu.get_inputs(), cpu.get_outputs(), len(settings.labels), where)
    session, used = with_provider(cpu, folder / layout.MODEL, provider, settings.sample_rate, warn, threads)

    def log_probs(waveforms: np.ndarray, counts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        try:
            found, frame_counts = session.run(
                list(layout.OUTPUTS), dict(zip(layout.INPUTS, (waveforms, counts), strict=True))
            )
        except Exception as error:
            runtime = "OpenVINO" if used == OPENVINO else "ONNX Runtime"
            raise AnadilError(
                f"{where}: {runtime} cannot run it: {shortened(str(error), 300)}\n  next: export the model again"
            ) from error
        layout.check_result(found, frame_counts, counts, settings, where)
        return found, frame_counts

    return Recognizer(
        settings.name,
        rules,
        settings.sample_rate,
        settings.frame_s,
        settings.min_samples,
        log_probs,
        pauses=settings.pauses,
        provider=used,
    )


def _load_with_pytorch(path: Path, threads: int | None) -> Recognizer:
    try:
        import torch

        from anadil.models.pretrained import read_model
    except ImportError as error:
        raise AnadilError(
            f"{path} is a model {'folder' if path.is_dir() else 'file'}, which needs PyTorch ({error})\n"
            "  next: pip install 'anadil[train]', or use the exported folder (anadil export)"
        ) from error
    found = read_model(path)
    if found is None:
        raise AnadilError(_not_a_model(path))
    if not found.has_head:
        raise AnadilError(
            f"{path} has no CTC head, so it cannot recognise speech yet\n  next: anadil train with init.from={path}"
        )
    model, acoustic = found.loaded, found.loaded.acoustic
    if threads:
        torch.set_num_threads(threads)

    def log_probs(waveforms: np.ndarray, counts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        with torch.inference_mode():
            found, frame_counts = acoustic(torch.from_numpy(waveforms), torch.from_numpy(counts))
        return found.numpy(), frame_counts.numpy()

    return Recognizer(
        model.name,
        model.rules,
        acoustic.sample_rate,
        acoustic.frame_s,
        acoustic.min_samples,
        log_probs,
        pauses=model.pauses,
    )


def refuse_other_folders(path: Path) -> None:
    """Raise AnadilError if `path` is no model, by the files that are there; nothing is loaded."""
    recover_folder(path)
    if not ((path / layout.MODEL).is_file() and (path / layout.CONFIG).is_file()) and not _is_model_folder(path):
        raise AnadilError(_not_a_model(path))


def _not_a_model(folder: Path) -> str:
    if not folder.exists():
        return f"model not found: {folder}\n  next: check the path, or train one: anadil train CONFIG --out RUN"
    inside = [name for name in ("best", "last") if (folder / name / WEIGHTS).is_file()]
    if inside:
        return f"{folder} is a run, not a model\n  next: use {folder / inside[0]}"
    if folder.is_file():
        return (
            f"{folder} is no model: it is neither a NeMo archive (a tar with model_config.yaml), nor a PyTorch checkpoint, nor a "
            ".hama\n"
            "  next: give a .nemo file, a model folder or an exported folder"
        )
    if (folder / layout.MODEL).is_file() and (folder / "tokens.txt").is_file():
        return _of_another_runtime(folder, "sherpa-onnx")
    return (
        f"{folder} is no model: looked for {layout.MODEL} with {layout.CONFIG} (exported folder) and for {WEIGHTS} with "
        f"{CONFIG} (model folder)\n  next: anadil train CONFIG --out RUN writes RUN/best, anadil export RUN/best --out DIR"
    )


def _of_another_runtime(folder: Path, name: str) -> str:
    return f"{folder} is an export for {name}\n  next: load it with {name}, or export the model with --layout anadil"
