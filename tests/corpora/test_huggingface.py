"""Datasets as `datasets` saves them. No test uses the network."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import datasets
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from anadil.corpora import huggingface
from anadil.corpora.reader import Options
from anadil.errors import AnadilError, Problem
from anadil.manifest import Utterance


@pytest.fixture(autouse=True)
def quiet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(datasets.config, "HF_DATASETS_OFFLINE", True)
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    datasets.disable_progress_bars()


def read(source: Path, **options: object) -> tuple[list[Utterance], list[Problem]]:
    rejected: list[Problem] = []
    return list(huggingface.utterances(source, Options(**options), rejected.append)), rejected  # type: ignore[arg-type]


@pytest.fixture
def speech(write_wav: Callable[..., Path]) -> datasets.Dataset:
    """Three rows, one of them without text."""
    paths = [str(write_wav(f"clip {number}.wav", 0.05)) for number in range(3)]
    columns = {
        "audio": paths, "sentence": ["bir", " ", "ağ\nω"], "speaker_id": [7, 7, 8], "up_votes": [2, 0, 1],
        "note": [None, None, "x"],
    }  # fmt: skip
    return datasets.Dataset.from_dict(columns).cast_column("audio", datasets.Audio())


def test_a_data_set_saved_to_disk_keeps_its_splits(tmp_path: Path, speech: datasets.Dataset) -> None:
    both = datasets.DatasetDict({"train": speech, "test": speech.select([0])})
    both.save_to_disk(str(tmp_path / "saved"))
    found, rejected = read(tmp_path / "saved", audio=tmp_path / "wav", language="tr")
    wav = tmp_path / "wav"
    assert [(one.text, one.speaker, one.extra, one.language) for one in found] == [
        ("bir", "7", {"up_votes": 2, "split": "train"}, "tr"),
        ("ağ ω", "8", {"up_votes": 1, "note": "x", "split": "train"}, "tr"),
        ("bir", "7", {"up_votes": 2, "split": "test"}, "tr"),
    ]
    assert [one.audio_filepath for one in found] == [
        str(wav / "train/000000_clip_0.wav"), str(wav / "train/000002_clip_2.wav"), str(wav / "test/000000_clip_0.wav"),
    ]  # fmt: skip
    assert (wav / "train/000002_clip_2.wav").read_bytes() == (tmp_path / "clip 2.wav").read_bytes()
    assert rejected == [Problem(f"{tmp_path / 'saved'}: train row 1", "no text")]
    assert read(tmp_path / "saved", audio=wav)[0]  # the same files again are no clash
    (wav / "train/000000_clip_0.wav").write_bytes(b"mine")
    with pytest.raises(AnadilError, match="exists already, with other content"):
        read(tmp_path / "saved", audio=wav)


def test_embedded_audio_needs_a_folder(tmp_path: Path, speech: datasets.Dataset) -> None:
    speech.save_to_disk(str(tmp_path / "saved"))
    with pytest.raises(AnadilError, match=r"its audio is inside the dataset(?s:.*)--audio"):
        read(tmp_path / "saved")


def test_parquet_in_a_folder_or_alone(tmp_path: Path, speech: datasets.Dataset) -> None:
    (tmp_path / "hub/data").mkdir(parents=True)
    speech.to_parquet(str(tmp_path / "hub/data/train-00000-of-00001.parquet"))
    speech.select([2]).to_parquet(str(tmp_path / "hub/data/test-00000-of-00001.parquet"))
    found, _ = read(tmp_path / "hub", audio=tmp_path / "wav")
    assert sorted((one.extra["split"], one.text) for one in found) == [
        ("test", "ağ ω"),
        ("train", "ağ ω"),
        ("train", "bir"),
    ]
    assert all(Path(one.audio_filepath).is_file() for one in found)
    alone, _ = read(tmp_path / "hub/data/test-00000-of-00001.parquet", audio=tmp_path / "alone")
    assert [(one.text, "split" in one.extra) for one in alone] == [("ağ ω", False)]


@pytest.mark.parametrize("metadata", ["metadata.csv", "metadata.jsonl"])
def test_an_audio_folder_is_read_in_place(tmp_path: Path, write_wav: Callable[..., Path], metadata: str) -> None:
    (tmp_path / "speech/train").mkdir(parents=True)
    write_wav("speech/train/a.wav", 0.05)
    line = (
        "file_name,transcription\na.wav,evet\n"
        if metadata.endswith("csv")
        else '{"file_name": "a.wav", "transcription": "evet"}'
    )
    (tmp_path / "speech/train" / metadata).write_text(line)
    (one,), rejected = read(tmp_path / "speech")
    assert (Path(one.audio_filepath), one.text, one.extra) == (
        tmp_path / "speech/train/a.wav",
        "evet",
        {"split": "train"},
    )
    assert rejected == []


def test_columns_are_known_or_must_be_chosen(tmp_path: Path, speech: datasets.Dataset) -> None:
    speech.add_column("text", ["one", "two", "three"]).save_to_disk(str(tmp_path / "saved"))
    with pytest.raises(
        AnadilError, match=r"several columns match: 'sentence', 'text'\n  next: choose one with --text-column"
    ):
        read(tmp_path / "saved", audio=tmp_path / "wav")
    with pytest.raises(AnadilError, match="no column 'txt'; the columns are: 'audio', 'sentence'"):
        read(tmp_path / "saved", text_column="txt")
    found, _ = read(tmp_path / "saved", text_column="text", speaker_column="note", audio=tmp_path / "wav")
    assert [(one.text, one.speaker, one.extra.get("speaker_id")) for one in found] == [
        ("one", None, 7), ("two", None, 7), ("three", "x", 8),
    ]  # fmt: skip


def test_what_cannot_be_read_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "bad.parquet").write_bytes(b"PAR1 no")
    (tmp_path / "empty").mkdir()
    for source in (tmp_path / "bad.parquet", tmp_path / "empty"):
        with pytest.raises(AnadilError, match="cannot (?:be read|read it)"):
            read(source)
    with pytest.raises(AnadilError, match="is not there, and is not an OWNER/NAME"):
        read(Path("nothing here"))
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(AnadilError, match=r"pip install 'anadil\[hf\]'"):
        read(tmp_path / "empty")


def test_parquet_without_the_audio_type_is_read(tmp_path: Path, write_wav: Callable[..., Path]) -> None:
    flac = write_wav("x.flac", 0.05).read_bytes()
    columns = {
        "audio": [
            {"bytes": flac, "path": "../../x.wav"},
            {"bytes": None, "path": "gone.wav"},
            {"bytes": b"", "path": None},
        ],
        "text": ["a", "b", "c"],
    }
    pq.write_table(pa.table(columns), tmp_path / "t.parquet")
    (one,), rejected = read(tmp_path / "t.parquet", audio=tmp_path / "wav")
    assert one.audio_filepath == str(
        tmp_path / "wav/000000_x.flac"
    )  # no way out of the folder; the content tells the kind
    assert Path(one.audio_filepath).read_bytes() == flac
    assert [problem.what for problem in rejected] == [
        "its recording was not found: 'gone.wav'", "no audio: neither a file nor its bytes",
    ]  # fmt: skip


def test_an_id_on_the_hub_may_name_a_configuration(
    tmp_path: Path, speech: datasets.Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    def load_dataset(*arguments: str) -> datasets.DatasetDict:
        asked.append(arguments)
        if len(arguments) == 1:
            raise ValueError(
                "Config name is missing. Please pick one among the available configs: ['tr']\nExample: ..."
            )
        return datasets.DatasetDict({"test": speech})

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    found, _ = read(Path("owner/name/tr"))
    assert [(one.text, one.audio_filepath) for one in found] == [
        ("bir", str(tmp_path / "clip 0.wav")), ("ağ ω", str(tmp_path / "clip 2.wav")),
    ]  # fmt: skip
    with pytest.raises(AnadilError, match=r"available configs: \['tr'\]\n  next: .*OWNER/NAME/CONFIG"):
        read(Path("owner/name"))
    assert asked == [("owner/name", "tr"), ("owner/name",)]
