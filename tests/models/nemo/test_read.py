from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch

from anadil.errors import AnadilError
from anadil.export.onnx import probe_batch, trace, verify
from anadil.models.acoustic import AcousticModel
from anadil.models.nemo.read import read_nemo
from anadil.models.summary import count_parameters, layer_table
from tests.support.nemo_models import REFERENCE, audio, golden, weight, write_archive, write_case

CASES = list(golden()[0])
EXPORTED = (
    *("causal, chunks", "chunks of several sizes", "limited context, no biases, shared positions", "f_exact_pad"),
    *("stacking_norm of 3, padded", "one side limited, instance norm", "absolute positions, group norm", "citrinet"),
    *("reduction by striding, behind all", "f_splicing, eps, blackman", "group norm, hardtanh", "heads and groups"),
)


def assert_is(log_probs: np.ndarray, counts: list[int], wanted: np.ndarray, wanted_counts: np.ndarray) -> None:
    assert counts == wanted_counts.tolist()
    for row, wanted_row, n in zip(log_probs, wanted, counts, strict=True):
        assert n > 0
        np.testing.assert_allclose(row[:n], wanted_row[:n], atol=1e-3)


def run_onnx(acoustic: AcousticModel, path: Path, waveforms: np.ndarray, counts: np.ndarray) -> tuple[np.ndarray, Any]:
    trace(acoustic, path)
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    log_probs, frame_counts = session.run(None, {"waveforms": waveforms, "sample_counts": counts})
    return log_probs, frame_counts.tolist()


@pytest.mark.parametrize("family", REFERENCE)
def test_the_families_compute_what_nemo_computes(family: str, shared: Path, tmp_path: Path) -> None:
    folder = shared / "reference/nemo" / family
    expected = np.load(folder / "expected.npz")
    model = read_nemo(folder / "model.nemo")
    acoustic, waveforms, counts = model.loaded.acoustic, expected["audio"], expected["audio_lengths"]
    with torch.no_grad():
        features, feature_counts = acoustic.features(torch.from_numpy(waveforms), torch.from_numpy(counts))
        log_probs, frame_counts = acoustic(torch.from_numpy(waveforms), torch.from_numpy(counts))
    assert_is(log_probs.numpy(), frame_counts.tolist(), expected["log_probs"], expected["encoded_lengths"])
    wanted = expected["features"].swapaxes(1, 2)
    assert_is(features.mT.numpy(), feature_counts.tolist(), wanted, expected["feature_lengths"])
    assert [acoustic.frame_count(n) for n in counts.tolist()] == frame_counts.tolist()
    found, found_counts = run_onnx(acoustic, tmp_path / "m.onnx", waveforms, counts)
    assert_is(found, found_counts, expected["log_probs"], expected["encoded_lengths"])
    assert verify(acoustic, tmp_path / "m.onnx") < 1e-4  # single files and batches from 0.05 to 11.7 s


@pytest.mark.parametrize("name", CASES)
def test_other_configurations_compute_what_nemo_computes(name: str, tmp_path: Path) -> None:
    arrays = golden()[1]
    acoustic = read_nemo(write_case(tmp_path / "m.nemo", name)).loaded.acoustic
    waveforms, counts = audio()
    with torch.no_grad():
        features, feature_counts = acoustic.features(waveforms, counts)
        log_probs, frame_counts = acoustic(waveforms, counts)
    assert feature_counts.tolist() == arrays[f"{name}.feature_lengths"].tolist()
    assert_is(log_probs.numpy(), frame_counts.tolist(), arrays[f"{name}.log_probs"], arrays[f"{name}.encoded_lengths"])
    if f"{name}.features" in arrays:
        wanted = arrays[f"{name}.features"].swapaxes(1, 2)
        assert_is(features.mT.numpy(), feature_counts.tolist(), wanted, arrays[f"{name}.feature_lengths"])
    assert acoustic.frame_count(14000) <= frame_counts[0]  # stacking: padding may add one
    assert acoustic.frame_count(acoustic.min_samples) >= 1


