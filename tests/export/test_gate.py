from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest

from anadil.errors import AnadilError
from anadil.evaluation.evaluate import Evaluation, score
from anadil.export.gate import Version, choose_int8, paired_interval
from anadil.export.layout import read_rules, read_settings
from anadil.export.onnx import ExportOptions, export_folder
from anadil.export.quantize import Int8, divergence, open_session, read_layers, sensitivities, simplified
from anadil.export.speech import feed, read_speech
from anadil.manifest import Utterance
from anadil.recognition.load import load
from tests.support.command_line import fails, succeeds
from tests.support.lines import write_lines
from tests.support.micro import TEXTS


@pytest.fixture(scope="module")
def valid(micro: Path) -> Path:
    """Forty utterances, each of the micro corpus's five times."""
    lines = [{"audio_filepath": f"clips/{i % 8}.wav", "text": TEXTS[i % 8], "language": "en"} for i in range(40)]
    return write_lines(micro / "forty.jsonl", lines)


def types_of(graph: Path) -> set[str]:
    return {node.op_type for node in onnx.load(str(graph)).graph.node}


def version(name: str, size: int, speed: float, increase: float, upper: float | None) -> Version:
    one = Utterance(audio_filepath="a.wav", text="a", duration=1.0)
    interval = None if upper is None else (-upper, upper)
    return Version(name, "int8", size, speed, score([one], ["a"], ["a"]), increase, interval)


FLOAT = version("float", 100, 10.0, 0.0, None)


@pytest.mark.parametrize(
    ("one", "fault"),
    [
        (version("smaller", 30, 9.0, 0.003, 0.006), None),
        (version("faster", 100, 20.0, 0.0, 0.001), None),
        (version("neither", 95, 10.4, 0.0, 0.001), "neither smaller nor faster"),
        (version("worse", 30, 20.0, 0.0031, 0.006), "0.31 points higher, allowed are 0.3"),
        (version("uncertain", 30, 20.0, 0.002, 0.0091), "more utterances would tell"),
        (version("few", 30, 20.0, 0.0, None), "too few utterances"),
    ],
    ids=lambda one: one.name if isinstance(one, Version) else "",
)
def test_a_version_is_kept_if_it_is_smaller_or_faster_and_hardly_worse(one: Version, fault: str | None) -> None:
    found = one.is_good(FLOAT, 0.003)
    assert found == fault if fault is None else fault in (found or "")


def test_the_interval_of_the_increase_is_paired() -> None:
    utterances = [Utterance(audio_filepath=f"{i}.wav", text="abcd", duration=1.0) for i in range(40)]
    texts = ["abcd" if i % 2 else "xyzw" for i in range(40)]
    worse = [text[:-1] + "q" for text in texts]  # one more error in each second utterance: the last letter
    references = ["abcd"] * 40
    first, second = score(utterances, references, texts), score(utterances, references, worse)
    low, high = paired_interval(first, second) or (0, 0)
    assert 0.05 < low < 20 / 160 < high < 0.2
    assert paired_interval(first, first) == (0.0, 0.0)


def test_int8_is_written_smaller_and_recognises_the_same(tmp_path: Path, micro: Path, valid: Path) -> None:
    out = tmp_path / "out"
    exported = export_folder(micro / "run/best", out, options=ExportOptions("always", valid))
    assert exported.choice is not None and exported.choice.kept.precision == "int8"
    assert exported.n_utterances == 40 and exported.choice.n_calibration == 14
    assert "QuantizeLinear" in types_of(out / "model.onnx")
    assert json.loads((out / "config.json").read_text())["precision"] == "int8"
    recognizer = load(out)
    assert [recognizer.transcribe(micro / f"clips/{i}.wav").text for i in range(8)] == list(TEXTS)
    card = (out / "README.md").read_text()
    assert "| int8, calibrated |" in card and "| kept |" in card and "26 utterances of forty.jsonl" in card
    assert not [path for path in out.iterdir() if path.name.startswith(".")]


def test_features_and_head_stay_float(tmp_path: Path, exported: Path, micro: Path, valid: Path) -> None:
    int8, layers, _ = made(tmp_path, exported, valid)
    int8.write(tmp_path / "all.onnx")
    quantised = weights_in_int8(tmp_path / "all.onnx")
    assert set(layers.weighted) == quantised
    assert layers.head not in quantised and not any(name.startswith("/features/") for name in quantised)
    int8.write(tmp_path / "some.onnx", layers.weighted[:1])
    assert weights_in_int8(tmp_path / "some.onnx") == quantised - {layers.weighted[0]}


def made(tmp_path: Path, exported: Path, valid: Path) -> tuple[Int8, Any, list[Any]]:
    settings = read_settings(exported)
    speech = read_speech(valid, read_rules(exported, settings), 16000)
    simplified(exported / "model.onnx", tmp_path / "simple.onnx")
    layers = read_layers(tmp_path / "simple.onnx")
    inputs = [feed([waveform], settings.min_samples) for waveform in speech.waveforms[:8]]
    return Int8(tmp_path / "simple.onnx", layers, inputs), layers, inputs


