"""Hostile inputs for every reader and every verb: seeds that are valid, mutations of them, and cases that were found before."""

from __future__ import annotations

import copy
import importlib.util
import io
import json
import random
import re
import shutil
import tarfile
import typing
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import soundfile
import typer
import yaml

from tests.support.corpus_seeds import write_corpora
from tests.support.earlier_versions import copy_made
from tests.support.micro import speak

Prepare = Callable[[Path], object]
"""Changes the copy of the seeds' parts that a case reads."""

HUGGING_FACE = importlib.util.find_spec("transformers") is not None

DIGITS = "9" * 5000
"""More than Python turns into an int."""


@dataclass(frozen=True)
class Case:
    """A command, the seeds that it reads, and what is done to them before. Paths are relative to the folder `in`."""

    name: str
    arguments: tuple[str, ...]  # "in/..." and "out/..." name the input and the output
    seeds: tuple[str, ...] = ()
    prepare: Prepare = lambda folder: None
    status: int | None = None  # the exit status that is expected; None: any of 0, 1 and 2
    message: str = ""  # what stderr must contain
    terminate: str | None = None  # SIGTERM as soon as work/ has a path of this pattern
    leaves: str = ".*"  # regular expression of the paths that may be in work/ afterwards

    def set_up(self, seeds: Path, folder: Path) -> list[str]:
        """Copy the seeds to `folder`/in, change them, and return the arguments."""
        (folder / "in").mkdir(parents=True)
        for name in self.seeds:
            source, target = seeds / name, folder / "in" / name
            target.parent.mkdir(parents=True, exist_ok=True)
            if source.is_dir():
                shutil.copytree(source, target, dirs_exist_ok=True)
            else:
                shutil.copy(source, target)
        self.prepare(folder / "in")
        return [
            re.sub(r"(^|=|\[|,)in(?=/|$)/?", rf"\g<1>{folder.as_posix()}/in/", argument) for argument in self.arguments
        ]

    def unexpected(self, folder: Path, status: int, output: str) -> list[str]:
        """What differs from the expected exit status, message and files."""
        work = folder / "work"
        left = [path.relative_to(work).as_posix() for path in work.rglob("*")] if self.leaves != ".*" else []
        left = sorted(path for path in left if not re.fullmatch(self.leaves, path))
        found = (
            [] if self.status in (None, status) else [f"exit status {status}, expected {self.status}: {output[-300:]}"]
        )
        found += [f"left behind: {', '.join(left[:5])}"] if left else []
        return found + ([] if self.message in output else [f"no {self.message!r} in the output: {output[-300:]}"])


# Seeds: a small valid input of every kind

ANNOTATION = "0.5", "1.25", "ağ b"


def write_seeds(folder: Path) -> Path:
    """Write all seeds below `folder`."""
    import torch
    from safetensors.torch import load_file

    from anadil.corpora import audacity, elan, subtitles, textgrid
    from anadil.corpora.segments import Segment
    from anadil.models.nemo.write import write_nemo
    from anadil.text.subwords import train_subwords

    copy_made(folder)  # config.yaml, run/, exported/, train.jsonl, clips/
    shutil.copytree(folder / "run/best", folder / "model")
    config = yaml.safe_load((folder / "config.yaml").read_text(encoding="utf-8"))
    config["training"]["epochs"] = 1
    config["data"] = {"train": ["in/train.jsonl"], "valid": ["in/train.jsonl"]}
    (folder / "config.yaml").write_text(yaml.safe_dump(config), encoding="utf-8")
    write_nemo(folder / "model", folder / "model.nemo")
    with tarfile.open(folder / "model.nemo") as tar:
        member = tar.extractfile("./model_config.yaml")
        assert member is not None
        (folder / "nemo.yaml").write_bytes(member.read())
    weights = load_file(folder / "model/model.safetensors")
    torch.save({"state_dict": weights, "hyper_parameters": {}}, folder / "model.ckpt")
    talk = speak("abc cab")
    for name in ("talk.wav", "talk.flac", "talk.mp3"):
        soundfile.write(str(folder / name), talk, 16000)
    segments = [Segment(0.1, 0.6, 'ağ "ω" a,b', "ana"), Segment(0.7, 1.2, "x|y", "ben")]
    texts = {
        "talk.eaf": elan.format_eaf({"tx": segments}, Path("talk.wav")),
        "talk.TextGrid": textgrid.format_textgrid({"tx": segments}, 1.4),
        "talk.srt": subtitles.format_srt(segments),
        "talk.vtt": subtitles.format_vtt(segments),
        "talk.txt": audacity.format_audacity(segments),
        "rules.yaml": "lowercase: true\nmap: {x: y}\nnumbers: {years: [1100, 1999]}\ntests:\n  - [A b, a b]\n",
        "tokenizer/tokenizer.yaml": "kind: char\nlabels: [' ', a, b, c]\n",
        "text.txt": "abc cab\nbac a b\nca bc acb\n" * 20,
        "said.txt": "abc cab\n\nbac 7 a b. ağ\n",
        "hypotheses.jsonl": _hypotheses(folder / "train.jsonl", "abc"),
        "other.jsonl": _hypotheses(folder / "train.jsonl", "a b"),
    }
    for name, text in texts.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(text, encoding="utf-8")
    write_corpora(folder, (folder / "talk.wav").read_bytes())
    _write_language_models(folder)
    model = train_subwords([*("abc cab bac a b c ab ba ca bc acb cba" for _ in range(5))], "unigram", 10)
    _write_subword_folders(folder, model)
    if HUGGING_FACE:
        from tests.support.hugging_face import write

        write(folder / "hf", "wav2vec2")
    return folder


