"""Cases of hostile input that once gave a traceback, a hang or gigabytes, and what is right for each."""

from __future__ import annotations

import io
import json
import tarfile
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from tests.support.fuzz_cases import DIGITS, Case, Prepare

TALK, MICRO = ("talk.wav",), ("train.jsonl", "clips")
TRANSCRIBE = ("transcribe", "in/exported", "in/talk.wav")
TRAIN = ("train", "in/config.yaml", "data.train=in/train.jsonl", "data.valid=in/train.jsonl", "--out", "out")
BIG = "@@big@@"
"""Written as an integer of 5,000 digits."""


IMPORT_WAV = "import, converting to WAV"


def known_cases() -> Iterator[Case]:
    """All of them."""
    yield from _exported_settings()
    yield from _graphs()
    yield from _model_folders()
    yield from _settings()
    yield from _data()
    yield from _interrupted()


def write(name: str, content: bytes | str) -> Prepare:
    """Put a file in place of the seed's."""
    data = content if isinstance(content, bytes) else content.encode("utf-8", "surrogatepass")

    def prepare(folder: Path) -> None:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)

    return prepare


def change_json(name: str, **values: Any) -> Prepare:
    """Set keys of a JSON file."""

    def prepare(folder: Path) -> None:
        data = json.loads((folder / name).read_text(encoding="utf-8")) | values
        text = json.dumps(data, ensure_ascii=False).replace(f'"{BIG}"', DIGITS)
        (folder / name).write_text(text, encoding="utf-8")

    return prepare


def change_yaml(name: str, change: Callable[[dict[str, Any]], Any]) -> Prepare:
    """Change the data of a YAML file."""

    def prepare(folder: Path) -> None:
        data = yaml.safe_load((folder / name).read_text(encoding="utf-8"))
        change(data)
        (folder / name).write_text(yaml.safe_dump(data).replace(f"'{BIG}'", DIGITS), encoding="utf-8")

    return prepare


# An exported folder that lies


def _exported_settings() -> Iterator[Case]:
    lies: tuple[tuple[str, Any, str], ...] = (
        *(("sample_rate", value, "sample_rate") for value in (0, -1, 3, 10**9, 10**30, 16000.5, True, None, "x", [1])),
        *(("frame_s", value, "frame_s") for value in (0, -1, 1e300, 1e-300, float("nan"), float("inf"), 0.2, 0.004)),
        *(("min_samples", value, "min_samples") for value in (0, 10**12, 10**30, 1e300, True)),
        *(("longest_pause_s", value, "longest_pause_s") for value in (0, 1e9, float("nan"))),
        ("sample_rate", BIG, "config.json"), ("min_samples", BIG, "config.json"), ("frame_s", BIG, "config.json"),
        ("labels", [], "labels"), ("labels", [" ", "a"], "labels"), ("labels", list("abcdefgh"), "labels"),
        ("labels", [f"l{i}" for i in range(70_000)], "labels"), ("labels", ["a", "a", "b", "c"], "labels"),
        ("labels", [" ", "a", "b", 5], "labels"), ("labels", "auto", "labels"), ("version", 2, "version"),
        ("text", {}, "text"), ("text", [], "text"), ("text", {"version": 99, "language": "en"}, "version"),
        ("text", {"version": BIG, "language": "en"}, "config.json"),
        ("text", {"version": 3, "language": "en", "casing": "odd"}, "casing"), ("language", "xx", "language"),
        ("beam", 5, "beam"), ("subwords", True, "tokenizer.model"),
    )  # fmt: skip
    for n, (key, value, message) in enumerate(lies):
        prepare = change_json("exported/config.json", **{key: value})
        yield Case(f"exported {key} lies ({n})", TRANSCRIBE, ("exported", *TALK), prepare, 1, message)
    for name, content in {
        "nested": "[" * 100_000, "empty": "", "a list": "[]", "not UTF-8": b"\xff\xfe{}", "zeros": b"\0" * 1000,
        "70 MB": b'{"a": "' + b"x" * 70_000_000 + b'"}',
    }.items():  # fmt: skip
        yield Case(f"exported config is {name}", TRANSCRIBE, ("exported", *TALK), write("exported/config.json", content), 1,
                   "config.json")  # fmt: skip
    for name, content in {"garbage": b"garbage", "empty": b"", "zeros": bytes(5000)}.items():
        yield Case(f"exported SentencePiece file is {name}", ("transcribe", "in/bpe-exported", "in/talk.wav"),
                   ("bpe-exported", *TALK), write("bpe-exported/tokenizer.model", content), 1, "tokenizer.model")  # fmt: skip
    yield Case("exported vocabulary has other labels", TRANSCRIBE, ("exported", *TALK),
               write("exported/vocab.txt", "a 0\nb 1\n"), 1, "vocab.txt")  # fmt: skip


