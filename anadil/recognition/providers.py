"""What runs a graph, by name: ONNX Runtime's execution providers, and OpenVINO.

The one that was asked for computes if it works and agrees with ONNX Runtime on the CPU; otherwise the CPU does.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from anadil.errors import AnadilError, shortened
from anadil.export.layout import INPUTS, OUTPUTS

CPU = "cpu"
OPENVINO = "openvino"
PROVIDERS = {
    "cuda": "CUDAExecutionProvider",
    "tensorrt": "TensorrtExecutionProvider",
    "directml": "DmlExecutionProvider",
    "coreml": "CoreMLExecutionProvider",
    OPENVINO: None,  # the package openvino itself: ONNX Runtime's provider for it returns frame counts of 0 (1.24)
    "xnnpack": "XnnpackExecutionProvider",
    CPU: "CPUExecutionProvider",
}
"""Names and ONNX Runtime's; `auto` takes the first one that this installation has, works and agrees."""

CHOICES = ("auto", *PROVIDERS)

_SURE = 0.5
"""Frames count in the comparison with the CPU if their best label is more probable than this there."""
_MAY_DIFFER = 0.02
"""Share of such frames whose best label may differ, in float16 or bfloat16."""


_STEP_S = 0.5
"""OpenVINO prepares its kernels for each new shape of a batch, which takes longer than a batch: lengths are multiples of this."""


def open_on_cpu(graph: Path, threads: int | None = None) -> Any:
    """ONNX Runtime's session for `graph` on the CPU. `threads`: by default one per core."""
    return _session(graph, CPU, threads)


def with_provider(
    cpu: Any, graph: Path, provider: str, sample_rate: int, warn: Callable[[str], None], threads: int | None = None
) -> tuple[Any, str]:
    """What runs `graph`, with a session's method `run`, and its name.

    `cpu` is the session of `open_on_cpu`; `provider` is a key of PROVIDERS, or auto. One that this installation lacks, that
    fails, or whose log-probs are not the CPU's is replaced by `cpu`, with one warning. `threads`: of the CPU, by default one
    per core. Raises AnadilError for a name that is not known.
    """
    if provider not in CHOICES:
        raise AnadilError(
            f"provider {shortened(repr(provider))} is not known; known are {', '.join(CHOICES)}\n  next: choose one of them"
        )
    if provider == CPU:
        return cpu, CPU
    names = [name for name in PROVIDERS if name != CPU] if provider == "auto" else [provider]
    faults = []
    for name in names:
        lack = _lack(name)
        if lack is not None:
            faults += [f"{name}: {lack}"] if provider != "auto" else []
            continue
        try:
            found = _OpenVino(graph, sample_rate, threads) if name == OPENVINO else _session(graph, name, threads)
            fault = _disagreement(found, cpu, sample_rate)
        except Exception as error:  # each provider raises classes of its own
            fault = f"{type(error).__name__}: {shortened(str(error), 200)}"
        if fault is None:
            return found, name
        faults.append(f"{name}: {fault}")
    if faults:
        warn(f"the model runs on the CPU: {'; '.join(faults)}")
    return cpu, CPU


def _lack(name: str) -> str | None:
    """What must be installed before the provider can be tried, or None."""
    import onnxruntime  # 0.1 s

    if name == OPENVINO:
        return (
            None if find_spec("openvino") else "the package openvino is not installed: pip install 'anadil[openvino]'"
        )
    if PROVIDERS[name] in onnxruntime.get_available_providers():
        return None
    return "this installation of onnxruntime does not have it"


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


class _OpenVino:
    """A graph in OpenVINO on the CPU: in bfloat16 where the CPU computes in it, else in float32."""

    def __init__(self, graph: Path, sample_rate: int, threads: int | None) -> None:
        core = _openvino().Core()
        has_bfloat16 = "BF16" in core.get_property("CPU", "OPTIMIZATION_CAPABILITIES")
        settings = {
            "INFERENCE_PRECISION_HINT": "bf16" if has_bfloat16 else "f32",
            "PERFORMANCE_HINT": "LATENCY",  # one batch at a time, on all cores
            **({"INFERENCE_NUM_THREADS": threads} if threads else {}),
        }
        self._request = core.compile_model(str(graph), "CPU", settings).create_infer_request()
        self._lock = threading.Lock()  # a request runs one batch at a time
        self._step = round(_STEP_S * sample_rate)

    def run(self, outputs: Sequence[str], inputs: Mapping[str, np.ndarray]) -> list[np.ndarray]:
        """As a session of ONNX Runtime; `outputs` are OUTPUTS."""
        waveforms, counts = (inputs[name] for name in INPUTS)
        padded = np.pad(waveforms, ((0, 0), (0, -waveforms.shape[1] % self._step)))
        with self._lock:
            found = self._request.infer(dict(zip(INPUTS, (padded, counts), strict=True)))
            log_probs, frame_counts = (np.array(found[name]) for name in outputs)
        return [log_probs[:, : frame_counts.max()], frame_counts]


def _openvino() -> Any:
    """The package openvino, without its package openvino-telemetry, which reports each import to Intel unless told not to."""
    name = "openvino_telemetry"
    is_loaded = name in sys.modules
    if not is_loaded:
        sys.modules[name] = None  # type: ignore[assignment]  # its import fails, and OpenVINO uses a stand-in
    try:
        import openvino
    finally:
        if not is_loaded:
            del sys.modules[name]
    return openvino


def _disagreement(session: Any, cpu: Any, sample_rate: int) -> str | None:
    """How the log-probs of a padded batch differ from the CPU's, or None."""
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
