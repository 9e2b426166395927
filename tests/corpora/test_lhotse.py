"""Lhotse's manifests, as lhotse 1.x writes them."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from anadil.corpora import lhotse
from anadil.corpora.reader import Options
from anadil.errors import AnadilError, Problem
from anadil.manifest import Utterance


@pytest.fixture
def wav(write_wav: Callable[..., Path]) -> str:
    return str(write_wav("rec.wav", 0.1))


def recording(source: str, kind: str = "file", **more: Any) -> dict[str, Any]:
    sources = [{"type": kind, "channels": [0], "source": source}]
    return {"id": "rec", "sources": sources, "sampling_rate": 16000, "num_samples": 1600, "duration": 0.1} | more


def supervision(start: float, duration: float, text: Any, **more: Any) -> dict[str, Any]:
    return {"id": "s1", "recording_id": "rec", "start": start, "duration": duration, "channel": 0, "text": text} | more


def cut(*supervisions: dict[str, Any], start: float = 0.0, kind: str = "MonoCut", **more: Any) -> dict[str, Any]:
    return {
        "id": "c",
        "start": start,
        "duration": 9.0,
        "channel": 0,
        "supervisions": list(supervisions),
        "type": kind,
    } | more


def write(path: Path, *records: object) -> Path:
    content = "".join((one if isinstance(one, str) else json.dumps(one, ensure_ascii=False)) + "\n" for one in records)
    path.write_bytes(gzip.compress(content.encode()) if path.suffix == ".gz" else content.encode())
    return path


def read(source: Path, **options: object) -> tuple[list[Utterance], list[tuple[str, str]]]:
    rejected: list[Problem] = []
    found = list(lhotse.utterances(source, Options(**options), rejected.append))  # type: ignore[arg-type]
    return found, [(problem.where.removeprefix(str(source)), problem.what) for problem in rejected]


@pytest.mark.parametrize("name", ["cuts.jsonl", "cuts.jsonl.gz"])
def test_each_supervision_is_an_utterance_at_its_time_in_the_recording(tmp_path: Path, wav: str, name: str) -> None:
    whole = cut(
        supervision(0.5, 1.25, "evet  ağ", speaker="ana", language="tr", gender="F", custom={"snr": 12}),
        supervision(2, 1, "iki"),
        start=10.2, recording=recording("rec.wav", transforms=[{"name": "Resample", "kwargs": {}}]), custom={"shard": 3},
    )  # fmt: skip
    found, rejected = read(write(tmp_path / name, whole, ""), language="xx")
    assert found == [
        Utterance(wav, 1.25, "evet ağ", 10.7, "ana", "tr", {"shard": 3, "snr": 12, "id": "s1", "gender": "F"}),
        Utterance(wav, 1.0, "iki", 12.2, None, "xx", {"shard": 3, "id": "s1"}),
    ]
    assert rejected == []


def test_unusable_cuts_are_rejected_with_their_reasons(tmp_path: Path, wav: str) -> None:
    one = supervision(0, 1, "x")
    source = write(
        tmp_path / "cuts.jsonl",
        cut(one, kind="MixedCut", tracks=[]),
        cut(one, kind="MultiCut", recording=recording(wav)),
        cut(one, features={"type": "kaldifeat"}),
        cut(recording=recording(wav)),
        cut(one, recording=recording("sox x |", kind="command")),
        cut(one, recording=recording("gone.wav")),
        cut(one, recording=recording(wav, transforms=[{"name": "Speed", "kwargs": {"factor": 0.9}}])),
        cut(supervision(0, 0, "x"), recording=recording(wav)),
        cut(supervision(0, 1, None), recording=recording(wav)),
        cut(supervision(0, 1, 7), recording=recording(wav)),
        cut(supervision(-1, 2, "early"), recording=recording(wav)),
        cut({"text": "x"}, recording=recording(wav)),
        '{"type": "MonoCut", "start": NaN}',
        '{"type": "\\ud800"}',
        "[1]",
        "{",
        cut(one, recording=recording(wav)),
    )
    found, rejected = read(source)
    assert [utterance.text for utterance in found] == ["x"]
    assert [(int(where[1:]), what) for where, what in rejected] == [
        (1, "a MixedCut, which mixes several recordings"),
        (2, "a MultiCut, which has several channels"),
        (3, "a cut without a recording (features only)"),
        (4, "a cut without supervisions, so without text"),
        (5, "its audio is not a file but 'command'; next: write it to files with lhotse cut export"),
        (6, "its recording was not found: 'gone.wav'; next: give its folder with --audio"),
        (7, "a recording that Lhotse transforms as it is read (Speed); next: import the original recordings"),
        (8, "lasts 0 s (0 to 0 s)"),
        (9, "no text (0 to 1 s)"),
        (10, '"text" must be a string, found 7'),
        (11, "starts 1 s before the recording does"),
        (12, '"start" must be a number of seconds, found null'),
        (13, "not a line of a Lhotse manifest: NaN is not a number"),
        (14, "contains half a surrogate pair"),
        (15, "not a line of a Lhotse manifest: expected an object {...}, found list"),
        (
            16,
            "not a line of a Lhotse manifest: Expecting property name enclosed in double quotes: line 2 column 1 (char 2)",
        ),
    ]


def test_recordings_and_supervisions_with_their_splits(tmp_path: Path, wav: str) -> None:
    write(tmp_path / "xyz_recordings_train.jsonl.gz", recording(wav))
    write(tmp_path / "xyz_recordings_dev.jsonl.gz", recording(wav, id="dev"))
    write(
        tmp_path / "xyz_supervisions_train.jsonl.gz",
        supervision(1, 2, "x"),
        supervision(1, 2, "y", recording_id="lost"),
    )
    write(tmp_path / "xyz_supervisions_dev.jsonl.gz", supervision(0, 2, "z", recording_id="dev"))
    found, rejected = read(tmp_path)
    assert [(one.text, one.offset, one.extra["split"]) for one in found] == [("z", 0.0, "dev"), ("x", 1.0, "train")]
    assert rejected == [("/xyz_supervisions_train.jsonl.gz:2", "its recording lost is not in the recordings files")]
    write(tmp_path / "cuts_train.jsonl", cut(supervision(1, 2, "x"), recording=recording(wav)))
    with pytest.raises(AnadilError, match="the same utterances twice"):
        read(tmp_path)


def test_cut_sets_in_a_folder_are_splits(tmp_path: Path, wav: str) -> None:
    for name in ("cuts_dev-clean.jsonl.gz", "train_cuts.jsonl"):
        write(tmp_path / name, cut(supervision(0, 1, "x"), recording=recording(wav)))
    assert [one.extra["split"] for one in read(tmp_path)[0]] == ["dev-clean", "train"]


def test_gzip_bombs_and_damaged_files_are_errors(tmp_path: Path, wav: str, monkeypatch: pytest.MonkeyPatch) -> None:
    good = cut(supervision(0, 1, "x"), recording=recording(wav))
    source = write(tmp_path / "cuts.jsonl.gz", *[good] * 50)
    source.write_bytes(source.read_bytes()[:-20])
    with pytest.raises(AnadilError, match="the gzip file is damaged"):
        read(source)
    monkeypatch.setattr(lhotse, "_MAX_LINE_BYTES", 1000)
    source.write_bytes(gzip.compress(b" " * 10**6))
    with pytest.raises(AnadilError, match="larger than a manifest can be when unpacked"):
        read(source)
    monkeypatch.setattr(lhotse, "_MAX_FILE_BYTES", 10_000)
    source.write_bytes(gzip.compress(b"\n" * 10**6))
    with pytest.raises(AnadilError, match=r"larger than .*10,001 bytes"):
        read(source)


def test_a_source_that_is_not_of_lhotse_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(AnadilError, match="no Lhotse manifests in"):
        read(tmp_path)
    (tmp_path / "cuts.jsonl").write_text("\n")
    with pytest.raises(AnadilError, match="it has no cuts"):
        read(tmp_path / "cuts.jsonl")


def stereo(source: str, channels: list[int]) -> dict[str, Any]:
    return recording(source) | {"sources": [{"type": "file", "channels": channels, "source": source}]}


def test_the_channel_of_a_recording_with_several(tmp_path: Path, wav: str) -> None:
    two, numbered = stereo(wav, [0, 1]), stereo(wav, [4, 7])
    source = write(
        tmp_path / "cuts.jsonl",
        cut(supervision(0, 1, "left"), recording=two),
        cut(supervision(0, 1, "right", channel=1), recording=two, channel=1),
        cut(supervision(0, 1, "seven", channel=7), recording=numbered, channel=7),
        cut(supervision(0, 1, "one", channel=3), recording=stereo(wav, [3]), channel=3),
        cut(
            supervision(0, 1, "a"),
            supervision(0, 1, "b", channel=[1]),
            recording=two,
            kind="MultiCut",
            channel=[0, 1],
        ),
        cut(supervision(0, 1, "c", channel=[0, 1]), recording=two, kind="MultiCut", channel=[0, 1]),
        cut(supervision(0, 1, "d"), recording=two, channel=2),
    )
    found, rejected = read(source)
    assert [(one.text, one.channel) for one in found] == [
        *(("left", 1), ("right", 2), ("seven", 2), ("one", "mix"), ("a", 1), ("b", 2))
    ]
    assert rejected == [
        (":6", "a MultiCut, which has several channels"),
        (":7", "its channel 2 is not one of the recording's: [0, 1]"),
    ]


def test_the_channel_of_a_supervision(tmp_path: Path, wav: str) -> None:
    write(tmp_path / "recordings.jsonl", stereo(wav, [0, 1]))
    ones = [supervision(0, 1, text, channel=channel) for text, channel in (("a", 1), ("b", [0]), ("c", [0, 1]))]
    write(tmp_path / "supervisions.jsonl", *ones)
    assert [(one.text, one.channel) for one in read(tmp_path)[0]] == [("a", 2), ("b", 1), ("c", "mix")]