# A graph that lies


def graph(**changes: Any) -> Prepare:
    """Write a small graph of 5 labels whose log-probs are even, with parts of it changed."""
    from onnx import TensorProto, helper

    options = {"inputs": ("waveforms", "sample_counts"), "rank": 2, "wave": TensorProto.FLOAT, "labels": 5, "value": None,
               "count": TensorProto.INT64, "factor": 1, "declared": None, "outputs": ("log_probs", "frame_counts")}  # fmt: skip
    options |= changes
    n, (wave, counts) = options["labels"], options["inputs"]
    value = float(np.log(1 / n)) if options["value"] is None else options["value"]
    hop, fill = 640, helper.make_tensor("v", TensorProto.FLOAT, [1], [value])
    constants = [("hop", [hop]), ("one", [1]), ("labels", [n]), ("factor", [options["factor"]]), ("axis", [1])]
    nodes = [
        helper.make_node("Shape", [wave], ["shape"]),
        helper.make_node("Gather", ["shape", "zero"], ["batch"]),
        helper.make_node("ReduceMax", [counts], ["longest"], keepdims=1),
        helper.make_node("Div", ["longest", "hop"], ["frames"]),
        helper.make_node("Concat", ["batch", "frames", "labels"], ["size"], axis=0),
        helper.make_node("ConstantOfShape", ["size"], [options["outputs"][0]], value=fill),
        helper.make_node("Div", [counts, "hop"], ["whole"]),
        helper.make_node("Mul", ["whole", "factor"], ["scaled"]),
        helper.make_node("Cast", ["scaled"], [options["outputs"][1]], to=options["count"]),
    ]
    tensors = [
        helper.make_tensor(name, TensorProto.INT64, [1], content) for name, content in (*constants, ("zero", [0]))
    ]
    shape = ["batch", "samples", "channels"][: options["rank"]]
    made = helper.make_graph(
        nodes, "g",
        [helper.make_tensor_value_info(wave, options["wave"], shape),
         helper.make_tensor_value_info(counts, TensorProto.INT64, ["batch"])],
        [helper.make_tensor_value_info(options["outputs"][0], TensorProto.FLOAT, ["batch", "frames", options["declared"]]),
         helper.make_tensor_value_info(options["outputs"][1], options["count"], ["batch"])],
        tensors,
    )  # fmt: skip
    model = helper.make_model(made, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    return write("exported/model.onnx", model.SerializeToString())


def _graphs() -> Iterator[Case]:
    from onnx import TensorProto

    lies: dict[str, tuple[Prepare, str]] = {
        "other inputs": (graph(inputs=("audio", "lengths")), "inputs"),
        "other outputs": (graph(outputs=("logits", "n")), "outputs"),
        "waveforms of rank 3": (graph(rank=3), "waveforms"),
        "waveforms of integers": (graph(wave=TensorProto.INT16), "waveforms"),
        "float frame counts": (graph(count=TensorProto.FLOAT), "frame_counts"),
        "9 labels, as declared": (graph(labels=9, declared=9), "labels"),
        "9 labels, not declared": (graph(labels=9), "labels"),
        "more frames than it returns": (graph(factor=3), "frame_counts"),
        "frame counts below 0": (graph(factor=-1), "frame_counts"),
        "NaN log-probs": (graph(value=float("nan")), "NaN"),
        "positive log-probs": (graph(value=3.0), "log-probs"),
    }
    for name, (prepare, message) in lies.items():
        yield Case(f"graph with {name}", TRANSCRIBE, ("exported", *TALK), prepare, 1, message)
    yield Case("graph of our own, right", TRANSCRIBE, ("exported", *TALK), graph(), 0)
    evaluate = ("evaluate", "in/exported", "in/train.jsonl")
    yield Case(
        "evaluate a graph with NaN log-probs", evaluate, ("exported", *MICRO), graph(value=float("nan")), 1, "NaN"
    )
    label = ("pseudo-label", "in/exported", "in/talk.wav", "--min-confidence", "0", "--out", "out.jsonl")
    yield Case("pseudo-label with NaN log-probs", label, ("exported", *TALK), graph(value=float("nan")), 1, "NaN")
    yield Case(
        "graph of 1,000 frames per hop", TRANSCRIBE, ("exported", *TALK), graph(factor=10**12), 1, "frame_counts"
    )


# A model folder that lies


def _model_folders() -> Iterator[Case]:
    def nan_weights(folder: Path) -> None:
        import torch
        from safetensors.torch import load_file, save_file

        weights = load_file(folder / "model/model.safetensors")
        first = next(name for name, tensor in weights.items() if tensor.is_floating_point())
        weights[first] = torch.full_like(weights[first], float("nan"))
        save_file(weights, folder / "model/model.safetensors")

    transcribe = ("transcribe", "in/model", "in/talk.wav")

    def case(name: str, prepare: Prepare, message: str) -> Case:
        return Case(f"model folder, {name}", transcribe, ("model", *TALK), prepare, 1, message)

    def changed(section: str | None, key: str, value: Any) -> Prepare:
        def change(data: dict[str, Any]) -> None:
            (data if section is None else data.setdefault(section, {}))[key] = value

        return change_yaml("model/config.yaml", change)

    yield case("NaN weights", nan_weights, "NaN")
    yield case("unknown section", changed(None, "decoder", {"beam": 5}), "decoder")
    yield case("wrong training section", changed(None, "training", [1]), "training")
    yield case("labels missing", changed("tokenizer", "labels", []), "labels")
    yield case("too many labels", changed("tokenizer", "labels", list("abcdefgh")), "weights")
    yield case("other mel bands", changed("features", "mels", 64), "weights")
    yield case("a billion mel bands", changed("features", "mels", 10**9), "mels")
    yield case("5,000 digits", changed("features", "mels", BIG), "config.yaml")
    yield case("huge sample rate", changed("features", "sample_rate", 10**9), "sample_rate")
    yield case("huge Fourier transform", changed("features", "n_fft", 2**40), "n_fft")
    yield case("infinite guard", changed("features", "log_guard", float("inf")), "log_guard")
    yield case("unused features", changed(None, "model", {"kind": "wav2vec2"}), "features")
    yield case("huge Conformer", changed(None, "model", {"kind": "conformer", "d_model": 2**20}), "d_model")
    yield case("deep Conformer", changed(None, "model", {"kind": "conformer", "n_layers": 10**6}), "n_layers")
    wide = {"kind": "conformer", "d_model": 4096, "n_layers": 100, "n_heads": 4}
    yield case("a Conformer that the weights are not", changed(None, "model", wide), "weights")
    block = {"filters": 10**9, "kernel": 9}
    yield case("a billion filters", changed(None, "model", {"blocks": [block]}), "filters")
    wide_block = {"filters": 16, "kernel": 10**9 + 1}
    yield case("a billion taps", changed(None, "model", {"blocks": [wide_block]}), "kernel")
    yield case("a preset that the weights are not", changed(None, "model", {"preset": "15x5"}), "weights")
    yield case("subwords without a file", changed("tokenizer", "kind", "bpe"), "tokenizer.model")
    yield case("language of another kind", changed(None, "language", [1]), "language")
    yield case("huge pause", changed("data", "longest_pause", 1e9), "longest_pause")
    garbage = write("bpe-model/tokenizer.model", b"garbage")
    yield Case("model folder, garbage SentencePiece file", ("transcribe", "in/bpe-model", "in/talk.wav"),
               ("bpe-model", *TALK), garbage, 1, "tokenizer.model")  # fmt: skip
    nested = write("model/config.yaml", "a: " + "[" * 5000)
    yield case("nested YAML", nested, "config.yaml")
    bomb = "a0: &a0 [x, x, x, x, x, x, x, x, x]\n" + "".join(
        f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]\n" for i in range(1, 12)
    )
    yield case("YAML aliases", write("model/config.yaml", bomb), "aliases")
    yield case("20 MB of YAML", write("model/config.yaml", "a: " + "x" * 20_000_000), "bytes")