def _hypotheses(manifest: Path, text: str) -> str:
    """What `anadil evaluate --out` writes, with one hypothesis for all utterances."""
    lines = [json.loads(line) for line in manifest.read_text(encoding="utf-8").splitlines()]
    more = {"pred_text": text, "pred_text_greedy": text, "word_confidences": [0.5] * len(text.split())}
    return "".join(json.dumps(line | more) + "\n" for line in lines)


def _write_language_models(folder: Path) -> None:
    """An ARPA file of labels, and an exported folder with n-grams of labels and of words."""
    from anadil.cli.main import app
    from anadil.decoding.language_model import LanguageModel, LmWeights, save_language_model
    from anadil.lm.model import read_model

    models = {}
    for unit in ("char", "word"):
        name = "text.arpa" if unit == "char" else "words.arpa"
        arguments = [str(folder / "text.txt"), "--unit", unit, "--order", "2", "--out", str(folder / name)]
        app(["lm", "build", *arguments], standalone_mode=False)
        models[unit] = read_model(folder / name)
    shutil.copytree(folder / "exported", folder / "with-lm")
    weights = LmWeights(lm_weight=0.5, word_weight=0.5, word_bonus=1, unknown_word=-5)
    lm = LanguageModel((" ", "a", "b", "c"), weights, models["char"], models["word"])
    save_language_model(folder / "with-lm", lm)


def _write_subword_folders(folder: Path, model: bytes) -> None:
    """An exported folder, a model folder and a tokenizer folder whose labels are subwords; weights are random."""
    import torch

    from anadil.export.onnx import export_folder
    from anadil.models.acoustic import AcousticModel, save_model
    from anadil.settings import dump
    from anadil.text.rules import text_rules
    from anadil.text.subwords import Subwords
    from anadil.training.config import Config

    labels = list(Subwords(model).labels)
    (folder / "bpe").mkdir()
    (folder / "bpe/tokenizer.model").write_bytes(model)
    (folder / "bpe/tokenizer.yaml").write_text(yaml.safe_dump({"kind": "unigram", "labels": labels}), encoding="utf-8")
    data = yaml.safe_load((folder / "config.yaml").read_text(encoding="utf-8"))
    config = Config.model_validate(data | {"tokenizer": {"kind": "unigram", "labels": labels}})
    config = config.with_rules(text_rules("en", config.text, labels, model))
    torch.manual_seed(0)
    acoustic = AcousticModel(config.features, config.model, len(labels))
    save_model(folder / "bpe-model", acoustic, dump(config), "# card\n", {"tokenizer.model": model})
    export_folder(folder / "bpe-model", folder / "bpe-exported")


# Mutations