@pytest.mark.parametrize("name", EXPORTED)
def test_other_configurations_export(name: str, tmp_path: Path) -> None:
    acoustic = read_nemo(write_case(tmp_path / "m.nemo", name)).loaded.acoustic
    trace(acoustic, tmp_path / "m.onnx")
    session = onnxruntime.InferenceSession(str(tmp_path / "m.onnx"), providers=["CPUExecutionProvider"])
    for durations in ([2.3, 0.7, 1.1], [0.4], [3.0]):  # traced with 1.0 and 0.7 s
        waveforms, counts = probe_batch(16000, durations)
        found, found_counts = session.run(None, {"waveforms": waveforms, "sample_counts": counts})
        with torch.no_grad():
            log_probs, frame_counts = acoustic(torch.from_numpy(waveforms), torch.from_numpy(counts))
        assert_is(found, found_counts.tolist(), log_probs.numpy(), frame_counts.numpy())


def test_padding_and_batch_change_nothing(tmp_path: Path) -> None:
    acoustic = read_nemo(
        write_case(tmp_path / "m.nemo", "limited context, no biases, shared positions")
    ).loaded.acoustic
    waveforms, counts = audio()
    with torch.no_grad():
        together, _ = acoustic(waveforms, counts)
        alone, n = acoustic(waveforms[1:, :9100], counts[1:])
    torch.testing.assert_close(together[1, : int(n)], alone[0, : int(n)], atol=1e-5, rtol=0)


@pytest.mark.parametrize(
    ("name", "change", "named"),
    [
        ("striding", {"encoder": {"subsampling": "striding_conv1d"}}, ["encoder", "subsampling", "striding_conv1d"]),
        ("striding", {"encoder": {"att_context_style": "chunked_limited_with_rc"}}, ["att_context_style", "with_rc"]),
        ("striding", {"encoder": {"conv_norm_type": "group_norm3"}}, ["conv_norm_type", "group_norm3"]),
        ("striding", {"encoder": {"new_trick": 7}}, ["encoder.new_trick: 7"]),
        ("striding", {"encoder": {"conv_context_style": "dcc"}}, ["encoder.conv_context_style: dcc"]),
        ("striding", {"encoder": {"subsampling_factor": 6}}, ["subsampling_factor 6"]),
        ("local attention", {"encoder": {"global_tokens": 1}}, ["encoder.global_tokens: 1"]),
        ("local attention", {"encoder": {"att_context_size": [4, 2]}}, ["att_context_size", "[4, 2]"]),
        ("striding", {"encoder": {"_target_": "nemo.collections.asr.modules.SqueezeformerEncoder"}}, ["Squeezeformer"]),
        ("striding", {"decoder": {"_target_": "nemo.collections.asr.modules.RNNTDecoder"}}, ["decoder._target_", "RNNT"]),
        ("striding", {"decoder": {"num_classes": 5}}, ["decoder.num_classes: 5"]),
        ("striding", {"preprocessor": {"_target_": "x.AudioToMFCCPreprocessor"}}, ["AudioToMFCCPreprocessor"]),
        ("striding", {"preprocessor": {"mel_norm": "inf"}}, ["preprocessor.mel_norm: inf"]),
        ("striding", {"preprocessor": {"normalize": {"fixed_mean": [0], "fixed_std": [1]}}}, ["normalize", "fixed_mean"]),
        ("striding", {"preprocessor": {"pad_to": "max"}}, ["pad_to", "max"]),
        ("striding", {"preprocessor": {"window": "kaiser", "features": "many"}}, ["window: kaiser", "mels", "many"]),
        ("citrinet", {"encoder": {"quantize": True}}, ["encoder.quantize: true"]),
        ("citrinet", {"encoder": {"normalization_mode": "none"}}, ["norm", "'none'"]),
        ("citrinet", {"encoder": {"activation": "mish"}}, ["activation", "'mish'"]),
        ("citrinet", {"encoder": {"feat_in": 64}}, ["encoder.feat_in: 64"]),
        ("citrinet", {"encoder": {"jasper": [{"kernel": [3, 5], "tower": 2}]}}, ["0.kernel: [3, 5]", "0.tower: 2"]),
    ],
    ids=str,
)  # fmt: skip
def test_what_is_not_supported_is_named_with_its_value(
    name: str, change: dict[str, Any], named: list[str], tmp_path: Path
) -> None:
    with pytest.raises(AnadilError) as caught:
        read_nemo(write_case(tmp_path / "m.nemo", name, **change))
    assert all(word in str(caught.value) for word in [*named, "m.nemo"]), caught.value