# Settings at the edge


def _settings() -> Iterator[Case]:
    wrong: dict[str, str] = {
        "training.lr": ".inf .nan -1 0 1e9", "training.weight_decay": ".inf .nan -1", "training.seed": f"-1 {2**64} 1.5",
        "training.betas": "[1,0.9] [-0.1,0.9] [0.9,1] [.nan,0.9]", "training.epochs": "0 -1 1000000000000",
        "training.devices": "0 1000000", "training.max_minutes": "0 .inf .nan", "training.batch_seconds": "0 .inf 1e300",
        "training.clip_norm": "0 .nan", "training.ema_decay": "1 .nan", "training.warmup_steps": "-1 1e400",
        "training.average_last": "-1", "training.accumulate": "0 1000000000", "training.checkpoint_minutes": ".nan 0",
        "training.consistency": ".inf", "data.cache_mb": ".inf .nan", "data.cache_gb": ".inf",
        "data.max_duration": ".inf .nan", "data.language_temperature": ".inf", "features.dither": ".inf",
        "features.pad_to": "1000000000000", "features.frame_splicing": "1000000", "features.magnitude_power": "1e30",
        "augment.spec_augment.freq_masks": "1000000000", "augment.spec_augment.time_masks": "-1",
        "augment.gain": "{db: [.nan,.nan]}", "tokenizer.size": "1000000000", "model.blocks": "[]",
        "tokenizer.sampling": ".nan", "data.pseudo_label_weight": ".nan",
    }  # fmt: skip
    for key, values in wrong.items():
        last = key.rpartition(".")[2]
        for value in ["{db: [.nan,.nan]}"] if last == "gain" else values.split():
            yield Case(f"{key}={value}", (*TRAIN, f"{key}={value}"), ("config.yaml", *MICRO), status=1, message=last)
    yield Case(
        "seed of 5,000 digits", (*TRAIN, f"training.seed={DIGITS}"), ("config.yaml", *MICRO), status=1, message="seed"
    )
    yield Case("1,000 devices", (*TRAIN, "training.devices=1000"), ("config.yaml", *MICRO), status=1, message="devices")
    yield Case("a GPU that is not there", (*TRAIN, "training.accelerator=cuda"), ("config.yaml", *MICRO), status=1,
               message="accelerator")  # fmt: skip
    yield Case("a million epochs, a moment each", (*TRAIN, "training.epochs=1000000", "training.max_minutes=0.001"),
               ("config.yaml", *MICRO), status=0)  # fmt: skip
    yield Case("largest seed", (*TRAIN, f"training.seed={2**32 - 1}"), ("config.yaml", *MICRO), status=0)
    yield Case("demo in no time", ("demo", "--minutes", "0", "--out", "out"), status=2, message="minutes")
    yield Case("demo of no speech", ("demo", "--hours", "0", "--out", "out"), status=2, message="hours")
    yield Case("a million copies", ("augment", "in/train.jsonl", "gain.db=3", "--copies", "1000000", "--out", "out"), MICRO,
               status=2, message="copies")  # fmt: skip