HUGE = (10**400, 10**30, 2**63, -(2**63) - 1, -1, 0, 1e308, -1e308, 5e-324, float("inf"), float("-inf"), float("nan"))
VALUES: tuple[Any, ...] = (
    *HUGE, True, False, None, "", "a", "\0", "\u2028", "9" * 4000, [], {}, [[]], [0], {"a": 1}, ["a"] * 3, [None], [1e999],
)  # fmt: skip
NASTY = (
    "",
    "\0",
    '"',
    "<",
    ">",
    "&",
    "\t",
    "\n",
    "\r",
    "-",
    "nan",
    "1e999",
    "-1",
    "9" * 400,
    DIGITS,
    "\ufeff",
    "[",
    "{",
    "|",
)
NASTY += (
    "null",
    "\u2028",
    "[" * 3000,
    "{" * 3000,
    "<a>" * 3000,
    "&a [*a,*a]",
    ".inf",
    "!!python/object:os.system {}",
    "%s%n",
)


def damaged_bytes(content: bytes, rng: random.Random) -> bytes:
    """A file that was cut off, overwritten, or had bits flipped."""
    data = bytearray(content)
    kind = rng.choice(("cut", "flip", "flip", "zeros", "huge", "noise", "repeat", "empty"))
    at = rng.randrange(max(1, len(data)))
    if kind == "cut":
        return bytes(data[:at])
    if kind == "empty":
        return b""
    if kind == "noise":
        return rng.randbytes(rng.choice((1, 40, len(data))))
    if kind == "repeat":
        return bytes(data[:at] + data[at : at + 200] * 50 + data[at:])
    for _ in range(rng.choice((1, 4, 40))):
        start = rng.randrange(max(1, len(data)))
        if kind == "flip" and data:
            data[start] ^= 1 << rng.randrange(8)
        else:
            data[start : start + rng.choice((1, 4, 8))] = rng.choice((b"\0", b"\xff")) * rng.choice((1, 4, 8))
    return bytes(data)


def damaged_text(content: bytes, rng: random.Random) -> bytes:
    """A text with pieces replaced, a number made huge, or in another encoding."""
    if rng.random() < 0.15:
        return damaged_bytes(content, rng)
    text = content.decode("utf-8")
    for _ in range(rng.randint(1, 3)):
        numbers = [match.span() for match in re.finditer(r"\d+(\.\d+)?", text)]
        if numbers and rng.random() < 0.5:
            start, end = rng.choice(numbers)
            text = text[:start] + rng.choice((DIGITS, "-1", "nan", "1e400", "inf", "0", "1e9", "")) + text[end:]
        else:
            start = rng.randrange(len(text) + 1)
            text = text[:start] + rng.choice(NASTY) + text[start + rng.randint(0, 6) :]
    encoding, errors = rng.choice((("utf-8", "ignore"),) * 6 + (("utf-16", "ignore"), ("cp1254", "replace")))
    return text.encode(encoding, errors)


def damaged_data(data: Any, rng: random.Random) -> Any:
    """Nested data with one value replaced, one key removed or one added."""
    data = copy.deepcopy(data)
    places = list(_places(data))
    holder, key = rng.choice(places)
    kind = rng.random()
    if kind < 0.1:
        del holder[key]
    elif kind < 0.2 and isinstance(holder, dict):
        holder["unknown_key"] = rng.choice(VALUES)
    elif kind < 0.25:
        nested: Any = 1
        for _ in range(300):
            nested = [nested]
        holder[key] = nested
    else:
        holder[key] = rng.choice(VALUES)
    return data


def _places(data: Any) -> Iterator[tuple[Any, Any]]:
    """Every place in nested data as its container and key; of long lists only the first entries."""
    keys = list(data) if isinstance(data, dict) else list(range(min(len(data), 3)))
    for key in keys:
        yield data, key
        if isinstance(data[key], dict | list):
            yield from _places(data[key])


def _rewrite(name: str, change: Callable[[bytes], bytes]) -> Prepare:
    def prepare(folder: Path) -> None:
        (folder / name).write_bytes(change((folder / name).read_bytes()))

    return prepare


def text_file(name: str, seed: int) -> Prepare:
    return _rewrite(name, lambda content: damaged_text(content, random.Random(f"{name} {seed}")))


def binary_file(name: str, seed: int) -> Prepare:
    return _rewrite(name, lambda content: damaged_bytes(content, random.Random(f"{name} {seed}")))


def json_file(name: str, seed: int) -> Prepare:
    def change(content: bytes) -> bytes:
        rng = random.Random(f"{name} {seed}")
        if rng.random() < 0.25:
            return damaged_text(content, rng)
        return json.dumps(damaged_data(json.loads(content), rng), ensure_ascii=False).encode("utf-8", "replace")

    return _rewrite(name, change)


