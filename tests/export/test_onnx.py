from __future__ import annotations

import copy
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch
import yaml

from anadil.data.pauses import NOT_MEASURED
from anadil.decoding.ctc import best_path
from anadil.errors import AnadilError
from anadil.export import onnx as module
from anadil.export.layout import vocabulary
from anadil.export.onnx import ExportOptions, export_folder, export_model, probe_batch, trace, verify
from anadil.models.acoustic import AcousticModel, LoadedModel, load_model, save_model
from anadil.models.features import FeatureSettings
from anadil.recognition.load import load
from anadil.text.rules import TextSettings, text_rules
from tests.support.micro import BLOCKS, TEXTS
from tests.support.nemo import read_golden
from tests.support.untrained import untrained

TR_LABELS = (" ", *"abcçdefgğhıijklmnoöpqrsştuüvwxyz'")


def run_onnx(folder: Path, waveforms: np.ndarray, counts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    session = onnxruntime.InferenceSession(str(folder / "model.onnx"), providers=["CPUExecutionProvider"])
    log_probs, frame_counts = session.run(
        ["log_probs", "frame_counts"], {"waveforms": waveforms, "sample_counts": counts}
    )
    return log_probs, frame_counts


def assert_agrees(folder: Path, acoustic: AcousticModel, waveforms: np.ndarray, counts: np.ndarray) -> None:
    found, found_counts = run_onnx(folder, waveforms, counts)
    with torch.no_grad():
        wanted, wanted_counts = acoustic(torch.from_numpy(waveforms), torch.from_numpy(counts))
    assert found_counts.tolist() == wanted_counts.tolist()
    for row, wanted_row, count in zip(found, wanted.numpy(), found_counts, strict=True):
        np.testing.assert_allclose(row[:count], wanted_row[:count], atol=1e-3)


# --- agreement with PyTorch


CONFIGS: dict[str, dict[str, Any]] = {
    "micro": {"features": {"mels": 20}},
    "8 kHz": {"features": {"mels": 20, "sample_rate": 8000}},
    "odd window": {"features": {"mels": 20, "sample_rate": 11025, "window_size": 0.023, "normalize": "all_features"}},
    "no normalisation": {"features": {"mels": 20, "normalize": "none"}},
    "residual, dilation": {
        "features": {"mels": 20},
        "blocks": [
            {"filters": 16, "kernel": 5, "stride": 2, "repeat": 2, "residual": True},
            {"filters": 16, "kernel": 5, "dilation": 2},
        ],
    },
    "2D stem, frames spread": {
        "features": {"mels": 21},
        "stem": {"channels": [4, 6], "residual": 1},
        "blocks": [{"filters": 16, "kernel": 5}, {"filters": 16, "kernel": 1, "separable": False, "upsample": 2}],
    },
}


@pytest.mark.parametrize("name", list(CONFIGS))
def test_an_exported_graph_agrees_with_pytorch_in_any_batch_and_length(tmp_path: Path, name: str) -> None:
    model = untrained(**CONFIGS[name])
    assert export_model(model, tmp_path / "out").difference < 1e-3
    for seed, durations in enumerate(([0.21], [1.0, 0.03, 4.3], [0.5] * 7)):  # none of them the traced shape
        assert_agrees(tmp_path / "out", model.acoustic, *probe_batch(model.acoustic.sample_rate, durations, seed))


def test_batch_and_padding_change_nothing(exported: Path) -> None:
    waveforms, counts = probe_batch(16000, [1.5, 0.4])
    both, frame_counts = run_onnx(exported, waveforms, counts)
    short, (count,) = run_onnx(exported, waveforms[1:, : counts[1]], counts[1:])
    assert frame_counts[1] == count
    np.testing.assert_allclose(both[1, :count], short[0, :count], atol=1e-4)
    noisy = waveforms.copy()
    noisy[1, counts[1] :] = 0.5  # padding does not change the output
    np.testing.assert_allclose(run_onnx(exported, noisy, counts)[0][1, :count], short[0, :count], atol=1e-4)


def test_an_exported_model_recognises_the_same_as_its_model_folder(micro: Path, exported: Path) -> None:
    acoustic = load_model(micro / "run/best").acoustic
    waveforms, counts = probe_batch(16000, [2.0, 1.1])
    assert_agrees(exported, acoustic, waveforms, counts)
    recognizer = load(exported)
    assert [recognizer.transcribe(micro / f"clips/{i}.wav").text for i in range(len(TEXTS))] == list(TEXTS)


def test_nemos_quartznet_keeps_nemos_log_probs(tmp_path: Path, shared: Path) -> None:
    settings, weights, golden = read_golden(shared / "reference/nemo/quartznet_char")
    acoustic = AcousticModel(FeatureSettings(), settings, len(TR_LABELS))
    acoustic.network.load_state_dict(weights)
    export_model(LoadedModel("nemo", acoustic, text_rules("tr", TextSettings(), TR_LABELS)), tmp_path / "out")
    log_probs, counts = run_onnx(tmp_path / "out", golden["audio"], golden["audio_lengths"])
    assert counts.tolist() == golden["encoded_lengths"].tolist()
    blank = len(TR_LABELS)
    for row, expected, n in zip(log_probs, golden["log_probs"], counts, strict=True):
        np.testing.assert_allclose(row[:n], expected[:n], atol=1e-3)
        assert [token.id for token in best_path(row[:n], blank)] == [
            token.id for token in best_path(expected[:n], blank)
        ]


@pytest.mark.parametrize("name", ["micro", "2D stem, frames spread", "no normalisation"])
def test_digital_silence_has_the_same_log_probs_in_a_batch_and_alone(tmp_path: Path, name: str) -> None:
    model = untrained(**CONFIGS[name])
    export_model(model, tmp_path / "out")
    rate = model.acoustic.sample_rate
    waveforms, counts = probe_batch(rate, [2.3, 1.7])
    waveforms[1] = 0
    together, frames = run_onnx(tmp_path / "out", waveforms, counts)
    alone, _ = run_onnx(tmp_path / "out", waveforms[1:, : counts[1]], counts[1:])
    np.testing.assert_allclose(together[1, : frames[1]], alone[0], atol=1e-4)
    constant = CONFIGS[name]["features"].get("normalize") != "none"
    features, _ = model.acoustic.features(torch.zeros(1, rate), torch.tensor([rate]))
    assert bool((features == 0).all()) == constant


def test_a_graph_that_bakes_in_a_length_is_refused(tmp_path: Path) -> None:
    """A naive export of nn.MultiheadAttention does so."""
    model = untrained({"mels": 20})
    real = model.acoustic.network.forward

    def baked(features: torch.Tensor, counts: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        log_probs, counts = real(features, counts)
        return log_probs - 0.01 * (int(features.shape[2]) > 5000), counts  # only 60 s have so many frames

    model.acoustic.network.forward = baked  # type: ignore[method-assign]
    with pytest.raises(AnadilError, match="disagrees with PyTorch: log-probs differ by 0.01"):
        export_model(model, tmp_path / "out")


def test_real_speech_of_all_lengths_is_compared_where_it_is_given(
    micro: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[float] = []
    real = module._same_text

    def remember(found: np.ndarray, expected: np.ndarray) -> bool:
        seen.append(round(len(found) * 0.04, 1))
        return real(found, expected) and not (fault and len(found) * 0.04 > 55)

    monkeypatch.setattr(module, "_same_text", remember)
    fault = False
    exported = export_folder(
        micro / "run/best", tmp_path / "out", options=ExportOptions(calibrate=micro / "train.jsonl")
    )
    assert exported.n_utterances == len(TEXTS)
    assert seen[-10:] == [0.1, 0.5, 2.0, 7.0, 20.0, 60.0, 0.1, 0.5, 2.0, 7.0]
    fault = True
    with pytest.raises(AnadilError, match=r"disagrees with PyTorch: another greedy text for 60.0 s"):
        export_folder(micro / "run/best", tmp_path / "other", options=ExportOptions(calibrate=micro / "train.jsonl"))


def test_texts_are_the_same_but_for_ties() -> None:
    expected = np.log(np.array([[0.6, 0.3, 0.1], [0.4997, 0.5003, 0.0001], [0.1, 0.1, 0.8]]))
    tie, other = expected.copy(), expected.copy()
    tie[1, :2] = tie[1, 1::-1]
    other[0, :2] = other[0, 1::-1]
    assert module._same_text(expected, expected) and module._same_text(tie, expected)
    assert not module._same_text(other, expected)


# --- what is written


def test_config_and_vocabulary_hold_all_that_is_needed_to_read_the_output(tmp_path: Path) -> None:
    labels = (" ", "a", "ğ", "'", "ng")
    export_model(untrained({"mels": 20, "sample_rate": 8000}, labels), tmp_path / "out", card="# card ş\n")
    assert {path.name for path in (tmp_path / "out").iterdir()} == {
        "model.onnx",
        "config.json",
        "vocab.txt",
        "README.md",
    }
    config = json.loads((tmp_path / "out/config.json").read_text(encoding="utf-8"))
    text = config.pop("text")
    assert config == {
        "format": "anadil-ctc",
        "version": 1,
        "name": "random",
        "language": "tr",
        "sample_rate": 8000,
        "frame_s": 0.04,
        "min_samples": 160,
        "labels": list(labels),
        "longest_pause_s": NOT_MEASURED.longest_s,
        "pause_margin_s": NOT_MEASURED.margin_s,
    }
    assert text == text_rules("tr", TextSettings(), labels).to_dict()
    vocab = (tmp_path / "out/vocab.txt").read_text(encoding="utf-8")
    assert vocab == "▁ 0\na 1\nğ 2\n' 3\nng 4\n<blk> 5\n" == vocabulary(list(labels))
    card = (tmp_path / "out/README.md").read_text(encoding="utf-8")
    assert "\n# card ş\n" in card and "8000 Hz" in card and "40 ms" in card


def test_the_recognizer_reads_back_what_was_exported(tmp_path: Path) -> None:
    model = untrained({"mels": 20, "sample_rate": 8000})
    export_model(model, tmp_path / "out")
    recognizer = load(tmp_path / "out")
    assert (recognizer.name, recognizer.sample_rate, recognizer.min_samples) == ("random", 8000, 160)
    assert recognizer.frame_s == pytest.approx(model.acoustic.frame_s)
    assert recognizer.rules == model.rules


# --- refusals


def other_weight(acoustic: AcousticModel) -> None:
    bias = acoustic.network._head.bias
    assert bias is not None
    bias.data[0] += 0.1


def nan_weight(acoustic: AcousticModel) -> None:
    bias = acoustic.network._head.bias
    assert bias is not None
    bias.data[:] = torch.nan


def other_stride(acoustic: AcousticModel) -> None:
    acoustic.network.encoder.encoder[0].mconv[0].conv.stride = (1,)  # type: ignore[union-attr,index]


Change = Callable[[AcousticModel], None]


@pytest.mark.parametrize(
    ("change", "what"),
    [(other_weight, "log-probs differ by"), (nan_weight, "log-probs differ by nan"), (other_stride, "frame counts")],
)
def test_a_graph_that_disagrees_with_pytorch_is_not_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: Change, what: str
) -> None:
    def trace_another(acoustic: AcousticModel, path: Path) -> None:
        another = copy.deepcopy(acoustic)
        change(another)
        trace(another, path)

    monkeypatch.setattr(module, "trace", trace_another)
    with pytest.raises(AnadilError, match=f"the exported graph disagrees with PyTorch: {what}.*nothing was written"):
        export_model(untrained({"mels": 20}), tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_a_model_whose_own_log_probs_are_nan_is_not_written(tmp_path: Path) -> None:
    model = untrained({"mels": 20})
    nan_weight(model.acoustic)
    with pytest.raises(AnadilError):
        export_model(model, tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_verify_returns_the_largest_difference(tmp_path: Path) -> None:
    acoustic = untrained({"mels": 20}).acoustic
    trace(acoustic, tmp_path / "model.onnx")
    assert verify(acoustic, tmp_path / "model.onnx") < 1e-5
    head = acoustic.network._head
    head.weight.data[:] = 0  # log-probs are now those of the bias
    assert head.bias is not None
    head.bias.data[:] = torch.tensor([0.0, 0.0, 0.0, 0.0])
    trace(acoustic, tmp_path / "model.onnx")
    head.bias.data[:] = torch.tensor([1e-3, 0.0, 0.0, 0.0])  # moves the first log-prob by 3/4 of it
    assert verify(acoustic, tmp_path / "model.onnx") == pytest.approx(0.75e-3, rel=1e-2)


def test_an_existing_folder_is_refused_and_replaced_with_force(tmp_path: Path, micro: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    export_folder(micro / "run/best", out)  # an empty folder may be replaced
    before = {path.name: path.read_bytes() for path in out.iterdir()}
    (out / "notes.txt").write_text("mine")
    with pytest.raises(AnadilError, match=r"exists already\n.*--force"):
        export_folder(micro / "run/last", out)
    assert {path.name: path.read_bytes() for path in out.iterdir()} == before | {"notes.txt": b"mine"}
    export_folder(micro / "run/last", out, force=True)
    assert {path.name for path in out.iterdir()} == set(before)
    assert (out / "model.onnx").read_bytes() != before["model.onnx"]


def test_a_failed_replacement_leaves_the_earlier_export(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "out"
    export_model(untrained({"mels": 20}), out)
    before = {path.name: path.read_bytes() for path in out.iterdir()}

    def no_trace(acoustic: AcousticModel, path: Path) -> None:
        path.write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(module, "trace", no_trace)
    with pytest.raises(AnadilError, match="No space left on device"):
        export_model(untrained({"mels": 30}), out, force=True)
    assert {path.name: path.read_bytes() for path in out.iterdir()} == before
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_the_card_of_a_model_folder_is_carried_over(tmp_path: Path) -> None:
    model = untrained({"mels": 20})
    data = {
        "language": "tr",
        "features": {"mels": 20},
        "model": {"blocks": BLOCKS},
        "tokenizer": {"labels": [" ", "a", "b"]},
    }
    save_model(tmp_path / "model", model.acoustic, yaml.safe_dump(data), "# İlk model\n")
    export_folder(tmp_path / "model", tmp_path / "out")
    assert "\n---\n\n# İlk model\n" in (tmp_path / "out/README.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("what", ["missing", "file", "empty", "run", "exported", "config alone"])
def test_what_is_no_model_folder_cannot_be_exported(tmp_path: Path, micro: Path, exported: Path, what: str) -> None:
    source = tmp_path / "source"
    if what == "file":
        source.write_text("")
    elif what in ("empty", "config alone"):
        source.mkdir()
    if what == "config alone":
        shutil.copy(micro / "run/best/config.yaml", source)
    source = {"run": micro / "run", "exported": exported}.get(what, source)
    with pytest.raises(AnadilError, match="is no model folder"):
        export_folder(source, tmp_path / "out")
    assert not (tmp_path / "out").exists()


# --- damage


def cut(file: Path) -> None:
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


def change_json(change: Callable[[dict[str, Any]], Any]) -> Callable[[Path], None]:
    def rewrite(file: Path) -> None:
        data = json.loads(file.read_text(encoding="utf-8"))
        change(data)
        file.write_text(json.dumps(data), encoding="utf-8")

    return rewrite


DAMAGE: list[tuple[str, Callable[[Path], Any]]] = [
    ("model.onnx", cut),
    ("model.onnx", lambda file: file.write_bytes(b"")),
    ("model.onnx", lambda file: file.write_text("no graph")),
    ("config.json", cut),
    ("config.json", lambda file: file.write_bytes(b"\xff\xfe")),
    ("config.json", change_json(lambda data: data.pop("labels"))),
    ("config.json", change_json(lambda data: data["text"].pop("version"))),
    ("config.json", change_json(lambda data: data["text"].update(map=["a"]))),
    ("config.json", change_json(lambda data: data["text"].update(stemming=True))),
]


@pytest.mark.parametrize(("name", "damage"), DAMAGE)
def test_a_damaged_export_is_refused_by_name(
    tmp_path: Path, exported: Path, name: str, damage: Callable[[Path], Any]
) -> None:
    shutil.copytree(exported, tmp_path / "copy")
    damage(tmp_path / "copy" / name)
    with pytest.raises(AnadilError):
        load(tmp_path / "copy")


def test_what_cannot_be_read_of_an_export_is_named(tmp_path: Path, exported: Path) -> None:
    shutil.copytree(exported, tmp_path / "copy")
    cut(tmp_path / "copy/model.onnx")
    with pytest.raises(AnadilError, match=r"model.onnx: ONNX Runtime cannot read it: .*\n.*export the model again"):
        load(tmp_path / "copy")