# Data


def _data() -> Iterator[Case]:
    def kaldi(name: str, segments: str, message: str) -> Case:
        return Case(f"Kaldi segments {name}", ("import", "kaldi", "in/kaldi", "--out", "out"), ("kaldi", *TALK),
                    write("kaldi/segments", segments), None, message)  # fmt: skip

    yield kaldi("below 0", "u1 talk -3 -1\nu2 talk -5 0.4\n", "lasts from")
    yield kaldi("not numbers", f"u1 talk nan inf\nu2 talk 1e999 {DIGITS}\n", "number of seconds")
    yield kaldi("far away", "u1 talk 1e300 1e301\nu2 talk 0.1 0.5\n", "outside")
    yield kaldi("backwards", "u1 talk 0.9 0.2\nu2 talk 0.1 0.5\n", "lasts from")

    def corpus(name: str, prepare: Prepare, message: str, file: str = "corpus.tar") -> Case:
        return Case(name, ("import", "folder", f"in/{file}", "--out", "out", "--lang", "tr"), (), prepare, 1, message)

    yield corpus("a tar 1,000 folders deep", _tar({"/".join(["d"] * 1000) + "/a.wav": b"x"}), "folders deep")
    yield corpus("a tar with a name of 300 letters", _tar({"a" * 300 + ".wav": b"x"}), "name")
    yield corpus("a tar that leads outside", _tar({"../a.wav": b"x"}), "leads out")
    yield corpus("a tar with a zero in a name", _tar({"a\0b.wav": b"x"}), "check the path")
    yield corpus("a zip bomb", _zip({"a.wav": bytes(300_000_000)}), "grow more than", "corpus.zip")
    yield corpus("an archive that is text", write("corpus.zip", "text"), "damaged", "corpus.zip")

    def workbook(name: str, change: Callable[[str], str], message: str) -> Case:
        return Case(f"spreadsheet with {name}", ("import", "table", "in/table.xlsx", "--out", "out", "--lang", "tr"),
                    ("table.xlsx", *TALK), _sheet(change), 1, message)  # fmt: skip

    yield workbook("row 1,000,000,000", lambda xml: xml.replace('<row r="3"', '<row r="1000000000"'), "row")
    yield workbook("row of 5,000 digits", lambda xml: xml.replace('<row r="3"', f'<row r="{DIGITS}"'), "workbook")
    yield workbook("an entity bomb", _entities, "workbook")

    def manifest(
        name: str, line: str, message: str, verb: tuple[str, ...] = ("split", "in/m.jsonl", "--out", "out")
    ) -> Case:
        return Case(f"manifest with {name}", verb, (), write("m.jsonl", line + "\n"), 1, message)

    good = '{"audio_filepath": "a.wav", "text": "a"'
    yield manifest("a duration of 5,000 digits", good + f', "duration": {DIGITS}}}', "digits")
    yield manifest("an offset of 1e999", good + ', "offset": 1e999}', "offset")
    yield manifest("a key of 5,000 digits", good + f', "note": {DIGITS}}}', "digits")
    yield manifest("deep nesting", good + ', "note": ' + "[" * 100_000 + "}", "JSON")
    yield manifest("a line of 200 MB", good + ', "note": "' + "x" * 200_000_000 + '"}', "m.jsonl:1")
    yield manifest("a zero in a path", '{"audio_filepath": "a\\u0000.wav", "text": "a"}', "audio")
    yield manifest("a path of 3,000 letters", '{"audio_filepath": "' + "a" * 3000 + '", "text": "a"}', "audio")
    subtitle = f"1\n{DIGITS}:00:00,000 --> {DIGITS}:00:01,000\nhello\n"
    yield Case("subtitles with times of 5,000 digits", ("import", "srt", "in/talk.srt", "--out", "out", "--lang", "tr"),
               ("talk.srt", *TALK), write("talk.srt", subtitle), 1, "talk.srt")  # fmt: skip
    for name in ("talk.flac", "talk.mp4"):
        yield Case(
            f"an empty {name}", ("transcribe", "in/exported", f"in/{name}"), ("exported",), write(name, b""), 1, name
        )
    yield Case("an empty folder of audio", ("transcribe", "in/exported", "in/none"), ("exported",),
               lambda folder: (folder / "none").mkdir(), 1, "no audio")  # fmt: skip