def yaml_file(name: str, seed: int) -> Prepare:
    def change(content: bytes) -> bytes:
        rng = random.Random(f"{name} {seed}")
        if rng.random() < 0.25:
            return damaged_text(content, rng)
        return yaml.safe_dump(damaged_data(yaml.safe_load(content), rng)).encode("utf-8", "replace")

    return _rewrite(name, change)


def nemo_archive(name: str, seed: int) -> Prepare:
    """Damage the config inside the archive."""

    def change(content: bytes) -> bytes:
        rng, result = random.Random(f"{name} {seed}"), io.BytesIO()
        with tarfile.open(fileobj=io.BytesIO(content)) as before, tarfile.open(fileobj=result, mode="w:") as after:
            for member in before:
                file = before.extractfile(member)
                assert file is not None
                data = file.read()
                if member.name.endswith(".yaml"):
                    data = yaml.safe_dump(damaged_data(yaml.safe_load(data), rng)).encode()
                member.size = len(data)
                after.addfile(member, io.BytesIO(data))
        return result.getvalue()

    return _rewrite(name, change)


def _checkpoint(name: str, seed: int) -> Prepare:
    """Damage a checkpoint, and move the run to where `--out` looks for it."""

    def prepare(folder: Path) -> None:
        binary_file(name, seed)(folder)
        (folder.parent / "work").mkdir()
        (folder / "run").rename(folder.parent / "work/out")

    return prepare


@dataclass(frozen=True)
class Reader:
    """A command that reads one file of a kind, and how that file is damaged."""

    name: str
    arguments: tuple[str, ...]
    seeds: tuple[str, ...]
    damage: Callable[[str, int], Prepare]
    file: str
    often: int = 2  # mutations in `make test`

    def case(self, seed: int) -> Case:
        return Case(f"{self.name}, mutation {seed}", self.arguments, self.seeds, self.damage(self.file, seed))


_TALK = ("talk.wav",)
_MICRO = ("train.jsonl", "clips")


def _import(kind: str, source: str, *seeds: str, often: int = 2, file: str = "", damage: Any = text_file) -> Reader:
    arguments = ("import", kind, f"in/{source}", "--out", "out", "--lang", "tr")
    return Reader(
        f"import {kind} {file or source}", arguments, seeds or (source, *_TALK), damage, file or source, often
    )