def test_weights_that_do_not_fit_are_named(tmp_path: Path) -> None:
    case = golden()[0]["striding"]
    weights = {name: weight(name, tuple(shape)) for name, shape in case["weights"].items()}
    weights["encoder.extra.weight"] = weights.pop("decoder.decoder_layers.0.bias")
    weights["encoder.pre_encode.out.bias"] = torch.zeros(9)
    weights["encoder.layers.0.norm_out.bias"][3] = torch.nan
    with pytest.raises(AnadilError) as caught:
        read_nemo(write_archive(tmp_path / "m.nemo", case["config"], weights))
    for text in ("0.bias is missing", "extra.weight has no place", "out.bias is (9,), expected from the config is (8,)",
                 "encoder.layers.0.norm_out.bias holds NaN"):  # fmt: skip
        assert text in str(caught.value)


def test_an_archive_with_other_mel_filters_is_refused(tmp_path: Path) -> None:
    case = golden()[0]["striding"]
    weights = {name: weight(name, tuple(shape)) for name, shape in case["weights"].items()}
    weights["preprocessor.featurizer.fb"] = torch.rand(1, 16, 257)
    with pytest.raises(AnadilError, match=r"preprocessor\.featurizer\.fb"):
        read_nemo(write_archive(tmp_path / "m.nemo", case["config"], weights))


def test_the_decoder_of_a_hybrid_is_left_out_and_reported(tmp_path: Path) -> None:
    model = read_nemo(write_case(tmp_path / "m.nemo", "hybrid"))
    assert any("RNNT" in one for one in model.left_out)
    assert not any("joint" in name for name in model.loaded.acoustic.network.state_dict())


def test_configs_of_the_first_nemo_are_read(tmp_path: Path) -> None:
    case = golden()[0]["citrinet"]
    config = {
        name: {"cls": section.pop("_target_"), "params": section} if isinstance(section, dict) else section
        for name, section in ((name, dict(s) if isinstance(s, dict) else s) for name, s in case["config"].items())
    }
    weights = {name: weight(name, tuple(shape)).half() for name, shape in case["weights"].items()}
    found = read_nemo(write_archive(tmp_path / "m.nemo", config, weights)).loaded.acoustic
    same = read_nemo(write_case(tmp_path / "n.nemo", "citrinet")).loaded.acoustic
    assert found.network.settings == same.network.settings
    assert next(found.parameters()).dtype == torch.float32


def test_interpolations_and_the_section_model_are_resolved(tmp_path: Path) -> None:
    case = golden()[0]["striding"]
    config = {**case["config"], "encoder": {**case["config"]["encoder"], "feat_in": "${model.preprocessor.features}"}}
    weights = {name: weight(name, tuple(shape)) for name, shape in case["weights"].items()}
    for data in (config, {"model": config}):
        assert read_nemo(write_archive(tmp_path / "m.nemo", data, weights)).loaded.rules.labels == (" ", "a", "b", "ş")
    config["encoder"]["d_model"] = "${oc.env:WIDTH}"
    with pytest.raises(AnadilError, match=r"encoder\.d_model: \$\{oc\.env:WIDTH\}"):
        read_nemo(write_archive(tmp_path / "m.nemo", config, weights))


@pytest.mark.parametrize("name", ["limited context, no biases, shared positions", "reduction by striding, behind all",
                                  "projection, fused norm", "dense residuals"])  # fmt: skip
def test_the_table_of_layers_adds_up(name: str, tmp_path: Path) -> None:
    acoustic = read_nemo(write_case(tmp_path / "m.nemo", name)).loaded.acoustic
    columns, rows = layer_table(acoustic)
    *parts, total = [int(row[-1].replace(",", "")) for row in rows]
    assert {len(row) for row in rows} == {len(columns)}
    assert sum(parts) == total == count_parameters(acoustic) > 1000
