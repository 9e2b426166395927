"""NeMo's manifests, LJ Speech's metadata, and a folder of recordings with their texts."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from anadil.corpora import folder, ljspeech, nemo
from anadil.corpora.reader import Options
from anadil.errors import AnadilError, Problem
from anadil.manifest import Utterance


def read(reader: Any, source: Path, **options: object) -> tuple[list[Utterance], list[tuple[str, str]]]:
    rejected: list[Problem] = []
    found = list(reader.utterances(source, Options(**options), rejected.append))  # type: ignore[arg-type]
    return found, [(problem.where.removeprefix(str(source)), problem.what) for problem in rejected]


def lines(path: Path, *records: object) -> Path:
    content = "\r\n".join(one if isinstance(one, str) else json.dumps(one, ensure_ascii=False) for one in records)
    path.write_bytes(content.encode("utf-8-sig"))
    return path


# ---- NeMo


def test_a_manifest_keeps_its_keys(tmp_path: Path, write_wav: Callable[..., Path]) -> None:
    wav = write_wav("a.wav", 0.1)
    source = lines(
        tmp_path / "m.json",
        {
            "audio_filepath": "a.wav",
            "duration": 0.1,
            "text": "evet",
            "text_pnc": "Evet.",
            "lang": "tr",
            "taskname": "asr",
        },
        {"audio_filepath": str(wav), "duration": 0.1, "text": "x", "offset": 0.05, "language": "ku"},
        {"audio_filepath": "gone.wav", "text": "y"},
        {"audio_filepath": "a.wav", "duration": "0.1", "text": "z"},
        {"audio_filepath": "a.wav", "text": " "},
        "{broken",
    )
    found, rejected = read(nemo, source, language="xx")
    extra = {"text_pnc": "Evet.", "lang": "tr", "taskname": "asr"}
    assert found == [
        Utterance(str(wav), 0.1, "evet", language="tr", extra=extra),
        Utterance(str(wav), 0.1, "x", 0.05, language="ku"),
        Utterance(str(tmp_path / "gone.wav"), None, "y", language="xx"),
    ]
    assert [(where, what.split(":")[0]) for where, what in rejected] == [
        (":4", '"duration" must be a number of seconds, found "0.1"'), (":5", "no text"), (":6", "not valid JSON"),
    ]  # fmt: skip


def test_several_manifests_are_splits(tmp_path: Path) -> None:
    for name in ("train_manifest.json", "manifest-dev.jsonl", "test.json", "manifest.json"):
        lines(tmp_path / name, {"audio_filepath": "a.wav", "text": name})
    assert [(one.text, one.extra["split"]) for one in read(nemo, tmp_path)[0]] == [
        ("manifest-dev.jsonl", "dev"), ("manifest.json", "manifest"), ("test.json", "test"), ("train_manifest.json", "train"),
    ]  # fmt: skip


def test_tarred_manifests_are_refused_until_they_are_unpacked(tmp_path: Path, write_wav: Callable[..., Path]) -> None:
    source = lines(tmp_path / "m.json", {"audio_filepath": "a.wav", "duration": 1, "text": "x", "shard_id": 0})
    with pytest.raises(AnadilError, match="a tarred dataset, whose audio is inside audio_0.tar"):
        read(nemo, source)
    (tmp_path / "unpacked").mkdir()
    wav = write_wav("unpacked/a.wav", 0.1)
    assert read(nemo, source, audio=tmp_path / "unpacked")[0][0].audio_filepath == str(wav)
    for pattern in ("manifest__OP_0..127_CL_.json", "manifest_{0..127}.json"):
        with pytest.raises(AnadilError, match="a tarred dataset"):
            read(nemo, tmp_path / pattern)


# ---- LJ Speech


@pytest.fixture
def lj(tmp_path: Path, write_wav: Callable[..., Path]) -> Path:
    (tmp_path / "wavs").mkdir()
    write_wav("wavs/LJ-1.wav", 0.1)
    write_wav("wavs/LJ-2.flac", 0.1)
    return tmp_path


def test_ljspeech(lj: Path) -> None:
    rows = [
        'LJ-1|"Dr. Ağ" said 7|"Doctor Ağ" said seven',
        "LJ-2|plain",
        "LJ-3|gone|",
        "LJ-1|twice|twice",
        "LJ-4||",
        "|x",
        "a|b|c|d",
        "LJ-5",
    ]
    (lj / "metadata.csv").write_bytes("\r\n".join(rows).encode("utf-8-sig"))
    found, rejected = read(ljspeech, lj, language="en")
    wavs, both = lj / "wavs", {"id": "LJ-1", "raw_text": '"Dr. Ağ" said 7'}
    assert found == [
        Utterance(str(wavs / "LJ-1.wav"), None, '"Doctor Ağ" said seven', language="en", extra=both),
        Utterance(str(wavs / "LJ-2.flac"), None, "plain", language="en", extra={"id": "LJ-2"}),
        Utterance(str(wavs / "LJ-3.wav"), None, "gone", language="en", extra={"id": "LJ-3"}),
    ]  # fmt: skip
    assert [(where.rsplit(":")[1], what) for where, what in rejected] == [
        ("4", "LJ-1 appears twice"),
        ("5", "no text"),
        ("6", "no id"),
        ("7", "4 columns, expected ID|TEXT or ID|TEXT|NORMALISED TEXT"),
        ("8", "1 columns, expected ID|TEXT or ID|TEXT|NORMALISED TEXT"),
    ]


def test_coquis_variant_has_speakers(lj: Path) -> None:
    (lj / "metadata.csv").write_text(
        "audio_file|text|speaker_name|emotion\nwavs/LJ-1.wav|x|ana|calm\nwavs/LJ-1.wav|y\n"
    )
    found, rejected = read(ljspeech, lj / "metadata.csv")
    assert found == [
        Utterance(str(lj / "wavs/LJ-1.wav"), None, "x", speaker="ana", extra={"id": "wavs/LJ-1.wav", "emotion": "calm"})
    ]
    assert rejected == [(":3", "2 columns, but the first line has 4")]


def test_a_source_that_is_not_ljspeech_is_an_error(lj: Path) -> None:
    with pytest.raises(AnadilError, match=r"looked for metadata.csv and metadata.txt"):
        read(ljspeech, lj)
    (lj / "metadata.csv").write_text("file,text\na,b\n")
    with pytest.raises(AnadilError, match="not LJ Speech's metadata"):
        read(ljspeech, lj)


# ---- a folder


def test_recordings_with_their_texts(tmp_path: Path, write_wav: Callable[..., Path]) -> None:
    (tmp_path / "ana").mkdir()
    first, second = write_wav("1.wav", 0.1), write_wav("ana/1.FLAC", 0.1)
    for name in ("mute.wav", "two.wav", "two.mp3", "both.wav", "empty.wav", "latin.wav"):
        write_wav(name, 0.1, format="WAV")
    texts = {
        "1.txt": "Evet,\r\nağ\r\n".encode("utf-8-sig"), "ana/1.lab": "ωra".encode("utf-16"), "two.txt": b"x", "alone.txt": b"x",
        "both.txt": b"x", "both.lab": b"x", "empty.txt": b" \n", "latin.txt": "ağ".encode("cp1254"), "film.txt": b"x",
    }  # fmt: skip
    for name, content in texts.items():
        (tmp_path / name).write_bytes(content)
    (tmp_path / "film.mp4").write_bytes(b"film")
    (tmp_path / "._1.wav").write_bytes(b"\0")
    found, rejected = read(folder, tmp_path, language="tr")
    assert found == [
        Utterance(str(first), text="Evet, ağ", language="tr"), Utterance(str(second), text="ωra", language="tr"),
        Utterance(str(tmp_path / "film.mp4"), text="x", language="tr"),
    ]  # fmt: skip
    assert [(where, what.split(";")[0]) for where, what in rejected] == [
        ("/alone.txt", "a text without a recording of the same name"),
        ("/both.wav", "several texts have this name: both.lab, both.txt"),
        ("/empty.wav", f"its text is empty: {tmp_path / 'empty.txt'}"),
        ("/latin.wav", f"{tmp_path / 'latin.txt'}: not UTF-8 at line 1, byte 1"),
        ("/mute.wav", "a recording without a text: no .txt or .lab of the same name"),
        ("/two.mp3", "several recordings have this name: two.mp3, two.wav"),
    ]


def test_texts_and_recordings_in_folders_of_their_own(tmp_path: Path, write_wav: Callable[..., Path]) -> None:
    for name in ("wav/ana", "txt/ana"):
        (tmp_path / name).mkdir(parents=True)
    wav = write_wav("wav/ana/1.wav", 0.1)
    (tmp_path / "txt/ana/1.txt").write_text("x")
    assert read(folder, tmp_path / "txt", audio=tmp_path / "wav")[0] == [Utterance(str(wav), text="x")]
    with pytest.raises(AnadilError, match="found 0 recordings and 1 texts"):
        read(folder, tmp_path / "txt")
    with pytest.raises(AnadilError, match="is not a folder"):
        read(folder, wav)