READERS: tuple[Reader, ...] = (
    *(_import(kind, f"talk.{suffix}") for kind, suffix in (("elan", "eaf"), ("textgrid", "TextGrid"), ("srt", "srt"))),
    *(_import(kind, f"talk.{suffix}") for kind, suffix in (("vtt", "vtt"), ("audacity", "txt"), ("ctm", "ctm"))),
    *(_import("table", f"talk.{suffix}") for suffix in ("csv", "tsv")),
    _import("table", "table.xlsx", damage=binary_file),
    _import("nemo", "nemo.json"), _import("lhotse", "cuts.jsonl"), _import("lhotse", "cuts.jsonl.gz", damage=binary_file),
    *(_import("kaldi", "kaldi", "kaldi", *_TALK, file=f"kaldi/{name}") for name in ("segments", "text", "wav.scp")),
    _import("ljspeech", "lj", "lj", file="lj/metadata.csv"),
    *(
        _import(kind, f"talk.{suffix}", often=4)
        for kind, suffix in (("flextext", "flextext"), ("exmaralda", "exb"), ("transcriber", "trs"), ("chat", "cha"),
                             ("toolbox", "sfm"), ("audacity", "aup"))
    ),
    _import("audacity", "talk.aup3", often=4, damage=binary_file),
    *(
        _import(kind, name, name, file=f"{name}/{file}")
        for kind, name, file in (
            ("common-voice", "cv", "validated.tsv"), ("fleurs", "fleurs", "tr_tr/train.tsv"),
            ("mls", "mls", "mls_polish/train/transcripts.txt"), ("mls", "mls", "mls_polish/metainfo.txt"),
            ("librispeech", "libri", "dev-clean/84/121123/84-121123.trans.txt"), ("librispeech", "libri", "SPEAKERS.TXT"),
            ("openslr", "openslr", "line_index.tsv"),
            *(("voxforge", "voxforge", f"ralf-20080318-kdl/etc/{name}") for name in ("prompts-original", "PROMPTS", "README")),
        )
    ),
    *(
        Reader(f"import folder {name}", ("import", "folder", f"in/{name}", "--out", "out", "--lang", "tr"), (name,),
               binary_file, name)
        for name in ("corpus.tar.gz", "corpus.zip")
    ),
    *(
        Reader(f"transcribe {name}", ("transcribe", "in/exported", f"in/{name}"), ("exported", name), binary_file, name)
        for name in ("talk.wav", "talk.flac", "talk.mp3")
    ),
    *(
        Reader(f"{verb[0]} manifest", verb, _MICRO, text_file, "train.jsonl")
        for verb in (
            ("check", "in/train.jsonl", "--lang", "en"), ("split", "in/train.jsonl", "--out", "out"),
            ("normalize", "in/train.jsonl", "--lang", "en", "--out", "out/train.jsonl"),
            ("tokenizer", "in/train.jsonl", "--lang", "en", "--kind", "char", "--out", "out"),
            ("augment", "in/train.jsonl", "gain.db=3", "--out", "out"),
        )
    ),
    Reader("evaluate manifest", ("evaluate", "in/exported", "in/train.jsonl"), ("exported", *_MICRO), text_file, "train.jsonl"),
    Reader("normalize rules", ("normalize", "in/train.jsonl", "--lang", "en", "--rules", "in/rules.yaml", "--out", "out.jsonl"),
           ("rules.yaml", *_MICRO), yaml_file, "rules.yaml", 6),
    Reader("train config", ("train", "in/config.yaml", "data.train=in/train.jsonl", "data.valid=in/train.jsonl", "--dry-run"),
           ("config.yaml", *_MICRO), yaml_file, "config.yaml", 8),
    Reader("check config", ("check", "in/train.jsonl", "--config", "in/config.yaml"), ("config.yaml", *_MICRO), yaml_file,
           "config.yaml", 6),
    Reader("model folder config", ("transcribe", "in/model", "in/talk.wav"), ("model", *_TALK), yaml_file,
           "model/config.yaml", 10),
    Reader("model folder weights", ("transcribe", "in/model", "in/talk.wav"), ("model", *_TALK), binary_file,
           "model/model.safetensors", 6),
    Reader("export model folder", ("export", "in/bpe-model", "--out", "out"), ("bpe-model",), yaml_file,
           "bpe-model/config.yaml", 4),
    Reader("exported config", ("transcribe", "in/exported", "in/talk.wav"), ("exported", *_TALK), json_file,
           "exported/config.json", 16),
    Reader("exported graph", ("transcribe", "in/exported", "in/talk.wav"), ("exported", *_TALK), binary_file,
           "exported/model.onnx", 8),
    Reader("exported vocabulary", ("transcribe", "in/exported", "in/talk.wav"), ("exported", *_TALK), text_file,
           "exported/vocab.txt", 3),
    Reader("exported subwords", ("transcribe", "in/bpe-exported", "in/talk.wav"), ("bpe-exported", *_TALK), binary_file,
           "bpe-exported/tokenizer.model", 8),
    Reader("model folder subwords", ("transcribe", "in/bpe-model", "in/talk.wav"), ("bpe-model", *_TALK), binary_file,
           "bpe-model/tokenizer.model", 4),
    Reader("tokenizer folder", ("train", "in/config.yaml", "data.train=in/train.jsonl", "data.valid=in/train.jsonl",
           "tokenizer.path=in/tokenizer", "--dry-run"), ("config.yaml", "tokenizer", *_MICRO), yaml_file,
           "tokenizer/tokenizer.yaml", 4),
    Reader("NeMo archive", ("convert", "in/model.nemo", "--out", "out"), ("model.nemo",), binary_file, "model.nemo", 6),
    Reader("NeMo archive config", ("convert", "in/model.nemo", "--out", "out"), ("model.nemo",), nemo_archive, "model.nemo", 10),
    Reader("NeMo YAML", ("convert", "in/nemo.yaml", "--out", "out.yaml"), ("nemo.yaml",), yaml_file, "nemo.yaml", 6),
    Reader("Lightning checkpoint", ("convert", "in/model.ckpt", "--config", "in/nemo.yaml", "--out", "out"),
           ("model.ckpt", "nemo.yaml"), binary_file, "model.ckpt", 4),
    Reader("checkpoint", ("train", "in/config.yaml", "data.train=in/train.jsonl", "data.valid=in/train.jsonl", "--resume",
           "--out", "out"), ("config.yaml", "run", *_MICRO), _checkpoint, "run/checkpoints/step-00000090.ckpt", 3),
    *(
        Reader(f"Hugging Face {name}", ("transcribe", "in/hf", "in/talk.wav"), ("hf", *_TALK),
               binary_file if name.endswith("safetensors") else json_file, f"hf/{name}", often)
        for name, often in (("config.json", 6), ("vocab.json", 3), ("preprocessor_config.json", 3), ("model.safetensors", 3))
        if HUGGING_FACE
    ),
    Reader("lm tune ARPA", ("lm", "tune", "in/model", "in/train.jsonl", "--lm", "in/text.arpa"), ("model", "text.arpa", *_MICRO),
           text_file, "text.arpa", 8),
    Reader("lm build text", ("lm", "build", "in/text.txt", "--out", "out.arpa"), ("text.txt",), text_file, "text.txt", 3),
    *(
        Reader(f"exported {name}", ("transcribe", "in/with-lm", "in/talk.wav"), ("with-lm", *_TALK), damage, f"with-lm/{name}", 6)
        for name, damage in (("lm.npz", binary_file), ("words.npz", binary_file), ("decoder.json", json_file))
    ),
    Reader("compare hypotheses", ("compare", "in/hypotheses.jsonl", "in/other.jsonl"), ("hypotheses.jsonl", "other.jsonl"),
           text_file, "hypotheses.jsonl", 6),
    Reader("evaluate hypotheses", ("evaluate", "in/hypotheses.jsonl", "in/train.jsonl"), ("hypotheses.jsonl", *_MICRO),
           text_file, "hypotheses.jsonl", 4),
    Reader("align text", ("align", "in/exported", "--segment", "in/talk.wav", "in/said.txt", "--out", "out"),
           ("exported", "said.txt", *_TALK), text_file, "said.txt", 4),
    Reader("pseudo-label audio", ("pseudo-label", "in/exported", "in/talk.wav", "--min-confidence", "0", "--out", "out.jsonl"),
           ("exported", *_TALK), binary_file, "talk.wav", 2),
)  # fmt: skip