def weights_in_int8(graph: Path) -> set[str]:
    model = onnx.load(str(graph)).graph
    weights = {one.name for one in model.initializer if one.data_type == onnx.TensorProto.INT8 and len(one.dims) > 1}
    float_again = {node.output[0] for node in model.node if node.input and node.input[0] in weights}
    return {node.name for node in model.node if node.op_type == "Conv" and node.input[1] in float_again}


def test_the_sensitive_part_is_found_by_measurement(tmp_path: Path, exported: Path, valid: Path) -> None:
    """A pointwise layer has huge weights for a channel that is always zero: int8 rounds all its other weights to zero.

    Float is exact there, on processors that add products of int8 with saturation too.
    """
    shutil.copytree(exported, tmp_path / "copy")
    model = onnx.load(str(tmp_path / "copy/model.onnx"))
    depthwise, pointwise = read_layers(tmp_path / "copy/model.onnx").weighted[2:4]
    for name, place, value in ((depthwise, np.s_[0], 0.0), (pointwise, np.s_[:, 0], 1000.0)):
        node = next(node for node in model.graph.node if node.name == name)
        (weight,) = (one for one in model.graph.initializer if one.name == node.input[1])
        values = onnx.numpy_helper.to_array(weight).copy()
        values[place] = value
        weight.CopyFrom(onnx.numpy_helper.from_array(values, weight.name))
    onnx.save(model, str(tmp_path / "copy/model.onnx"))
    int8, layers, inputs = made(tmp_path, tmp_path / "copy", valid)
    done: list[int] = []
    found = sensitivities(
        int8, layers, open_session(tmp_path / "simple.onnx"), tmp_path, inputs, lambda n, total: done.append(n)
    )
    assert found[0][0] == pointwise and found[0][1] > 10 * abs(found[1][1])
    assert [fall for _, fall in found] == sorted((fall for _, fall in found), reverse=True)
    assert done == list(range(1, len(layers.groups) + 1))


def test_a_part_that_stays_float_is_float_in_onnx_runtime_too(tmp_path: Path, exported: Path, valid: Path) -> None:
    """ONNX Runtime must not quantise a float convolution between quantised layers again, less exactly than we do."""
    int8, layers, _ = made(tmp_path, exported, valid)
    n_all = len(layers.weighted)
    for nodes in layers.groups.values():
        int8.write(tmp_path / "part.onnx", nodes)
        options = onnxruntime.SessionOptions()
        options.optimized_model_filepath = str(tmp_path / "optimised.onnx")
        onnxruntime.InferenceSession(str(tmp_path / "part.onnx"), options, providers=["CPUExecutionProvider"])
        run = [node.op_type for node in onnx.load(str(tmp_path / "optimised.onnx")).graph.node]
        in_int8 = weights_in_int8(tmp_path / "part.onnx")
        assert run.count("QLinearConv") == len(in_int8) < n_all
        assert not in_int8 & set(nodes)


def test_weights_have_seven_bits_so_that_no_processor_overflows(tmp_path: Path, exported: Path, valid: Path) -> None:
    """Without VNNI two products of uint8 and int8 are added in 16 bits: 2 * 255 * 64 fits, 2 * 255 * 127 does not."""
    int8, layers, _ = made(tmp_path, exported, valid)
    int8.write(tmp_path / "int8.onnx")
    assert weights_in_int8(tmp_path / "int8.onnx") == set(layers.weighted)
    for one in onnx.load(str(tmp_path / "int8.onnx")).graph.initializer:
        if one.data_type == onnx.TensorProto.INT8 and len(one.dims) > 1:
            assert 60 <= np.abs(onnx.numpy_helper.to_array(one).astype(int)).max() <= 64, one.name


def test_divergence_is_that_of_kullback_and_leibler() -> None:
    wanted, given = (np.log(np.array([[[0.5, 0.5], [0.9, 0.1]]])) for _ in range(2))
    given[0, 0] = np.log([0.25, 0.75])
    expected = (0.5 * np.log(0.5 / 0.25) + 0.5 * np.log(0.5 / 0.75)) / 2
    assert divergence([(wanted, np.array([2]))], [(given, np.array([2]))]) == pytest.approx(expected)
    assert divergence([(wanted, np.array([0]))], [(given, np.array([0]))]) == 0


