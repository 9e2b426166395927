"""Exports for other runtimes, loaded by those runtimes' own packages: the text must be ours."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import soundfile

from anadil import audio
from anadil.errors import AnadilError
from anadil.export.onnx import ExportOptions, export_folder, export_model
from anadil.export.other_runtimes import require_onnx_asr_features
from anadil.recognition.load import load
from anadil.training.config import Config
from anadil.training.train import train
from tests.support.micro import TEXTS, micro_data, write_corpus
from tests.support.untrained import untrained

ROOT = Path(__file__).parents[2]
SPOKEN = ("abc", "cab ba", "acb a", "a b c")


@pytest.fixture(scope="module")
def nemo_like(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run with NeMo's features of 80 bands, which onnx-asr computes, and its clips."""
    folder = tmp_path_factory.mktemp("nemo-like")
    manifest = write_corpus(folder)
    data = micro_data(manifest, manifest, epochs=40) | {"features": {"mels": 80, "window_size": 0.025}}
    train(Config.model_validate(data), folder / "run")
    return folder


@pytest.fixture(scope="module")
def sherpa(micro: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("sherpa") / "out"
    export_folder(micro / "run/best", out, options=ExportOptions(layout="sherpa-onnx"))
    return out


def code_block(card: Path, language: str) -> str:
    found = re.search(rf"```{language}\n(.*?)```", card.read_text(encoding="utf-8"), re.DOTALL)
    assert found is not None
    return found[1]


def run_in(folder: Path, *command: object) -> str:
    done = subprocess.run(list(map(str, command)), cwd=folder, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_the_python_example_of_the_card_writes_our_text(exported: Path, micro: Path) -> None:
    code = code_block(exported / "README.md", "python")
    assert len(code.splitlines()) <= 17
    assert [run_in(exported, sys.executable, "-c", code, micro / f"clips/{i}.wav") for i in (1, 2)] == list(TEXTS[1:3])


def test_the_javascript_example_of_the_card_writes_our_text(tmp_path: Path, exported: Path, micro: Path) -> None:
    modules = Path(os.environ.get("ANADIL_NODE_MODULES", ROOT / "node_modules"))
    node = shutil.which("node")
    if node is None or not (modules / "onnxruntime-web").is_dir():
        pytest.skip(
            "needs node and onnxruntime-web: npm install onnxruntime-web, and ANADIL_NODE_MODULES names the folder"
        )
    shutil.copytree(exported, tmp_path / "exported")
    (tmp_path / "exported/node_modules").symlink_to(modules)
    (tmp_path / "exported/transcribe.mjs").write_text(
        code_block(exported / "README.md", "javascript"), encoding="utf-8"
    )
    samples = audio.read(micro / "clips/1.wav", 16000)
    soundfile.write(tmp_path / "clip.wav", samples, 16000, subtype="PCM_16")
    assert run_in(tmp_path / "exported", node, "transcribe.mjs", tmp_path / "clip.wav") == TEXTS[1]


# --- sherpa-onnx


def test_sherpa_onnx_writes_our_text(sherpa: Path, micro: Path) -> None:
    sherpa_onnx = pytest.importorskip("sherpa_onnx", reason="pip install sherpa-onnx")
    recognizer = sherpa_onnx.OfflineRecognizer.from_omnilingual_asr_ctc(
        model=str(sherpa / "model.onnx"), tokens=str(sherpa / "tokens.txt")
    )
    for i, text in enumerate(TEXTS):
        stream = recognizer.create_stream()
        stream.accept_waveform(16000, audio.read(micro / f"clips/{i}.wav", 16000))
        recognizer.decode_stream(stream)
        assert stream.result.text.strip() == text


def test_the_example_of_a_sherpa_onnx_folder_runs(sherpa: Path, micro: Path) -> None:
    pytest.importorskip("sherpa_onnx", reason="pip install sherpa-onnx")
    assert {path.name for path in sherpa.iterdir()} == {"model.onnx", "tokens.txt", "README.md"}
    code = code_block(sherpa / "README.md", "python")
    assert run_in(sherpa, sys.executable, "-c", code, micro / "clips/1.wav") == TEXTS[1]


def test_a_graph_for_sherpa_onnx_takes_any_length_and_has_the_labels_in_its_shape(sherpa: Path) -> None:
    session = onnxruntime.InferenceSession(str(sherpa / "model.onnx"), providers=["CPUExecutionProvider"])
    assert [one.name for one in session.get_inputs()] == ["x"]
    assert session.get_outputs()[0].shape[2] == 5  # space, a, b, c, blank
    for n in (1, 160, 16000):
        (log_probs,) = session.run(None, {"x": np.zeros((1, n), np.float32)})
        assert np.isfinite(log_probs).all() and log_probs.shape[1] >= 1


@pytest.mark.parametrize(
    ("features", "words"),
    [({"mels": 20, "sample_rate": 8000}, "8,000 Hz"), ({"mels": 20, "normalize": "none"}, "not normalised")],
)
def test_what_sherpa_onnx_cannot_run_is_refused(tmp_path: Path, features: dict[str, object], words: str) -> None:
    with pytest.raises(AnadilError, match=words):
        export_model(untrained(features), tmp_path / "out", options=ExportOptions(layout="sherpa-onnx"))
    assert not (tmp_path / "out").exists()


def test_loading_a_folder_of_another_runtime_says_whose_it_is(sherpa: Path) -> None:
    with pytest.raises(AnadilError, match=r"sherpa-onnx.*\n  next: .*--layout anadil"):
        load(sherpa)


# --- onnx-asr


def test_onnx_asr_writes_our_text(nemo_like: Path, tmp_path: Path) -> None:
    onnx_asr = pytest.importorskip("onnx_asr", reason="pip install onnx-asr")
    out = tmp_path / "out"
    export_folder(nemo_like / "run/best", out, options=ExportOptions(layout="onnx-asr"))
    assert json.loads((out / "config.json").read_text()) == {
        "model_type": "nemo-conformer-ctc",
        "features_size": 80,
        "subsampling_factor": 4,
    }
    model = onnx_asr.load_model("nemo-conformer-ctc", str(out))
    ours = load(nemo_like / "run/best")
    for i, text in enumerate(TEXTS):
        clip = nemo_like / f"clips/{i}.wav"
        assert model.recognize(str(clip)).strip() == ours.transcribe(clip).text == text
    code = code_block(out / "README.md", "python")
    assert run_in(out, sys.executable, "-c", code, nemo_like / "clips/1.wav") == TEXTS[1]
    with pytest.raises(AnadilError, match=r"onnx-asr.*\n  next: .*--layout anadil"):
        load(out)


def test_features_that_onnx_asr_does_not_compute_are_listed(tmp_path: Path) -> None:
    model = untrained({"mels": 64})
    with pytest.raises(
        AnadilError, match=r"mels 64 \(onnx-asr: 80 or 128\), window_size 0.02 \(onnx-asr: 0.025\)\n  next"
    ):
        export_model(model, tmp_path / "out", options=ExportOptions(layout="onnx-asr"))
    assert not (tmp_path / "out").exists()
    require_onnx_asr_features(untrained({"mels": 128, "window_size": 0.025, "pad_to": 16}).acoustic)