def mutations(n: int | None = None, start: int = 0) -> Iterator[Case]:
    """Seeded mutations of every reader's file: `n` of each, or as many as `make test` runs."""
    for reader in READERS:
        for seed in range(start, start + (reader.often if n is None else n)):
            yield reader.case(seed)


# Options: every number of every verb, read from the command line's own description

NUMBERS = ("nan", "-1", DIGITS, "1e308", "inf", "-inf", "0", "9" * 30, "", "one", "１")
GOOD: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "demo": (("--data", "in/nothing", "--out", "out"), ()),
    "check": (("in/train.jsonl", "--engine", "local", "--measured", "out"), _MICRO),
    "split": (("in/train.jsonl", "--out", "out"), _MICRO),
    "augment": (("in/train.jsonl", "gain.db=3", "--out", "out"), _MICRO),
    "tokenizer": (("in/train.jsonl", "--lang", "en", "--kind", "unigram", "--out", "out"), _MICRO),
    "pseudo-label": (
        ("in/exported", "in/talk.wav", "--min-confidence", "0", "--out", "out.jsonl"),
        ("exported", *_TALK),
    ),
    "align": (("in/exported", "--segment", "in/talk.wav", "in/talk.txt", "--out", "out"), ("exported", *_TALK)),
    "crossval": (("in/config.yaml", "--out", "out"), ("config.yaml", *_MICRO)),
    "curve": (("in/config.yaml", "--out", "out"), ("config.yaml", *_MICRO)),
    "ablate": (("in/config.yaml", "--variant", "base", "--out", "out"), ("config.yaml", *_MICRO)),
    "next": (("in/exported", "in/talk.wav", "--out", "out.jsonl"), ("exported", *_TALK)),
    "evaluate": (
        ("in/exported", "in/train.jsonl", "--noise", "in/train.jsonl", "--snr", "10", "--json", "out.json"),
        ("exported", *_MICRO),
    ),
    "export": (("in/model", "--out", "out"), ("model",)),
    "transcribe": (("in/exported", "in/talk.wav", "--format", "json"), ("exported", *_TALK)),
    "serve": (("in/nothing", "--data", "out"), ()),
    "lm build": (("in/text.txt", "--out", "out.arpa"), ("text.txt",)),
    "lm tune": (
        ("in/model", "in/train.jsonl", "--lm", "in/text.arpa", "--json", "out.json"),
        ("model", "text.arpa", *_MICRO),
    ),
}
"""Arguments and seeds for a run of each verb that has options which are numbers."""

