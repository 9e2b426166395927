"""Execution providers: a fake one stands in for hardware that is not here."""

from __future__ import annotations

import json
import sys
import warnings
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest

import anadil
from anadil.cli.options import PROVIDERS as OPTIONS
from anadil.errors import AnadilError
from anadil.recognition import providers
from anadil.recognition.load import load
from tests.support.command_line import anadil as run
from tests.support.command_line import succeeds
from tests.support.micro import TEXTS


class Fake:
    """A session of a provider that `change`s what the CPU computes."""

    def __init__(self, session: Any, provider: str, change: Callable[[np.ndarray], np.ndarray]) -> None:
        self._session, self._provider, self._change = session, provider, change
        self.runs = 0

    def get_providers(self) -> list[str]:
        return [self._provider, "CPUExecutionProvider"]

    def run(self, names: Any, inputs: Any) -> Any:
        self.runs += 1
        log_probs, counts = self._session.run(names, inputs)
        return self._change(log_probs), counts

    def __getattr__(self, name: str) -> Any:
        return getattr(self._session, name)


def install(monkeypatch: pytest.MonkeyPatch, **change: Any) -> dict[str, Fake]:
    """Make ONNX Runtime have fake providers by our names; a change that is an exception is raised on opening."""
    real, opened = onnxruntime.InferenceSession, dict[str, Fake]()
    names = {providers.PROVIDERS[name]: name for name in change}

    def open_session(path: str, options: Any = None, providers: Any = ()) -> Any:
        session = real(path, options, providers=["CPUExecutionProvider"])
        name = names.get(providers[0])
        if name is None or change[name] is None:  # None: ONNX Runtime falls back in silence
            return session
        if isinstance(change[name], Exception):
            raise change[name]
        opened[name] = Fake(session, providers[0], change[name])
        return opened[name]

    monkeypatch.setattr(onnxruntime, "InferenceSession", open_session)
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: [*names, "CPUExecutionProvider"])
    return opened


def test_a_provider_by_name_computes_and_is_said(exported: Path, micro: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened = install(monkeypatch, cuda=lambda log_probs: log_probs + 1e-4)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        recognizer = anadil.load(exported, provider="cuda")
        assert recognizer.provider == "cuda"
        assert recognizer.transcribe(micro / "clips/0.wav").text == TEXTS[0]
    assert opened["cuda"].runs == 2  # the comparison with the CPU, and the clip
    assert anadil.load(exported).provider == "cpu"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (RuntimeError("no device"), "cuda: RuntimeError: no device"),
        (None, "cuda: RuntimeError: ONNX Runtime could not load it"),
        (lambda log_probs: log_probs[..., ::-1], "cuda: its log-probs are not the CPU's"),
        (lambda log_probs: log_probs * np.nan, "cuda: its log-probs are not the CPU's"),
        (lambda log_probs: log_probs[:, :-1], "cuda: it gives another number of frames"),
    ],
    ids=["fails", "silent", "wrong", "nan", "frames"],
)
def test_a_provider_that_fails_or_disagrees_is_replaced_by_the_cpu_with_one_warning(
    exported: Path, micro: Path, monkeypatch: pytest.MonkeyPatch, change: Any, words: str
) -> None:
    install(monkeypatch, cuda=change)
    found: list[str] = []
    recognizer = load(exported, provider="cuda", warn=found.append)
    assert recognizer.provider == "cpu" and len(found) == 1
    assert found[0].startswith(f"the model runs on the CPU: {words}")
    assert recognizer.transcribe(micro / "clips/0.wav").text == TEXTS[0]


def test_auto_takes_the_first_that_works(exported: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch, xnnpack=lambda log_probs: log_probs, cuda=RuntimeError("no device"))
    monkeypatch.setattr(providers, "find_spec", lambda name: None)
    found: list[str] = []
    assert load(exported, provider="auto", warn=found.append).provider == "xnnpack" and found == []