def _tar(members: dict[str, bytes]) -> Prepare:
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w") as tar:
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return write("corpus.tar", content.getvalue())


def _zip(members: dict[str, bytes]) -> Prepare:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED) as packed:
        for name, data in members.items():
            packed.writestr(name, data)
    return write("corpus.zip", content.getvalue())


def _sheet(change: Callable[[str], str]) -> Prepare:
    """Change the XML of the workbook's sheet."""

    def prepare(folder: Path) -> None:
        with zipfile.ZipFile(folder / "table.xlsx") as before:
            parts = {name: before.read(name) for name in before.namelist()}
        name = next(name for name in parts if name.startswith("xl/worksheets/"))
        changed = change(parts[name].decode())
        assert changed != parts[name].decode()
        with zipfile.ZipFile(folder / "table.xlsx", "w", zipfile.ZIP_DEFLATED) as after:
            for part, content in (parts | {name: changed.encode()}).items():
                after.writestr(part, content)

    return prepare


def _entities(xml: str) -> str:
    declared = "".join(f'<!ENTITY e{i} "{f"&e{i - 1};" * 10}">' for i in range(1, 12))
    start, rest = xml.split("<worksheet", 1)
    head = f'<!DOCTYPE w [<!ENTITY e0 "lolololol">{declared}]>'
    return start + head + "<worksheet" + rest.replace("</sheetData>", "<row><c><v>&e11;</v></c></row></sheetData>")