NUMBERS_AS_TEXT = (("lm build", "--order"), ("lm build", "--prune"), ("lm build", "--memory"), ("evaluate", "--snr"))


def number_options() -> Iterator[tuple[str, str, typer.models.OptionInfo]]:
    """Verb, name and description of all options that take a number."""
    from anadil.cli.main import app

    commands = [("", command) for command in app.registered_commands]
    for group in app.registered_groups:
        commands += [(f"{group.name} ", one) for one in (group.typer_instance or app).registered_commands]
    for before, command in commands:
        assert command.callback is not None
        for name, kind in typing.get_type_hints(command.callback, include_extras=True).items():
            if typing.get_origin(kind) is not typing.Annotated:
                continue
            bare, *details = typing.get_args(kind)
            if {int, float} & {bare, *typing.get_args(bare)}:
                info = next(one for one in details if isinstance(one, typer.models.OptionInfo))
                option = next((one for one in info.param_decls or () if one.startswith("--")), None)
                verb = before + (command.name or command.callback.__name__).replace("_", "-")
                yield verb, option or "--" + name.replace("_", "-"), info


PATHS = (
    ".",
    "a" * 300,
    "a" * 5000,
    "in",
    "/dev/null",
    "in/talk.wav",
    "in/train.jsonl",
    "in/empty",
    "\udcff.wav",
    "",
    "-",
)
"""In place of the path that a verb reads."""


def path_cases(paths: tuple[str, ...] = PATHS) -> Iterator[Case]:
    """Every verb with something else where its input belongs."""
    commands = {
        "check": ("PATH",), "split": ("PATH", "--out", "out"), "normalize": ("PATH", "--lang", "en", "--out", "out.jsonl"),
        "augment": ("PATH", "--out", "out"), "tokenizer": ("PATH", "--lang", "en", "--kind", "char", "--out", "out"),
        "train": ("PATH", "--out", "out"), "export": ("PATH", "--out", "out"), "convert": ("PATH", "--out", "out"),
        "transcribe": ("PATH", "in/talk.wav"), "evaluate": ("PATH", "in/train.jsonl"), "compare": ("PATH", "in/train.jsonl"),
        "align": ("in/exported", "--segment", "in/talk.wav", "PATH", "--out", "out"),
        "next": ("PATH", "in/talk.wav", "--out", "out.jsonl"), "crossval": ("PATH", "--out", "out"),
        "curve": ("PATH", "--out", "out"), "ablate": ("PATH", "--variant", "base", "--out", "out"),
        "push": ("PATH", "someone/something"), "serve": ("PATH", "--data", "out"),
        "pseudo-label": ("PATH", "in/talk.wav", "--min-confidence", "0", "--out", "out.jsonl"),
        "import": ("table", "PATH", "--out", "out"), "demo": ("--data", "PATH", "--out", "out"),
        "download": ("mls", "--lang", "PATH", "--out", "out"), "corpora": ("PATH",),
        "lm build": ("PATH", "--out", "out.arpa"), "lm tune": ("in/exported", "in/train.jsonl", "--lm", "PATH"),
    }  # fmt: skip

    def empty(folder: Path) -> None:
        (folder / "empty").write_bytes(b"")

    for verb, arguments in commands.items():
        for path in paths:
            given = tuple(path if argument == "PATH" else argument for argument in arguments)
            name = f"{verb} {path[:20]!a}" if len(path) < 100 else f"{verb} with a path of {len(path):,} letters"
            seeds = ["exported"] if "in/exported" in arguments else []
            yield Case(name, (*verb.split(), *given), (*_TALK, *_MICRO, *seeds), empty)


def option_cases(values: tuple[str, ...] = NUMBERS) -> Iterator[Case]:
    for verb, name in (*((verb, name) for verb, name, _ in number_options()), *NUMBERS_AS_TEXT):
        arguments, seeds = GOOD[verb]
        for value in values:
            shown = value if len(value) < 20 else f"{len(value)} digits"
            given = arguments
            if name in given:  # the option again: the later one counts
                at = given.index(name)
                given = given[:at] + given[at + 2 :]
            yield Case(f"{verb} {name}={shown}", (*verb.split(), *given, f"{name}={value}"), seeds)
