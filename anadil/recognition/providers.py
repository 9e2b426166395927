"""ONNX Runtime's execution providers by name: the one that was asked for if it works and agrees with the CPU, else the CPU."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from anadil.errors import AnadilError, shortened
from anadil.export.layout import INPUTS, OUTPUTS

CPU = "cpu"
PROVIDERS = {
    "cuda": "CUDAExecutionProvider",
    "tensorrt": "TensorrtExecutionProvider",
    "directml": "DmlExecutionProvider",
    "coreml": "CoreMLExecutionProvider",
    "openvino": "OpenVINOExecutionProvider",
    "xnnpack": "XnnpackExecutionProvider",
    CPU: "CPUExecutionProvider",
}
"""Names and ONNX Runtime's; `auto` takes the first one that this installation has, works and agrees."""

CHOICES = ("auto", *PROVIDERS)

_SURE = 0.5
"""Frames count in the comparison with the CPU if their best label is more probable than this there."""
_MAY_DIFFER = 0.02
"""Share of such frames whose best label may differ, in float16 or bfloat16."""


def open_with_provider(
    graph: Path, provider: str, sample_rate: int, warn: Callable[[str], None], threads: int | None = None
) -> tuple[Any, str]:
    """A session for `graph`, and the name of the provider that runs it.

    `provider` is a key of PROVIDERS, or auto. One that this installation lacks, that fails, or whose log-probs are not the
    CPU's is replaced by the CPU, with one warning. `threads`: of the CPU, by default one per core.
    Raises AnadilError for a name that is not known, or if the CPU fails.
    """
    import onnxruntime  # 0.1 s

    if provider not in CHOICES:
        raise AnadilError(
            f"provider {shortened(repr(provider))} is not known; known are {', '.join(CHOICES)}\n  next: choose one of them"
        )
    installed = onnxruntime.get_available_providers()
    cpu = _session(graph, CPU, threads)
    if provider == CPU:
        return cpu, CPU
    names = [name for name in PROVIDERS if name != CPU] if provider == "auto" else [provider]
    faults = []
    for name in names:
        if PROVIDERS[name] not in installed:
            if provider != "auto":
                faults.append(f"{name}: this installation of onnxruntime does not have it")
            continue
        try:
            session = _session(graph, name, threads)
            fault = _disagreement(session, cpu, sample_rate)
        except Exception as error:  # each provider raises classes of its own
            fault = f"{type(error).__name__}: {shortened(str(error), 200)}"
        if fault is None:
            return session, name
        faults.append(f"{name}: {fault}")
    if faults:
        warn(f"the model runs on the CPU: {'; '.join(faults)}")
    return cpu, CPU


def _session(graph: Path, name: str, threads: int | None) -> Any:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = threads or 0
    # threads that spin while they wait for each other take twice the processor time, from reading and decoding
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    wanted = [PROVIDERS[name]] if name == CPU else [PROVIDERS[name], PROVIDERS[CPU]]
    session = onnxruntime.InferenceSession(str(graph), options, providers=wanted)
    if session.get_providers()[0] != PROVIDERS[name]:  # ONNX Runtime falls back in silence
        raise RuntimeError("ONNX Runtime could not load it")
    return session


def _disagreement(session: Any, cpu: Any, sample_rate: int) -> str | None:
    """How the log-probs of a padded batch differ from the CPU's, or None: onnxruntime-openvino 1.24 returns frame counts of 0."""
    rng = np.random.default_rng(0)
    counts = np.array([2 * sample_rate, sample_rate], dtype=np.int64)
    loudness = 0.2 * np.square(np.sin(np.arange(counts[0]) * (8.0 / sample_rate)))
    waveforms = (rng.standard_normal((2, counts[0])) * loudness).clip(-1, 1).astype(np.float32)
    waveforms[1, counts[1] :] = 0
    inputs = dict(zip(INPUTS, (waveforms, counts), strict=True))
    expected, expected_counts = cpu.run(list(OUTPUTS), inputs)
    found, found_counts = session.run(list(OUTPUTS), inputs)
    if found.shape != expected.shape or found_counts.tolist() != expected_counts.tolist():
        return "it gives another number of frames than the CPU"
    rows = [(a[:n], b[:n]) for a, b, n in zip(expected, found, expected_counts, strict=True)]
    wanted, given = (np.concatenate([pair[i] for pair in rows]) for i in (0, 1))
    sure = wanted.max(axis=1) > np.log(_SURE)
    differ = (wanted.argmax(axis=1) != given.argmax(axis=1)) & sure
    if np.isnan(given).any() or differ.sum() > _MAY_DIFFER * max(sure.sum(), 1):
        return f"its log-probs are not the CPU's ({differ.sum():,} of {sure.sum():,} frames have another label)"
    return None