def test_too_many_errors_keep_float(
    tmp_path: Path, exported: Path, valid: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An int8 graph whose weights are wrong is measured, and not written; with `always` it is, and says so."""
    import anadil.export.gate as gate

    settings = read_settings(exported)
    rules = read_rules(exported, settings)
    speech = read_speech(valid, rules, 16000, 30)
    real = gate.recognise

    def with_errors(session: Any, *arguments: Any) -> Evaluation:
        found = real(session, *arguments)
        if any("Quantize" in str(one) for one in session.get_modelmeta().custom_metadata_map) or session not in floats:
            return score(
                [one.utterance for one in found.scored],
                [one.reference for one in found.scored],
                ["" if i % 4 == 0 else one.hypothesis for i, one in enumerate(found.scored)],
            )
        return found

    floats: list[Any] = []
    opened = gate.open_session

    def remember(path: Path, threads: int = 1) -> Any:
        session = opened(path, threads)
        if path.name == "model.onnx":
            floats.append(session)
        return session

    monkeypatch.setattr(gate, "recognise", with_errors)
    monkeypatch.setattr(gate, "open_session", remember)
    shutil.copytree(exported, tmp_path / "copy")
    graph = tmp_path / "copy/model.onnx"
    before = graph.read_bytes()
    choice = choose_int8(graph, settings, rules, speech, "auto", 0.003)
    assert choice.kept is choice.versions[0] and graph.read_bytes() == before
    assert len(choice.versions) == 5  # with ever more parts float
    assert all("points higher, allowed are 0.3" in reason for reason in choice.reasons)
    choice = choose_int8(graph, settings, rules, speech, "always", 0.003)
    assert choice.kept.precision == "int8" and graph.read_bytes() != before
    assert any("kept, although its CER" in reason for reason in choice.reasons)


def test_float16_keeps_text_features_and_types(tmp_path: Path, micro: Path, valid: Path) -> None:
    out = tmp_path / "out"
    export_folder(micro / "run/best", out, options=ExportOptions(calibrate=valid, float16=True))
    graph = onnx.load(str(out / "model.onnx")).graph
    sizes = {one.data_type for one in graph.initializer if len(one.dims) == 4 and one.dims[0] == 16}
    assert sizes == {onnx.TensorProto.FLOAT16}
    fixed = {one.name: one for one in graph.initializer}
    (fourier,) = (node for node in graph.node if node.name == "/features/Conv")
    assert fixed[fourier.input[1]].data_type == onnx.TensorProto.FLOAT
    recognizer = load(out)
    assert [recognizer.transcribe(micro / f"clips/{i}.wav").text for i in range(8)] == list(TEXTS)


# --- what cannot be used


def test_wishes_that_need_speech_name_the_option(tmp_path: Path, micro: Path) -> None:
    model, out = micro / "run/best", tmp_path / "out"
    assert "add --calibrate MANIFEST" in fails("export", model, "--out", out, "--int8", "auto")
    assert "add --calibrate MANIFEST" in fails("export", model, "--out", out, "--fp16")
    assert "export twice" in fails("export", model, "--out", out, "--fp16", "--int8", "auto", "--calibrate", "x")
    assert "float only" in fails(
        "export", model, "--out", out, "--layout", "onnx-asr", "--int8", "auto", "--calibrate", "x"
    )
    assert not out.exists()


def test_a_manifest_that_is_too_small_or_of_another_language_is_refused(tmp_path: Path, micro: Path) -> None:
    def message(lines: list[dict[str, Any]]) -> str:
        manifest = write_lines(tmp_path / "m.jsonl", lines)
        text = fails("export", micro / "run/best", "--out", tmp_path / "out", "--int8", "auto", "--calibrate", manifest)
        assert not (tmp_path / "out").exists()
        return text

    clip = {"audio_filepath": str(micro / "clips/0.wav"), "text": "abc"}
    assert "has 29 utterances; at least 30 are needed" in message([clip] * 29)
    assert "its language is tr (30 utterances), but the model's is en" in message([clip | {"language": "tr"}] * 30)
    assert "no label for 100% of the characters" in message([clip | {"text": "xyz"}] * 30)
    assert "does not recognise this speech" in message([clip | {"text": "b b b b b b"}] * 30)
    assert "audio file not found" in message([clip] * 30 + [clip | {"audio_filepath": "none.wav"}])


def test_a_graph_without_layers_is_refused(tmp_path: Path) -> None:
    node = onnx.helper.make_node("Relu", ["x"], ["y"], name="only")
    tensors = [onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [1]) for name in "xy"]
    graph = onnx.helper.make_graph([node], "g", tensors[:1], tensors[1:])
    onnx.save(onnx.helper.make_model(graph), str(tmp_path / "g.onnx"))
    with pytest.raises(AnadilError, match=r"no layer that can be quantised to int8.*\n  next: .*--int8 never"):
        read_layers(tmp_path / "g.onnx")


def test_the_verb_prints_the_table_and_the_folder(tmp_path: Path, micro: Path, valid: Path) -> None:
    result = succeeds("export", micro / "run/best", "--out", tmp_path / "o", "--int8", "always", "--calibrate", valid)
    assert result.stdout == f"{tmp_path / 'o'}\n"
    assert "int8, calibrated" in result.stderr and "on noise and on speech of" in result.stderr