def test_auto_without_any_is_the_cpu_and_no_warning(exported: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch)
    monkeypatch.setattr(providers, "find_spec", lambda name: None)
    found: list[str] = []
    assert load(exported, provider="auto", warn=found.append).provider == "cpu" and found == []
    load(exported, provider="cuda", warn=found.append)
    load(exported, provider="openvino", warn=found.append)
    assert found == [
        "the model runs on the CPU: cuda: this installation of onnxruntime does not have it",
        "the model runs on the CPU: openvino: the package openvino is not installed: pip install 'anadil[openvino]'",
    ]


needs_openvino = pytest.mark.skipif(find_spec("openvino") is None, reason="openvino is not installed")


@needs_openvino
def test_openvino_gives_the_texts_of_onnx_runtime(exported: Path, micro: Path) -> None:
    found: list[str] = []
    ours, other = load(exported, warn=found.append), load(exported, provider="openvino", warn=found.append)
    assert (other.provider, found) == ("openvino", [])
    assert "openvino_telemetry" not in sys.modules  # it reports each import to Intel
    clips = [micro / f"clips/{n}.wav" for n in range(len(TEXTS))]
    assert [one.text for one in other.transcribe(clips)] == list(TEXTS)
    # a length that is no multiple of what batches are padded to, and an empty recording beside it
    rng = np.random.default_rng(0)
    batch = [rng.standard_normal(n).astype(np.float32) * 0.1 for n in (23_456, 9_000)] + [np.zeros(4_000, np.float32)]
    for expected, given in zip(ours.log_probs(batch), other.log_probs(batch), strict=True):
        assert given.shape == expected.shape
        assert np.abs(np.exp(given) - np.exp(expected)).max() < 0.05  # bfloat16 has 8 bits


@needs_openvino
def test_openvino_that_returns_other_lengths_is_replaced(
    exported: Path, micro: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = providers._OpenVino.run
    monkeypatch.setattr(providers._OpenVino, "run", lambda self, *given: [real(self, *given)[0], np.zeros(2, np.int64)])
    found: list[str] = []
    assert load(exported, provider="openvino", warn=found.append).provider == "cpu"
    assert found == ["the model runs on the CPU: openvino: it gives another number of frames than the CPU"]


def test_what_is_not_known_or_has_no_providers_is_refused(exported: Path, micro: Path) -> None:
    with pytest.raises(AnadilError, match="provider 'gpu' is not known; known are auto, cuda"):
        load(exported, provider="gpu")
    with pytest.raises(AnadilError, match=r"for exported folders.*\n  next: anadil export"):
        load(micro / "run/best", provider="cuda")
    assert load(micro / "run/best", provider="auto").provider == "cpu"


def test_the_verbs_take_a_provider_and_say_which_one_it_was(
    exported: Path, micro: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install(monkeypatch, cuda=lambda log_probs: log_probs)
    said = succeeds("transcribe", exported, micro / "clips/0.wav", "--provider", "cuda")
    assert (said.stdout.strip(), said.stderr.strip()) == (TEXTS[0], "provider: cuda")
    figures = tmp_path / "f.json"
    succeeds("evaluate", exported, micro / "train.jsonl", "--provider", "auto", "--json", figures)
    assert json.loads(figures.read_text())["provider"] == "cuda"
    said = succeeds("transcribe", exported, micro / "clips/0.wav", "--provider", "coreml")
    assert said.stderr.count("warning: ") == 1 and "coreml: this installation" in said.stderr
    assert said.stderr.rstrip().endswith("provider: cpu")


@pytest.mark.parametrize("options", ["--provider gpu", "--engine local --out x --provider cuda"])
def test_wrong_providers_are_wrong_usage(exported: Path, micro: Path, options: str) -> None:
    assert run("transcribe", exported, micro / "clips/0.wav", *options.split()).exit_code == 2


def test_the_names_on_the_command_line_are_all() -> None:
    assert set(OPTIONS) == set(providers.CHOICES)
