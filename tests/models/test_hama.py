"""hama's recogniser: its file, its faults, and its log-probs beside those of the package's own engine."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from anadil.errors import AnadilError
from anadil.export.onnx import probe_batch
from anadil.models.hama import VOCABULARY, installed_model, is_hama, read_hama
from anadil.models.pretrained import read_model
from tests.support.hama import hama_log_probs, packed, tensors, write_hama


def test_the_network_is_hamas(tmp_path: Path) -> None:
    model = read_hama(write_hama(tmp_path))
    assert model.rules.labels == ("<pad>", "<space>", "a", "b", "t͡ʃ", "ɔ", " ")
    assert (model.rules.language, model.acoustic.frame_s, model.acoustic.training) == ("und-fonipa", 0.02, False)
    waveforms, counts = (torch.from_numpy(array) for array in probe_batch(16000, [1.7, 1.003, 0.4]))
    with torch.no_grad():
        found, frame_counts = model.acoustic(waveforms, counts)
    for row, waveform, n, n_frames in zip(found, waveforms, counts.tolist(), frame_counts.tolist(), strict=True):
        expected = hama_log_probs(tensors(), waveform[:n])
        assert len(expected) == n_frames == model.acoustic.frame_count(n)
        torch.testing.assert_close(row[:n_frames], expected, atol=2e-3, rtol=0)


def test_a_file_is_known_by_its_contents(tmp_path: Path) -> None:
    path = write_hama(tmp_path)
    found = read_model(path.rename(tmp_path / "unnamed"))
    assert found is not None and found.has_head and len(found.loaded.rules.labels) == 7
    assert not is_hama(tmp_path) and not is_hama(tmp_path / VOCABULARY)


def _with_table(change: Callable[[bytearray], None]) -> bytes:
    content = bytearray(packed(tensors()))
    change(content)
    return bytes(content)


def _write_at(at: int, layout: str, value: int) -> bytes:
    return _with_table(lambda content: struct.pack_into(layout, content, at, value))


_FIRST = 12 + 2 + len("mel_fb")  # where the table has the first tensor's type; then rank, two dimensions, offset, bytes

FAULTS = {
    "cut": (packed(tensors())[:-1], "damaged"),
    "no table": (b"HAMAPK\x01", "damaged"),
    "another file": (b"PK\x03\x04" + bytes(100), "does not begin with HAMAPK"),
    "another version": (packed(tensors(), version=2), "does not begin with HAMAPK and version 1"),
    "another model": (packed(tensors(), kind=0), r"another of its models \(kind 0\)\n  next: give asr_waveform.hama"),
    "four billion tensors": (_write_at(8, "<I", 2**32 - 1), "4,294,967,295 tensors"),
    "a hundred tensors too many": (_write_at(8, "<I", 200), "damaged"),
    "an unknown type": (_write_at(_FIRST, "<B", 9), "damaged"),
    "many dimensions": (_write_at(_FIRST + 1, "<B", 200), "200 dimensions"),
    "a huge dimension": (_write_at(_FIRST + 2, "<I", 2**32 - 1), "for shape"),
    "an offset past the end": (_write_at(_FIRST + 10, "<Q", 2**63), "mel_fb: .* bytes at 9,223,372,036,854,775,808"),
    "a name that is no text": (_write_at(14, "<B", 0xFF), "damaged"),
    "infinity": (
        packed(tensors() | {"onnx::Conv_99": np.full(8, np.inf, np.float16)}),
        "Conv_99 holds NaN or infinity",
    ),
    "the network of hama 1.5": (
        packed({"onnx::Conv_99": np.zeros(8, np.float16)}),
        "another network than the Conformer",
    ),
    "a matrix too few": (packed({k: v for k, v in tensors().items() if k != "onnx::MatMul_101"}), "not the Conformer"),
    "a matrix of another shape": (
        packed(tensors() | {"onnx::MatMul_90": np.zeros((8, 8), np.float16)}),
        "size mismatch",
    ),
    "other mel filters": (packed(tensors() | {"mel_fb": tensors()["mel_fb"] * 2}), "mel_fb differs from the features"),
    "no filters": (packed({k: v for k, v in tensors().items() if k != "mel_fb"}), "mel_fb"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_damaged_file_is_an_error(tmp_path: Path, fault: str) -> None:
    content, what = FAULTS[fault]
    path = write_hama(tmp_path)
    path.write_bytes(content)
    with pytest.raises(AnadilError, match=what) as raised:
        read_model(path)
    assert str(path) in str(raised.value) and "\n  next: " in str(raised.value)


@pytest.mark.parametrize(
    ("vocabulary", "what"),
    [
        (None, f"{VOCABULARY} is missing: it holds the model's labels"),
        ("[", "no vocabulary of hama"),
        ("[]", "no vocabulary of hama"),
        ('{"decoder": "abcdef"}', "must be a list of labels"),
        ('{"decoder": ["a", 1]}', "must be a list of labels"),
        (
            json.dumps({"decoder": list("abcde")}),
            "5 labels with a word boundary and a blank do not fit a head of 8 rows",
        ),
        (json.dumps({"decoder": list("abcdea")}), "6 labels"),
    ],
)
def test_a_vocabulary_that_does_not_fit_is_an_error(tmp_path: Path, vocabulary: str | None, what: str) -> None:
    path = write_hama(tmp_path)
    (tmp_path / VOCABULARY).unlink()
    if vocabulary is not None:
        (tmp_path / VOCABULARY).write_text(vocabulary, encoding="utf-8")
    with pytest.raises(AnadilError, match=what):
        read_hama(path)


def test_without_the_package_the_error_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(AnadilError, match=r"next: pip install 'anadil\[hama\]'"):
        read_model(Path("hama"), hub=True)


def test_the_log_probs_are_those_of_the_packages_engine() -> None:
    """Its engine rounds log-mel features to float16; with these rounded, both agree within 0.006 (docs/LOG.md)."""
    engine = pytest.importorskip("hama._engine")
    if not engine.available():
        pytest.skip("hama has no engine for this system")
    session, acoustic = engine.AsrSession(installed_model().read_bytes()), read_hama(installed_model()).acoustic
    waveforms, counts = probe_batch(16000, [3.0, 1.21, 0.4])
    with torch.no_grad():
        found, frame_counts = acoustic(torch.from_numpy(waveforms), torch.from_numpy(counts))
    for row, waveform, n, n_frames in zip(found.numpy(), waveforms, counts, frame_counts, strict=True):
        (expected,) = session.run(["log_probs"], {"waveform": waveform[:n]})
        assert len(expected[0]) == n_frames
        difference = np.abs(row[:n_frames] - expected[0])
        assert difference.max() < 0.3 and difference.mean() < 0.005
