"""Kaldi's data directories, as recipes write them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from anadil.corpora import kaldi
from anadil.corpora.reader import Options
from anadil.errors import AnadilError, Problem
from anadil.manifest import Utterance


@pytest.fixture
def recipe(tmp_path: Path, write_wav: Callable[..., Path]) -> Path:
    """A recipe's folder with audio below it and an empty data/train."""
    (tmp_path / "s5/audio").mkdir(parents=True)
    write_wav("s5/audio/a b.wav", 0.05)
    write_wav("s5/audio/c.wav", 0.05)
    return tmp_path / "s5"


def fill(folder: Path, **files: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        (folder / name.replace("wav_scp", "wav.scp")).write_text(content, encoding="utf-8")
    return folder


def read(source: Path, **options: object) -> tuple[list[Utterance], dict[str, str]]:
    rejected: list[Problem] = []
    found = list(kaldi.utterances(source, Options(**options), rejected.append))  # type: ignore[arg-type]
    return found, {problem.where.rsplit("/", 1)[1]: problem.what for problem in rejected}


def test_whole_recordings(recipe: Path) -> None:
    train = fill(
        recipe / "data/train",
        text="u1 evet  ağ\r\nu2\thayır\nu3 x\nu4 y\nu5\nu6 z\nu1 again\nu7 w\nu9 v\n",
        wav_scp=f"u1 audio/a b.wav\nu2 {recipe}/audio/c.wav\nu3 sph2pipe -f wav x.sph |\nu4 audio/gone.wav\nu5 audio/c.wav\n"
        "u7 raw.ark:1234\nu8 audio/c.wav\nu9 audio/c.wav\n",
        utt2spk="u1 ana\nu2 ben\nu3 ben\nu4 ben\nu5 ben\nu7 ben\nu8 ben\n",
        utt2dur="u1 0.05\nu2 nan\n",
        utt2lang="u1 tr\n",
    )
    found, rejected = read(train, language="xx")
    assert found == [Utterance(str(recipe / "audio/a b.wav"), 0.05, "evet ağ", 0.0, "ana", "tr", {"id": "u1"})]
    assert rejected.pop("text: u3").startswith(
        "wav.scp has a command, which Anadil does not run: 'sph2pipe -f wav x.sph |'"
    )
    assert rejected.pop("text: u4").startswith("its recording was not found: 'audio/gone.wav', looked for in ")
    assert rejected.pop("text: u7").startswith("wav.scp points into an archive or a stream: 'raw.ark:1234'")
    assert rejected == {
        "text: u2": "'nan' is not a number of seconds",
        "text: u5": "no text",
        "text: u6": "not in wav.scp",
        "text:7": "u1 appears twice; the first line is used",
        "wav.scp: u8": "not in text",
        "text: u9": "not in utt2spk",
    }


def test_segments_and_speakers_from_spk2utt(recipe: Path) -> None:
    train = fill(
        recipe / "data/train",
        text="s1 bir\ns2 iki\ns3 üç\ns4 dört\ns5 beş\ns6 altı\ns7 yedi\n",
        wav_scp="rec audio/c.wav\n",
        segments="s1 rec 0.5 1.25\ns2 rec 1.5 -1\ns3 other 0 1\ns4 rec 2 1\ns5 rec x 1\ns6 rec 1\ns8 rec 0 1\n",
        spk2utt="ana s1 s3\nben s2 s4 s5 s6\n",
    )
    found, rejected = read(train)
    wav = str(recipe / "audio/c.wav")
    assert found == [
        Utterance(wav, 0.75, "bir", 0.5, "ana", extra={"id": "s1"}),
        Utterance(wav, None, "iki", 1.5, "ben", extra={"id": "s2"}),
    ]
    assert rejected == {
        "segments: s8": "not in text",
        "text: s3": "its recording other is not in wav.scp",
        "text: s4": "lasts from 2 to 1 s",
        "text: s5": "could not convert string to float: 'x'",
        "text: s6": "its line in segments has 3 columns, expected UTTERANCE RECORDING START END",
        "text: s7": "not in segments",
    }


def test_folders_are_splits_and_working_copies_are_skipped(recipe: Path) -> None:
    for name in ("train", "dev", "train/split4/1", "train/.backup", ".backup/train", "test/clean"):
        fill(recipe / "data" / name, text="u1 x\n", wav_scp="u1 audio/c.wav\n")
    found, rejected = read(recipe / "data")
    assert [one.extra["split"] for one in found] == ["dev", "test-clean", "train"]
    assert rejected == {}


def test_the_audio_may_be_given(recipe: Path, tmp_path: Path) -> None:
    far = fill(tmp_path / "far", text="u1 x\n", wav_scp="u1 c.wav\n")
    assert read(far, audio=recipe / "audio")[0][0].audio_filepath == str(recipe / "audio/c.wav")


def test_a_source_that_is_not_a_data_directory_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(AnadilError, match="looked for wav.scp and text"):
        read(tmp_path)
    with pytest.raises(AnadilError, match="is not a complete data directory: text missing"):
        read(fill(tmp_path / "decode", wav_scp="u1 a.wav\n"))
    with pytest.raises(AnadilError, match="is not a folder"):
        read(tmp_path / "decode/wav.scp")


def test_the_sides_of_a_call(recipe: Path) -> None:
    train = fill(
        recipe / "data/train",
        wav_scp="c-A audio/c.wav\nc-B audio/c.wav\nd audio/a b.wav\n",
        text="u1 bir\nu2 iki\nu3 üç\n",
        segments="u1 c-A 0 0.02\nu2 c-B 0 0.02\nu3 d 0 0.02\n",
        reco2file_and_channel="c-A c A\nc-B c B\n",
    )
    found, rejected = read(train)
    assert [one.extra.get("channel") for one in found] == ["A", "B", None] and rejected == {}