# SIGTERM


def _interrupted() -> Iterator[Case]:
    """SIGTERM as soon as something half written is there; `leaves` may stay behind, and nothing else."""

    def large_corpus(folder: Path) -> None:
        """The manifest with each line many times."""
        lines = (folder / "train.jsonl").read_text(encoding="utf-8")
        (folder / "train.jsonl").write_text(lines * 2000, encoding="utf-8")

    def case(
        name: str, arguments: tuple[str, ...], pattern: str, prepare: Prepare, *seeds: str, leaves: str = "(?!)"
    ) -> Case:
        return Case(f"SIGTERM to {name}", arguments, seeds, prepare, 143, "terminated", pattern, leaves=leaves)

    files = {f"c/{i}.{suffix}": bytes(1000) for i in range(20_000) for suffix in ("wav", "txt")}
    augment = ("augment", "in/train.jsonl", "speed.rate=1.1", "speed.probability=1", "--out", "out")
    yield case("augment", augment, "out/.train.*", large_corpus, *MICRO)
    normalize = ("normalize", "in/train.jsonl", "--lang", "en", "--out", "out/n.jsonl")
    yield case("normalize", normalize, "out/.n.jsonl.*", large_corpus, *MICRO)
    yield case("split", ("split", "in/train.jsonl", "--out", "out"), "out/.*", large_corpus, *MICRO)
    build = ("lm", "build", "in/train.jsonl", "--order", "5", "--out", "out/n.arpa")
    yield case("lm build", build, "out/.n.arpa*", large_corpus, *MICRO)
    unpack = ("import", "folder", "in/corpus.tar", "--out", "out", "--lang", "tr")
    yield case("import, unpacking", unpack, "out/unpacked/.*/*", _tar(files))
    yield case("export", ("export", "in/model", "--out", "out"), ".out.*", lambda folder: None, "model")
    yield case(
        "transcribe",
        ("transcribe", "in/exported", "in/many", "--out", "out"),
        "out",
        _many_recordings,
        "exported",
        *TALK,
        leaves=r"out(/\d+\.txt)?",  # the texts of the recordings before, each whole
    )
    convert = ("import", "folder", "in/many", "--wav", "--out", "out", "--lang", "tr")
    yield case(IMPORT_WAV, convert, "out/**/*.wav", _many_recordings, *TALK)
    training = (*TRAIN, "training.epochs=100000")
    yield Case("SIGTERM to train", training, ("config.yaml", *MICRO), status=130, message="--resume", leaves="out(/.*)?",
               terminate="out/last/model.safetensors")  # fmt: skip


def _many_recordings(folder: Path) -> None:
    for n in range(400):
        (folder / "many").mkdir(exist_ok=True)
        (folder / f"many/{n}.wav").write_bytes((folder / "talk.wav").read_bytes())
        (folder / f"many/{n}.txt").write_text("a b c", encoding="utf-8")
