from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from anadil import audio
from anadil.corpora.catalog import CorpusKind, find_kind
from anadil.corpora.importing import ImportResult, _convert_to_wav, _wav_paths, import_speech
from anadil.corpora.reader import Options, Reject
from anadil.errors import AnadilError, Problem
from anadil.manifest import Utterance, read_manifest
from tests.support.common_voice import COLUMNS, ROW, write_tsv

WriteWav = Callable[..., Path]


def kind_of(utterances: list[Utterance], problems: tuple[Problem, ...] = ()) -> CorpusKind:
    """A kind whose reader yields these utterances."""

    class Fake:
        name, source, takes, is_file = "fake", "anything", ("language",), False

        @staticmethod
        def reader() -> Any:
            def read(source: Path, options: Options, reject: Reject) -> Iterator[Utterance]:
                for problem in problems:
                    reject(problem)
                yield from utterances

            return read

    return Fake  # type: ignore[return-value]


def run(utterances: list[Utterance], out: Path, *problems: Problem, **options: Any) -> ImportResult:
    return import_speech(kind_of(utterances, problems), Path("x"), Options(), out, **options)


def test_utterances_go_to_the_manifest_of_their_split_with_their_true_duration(
    tmp_path: Path, write_wav: WriteWav
) -> None:
    clip = str(write_wav("a.wav", 2.0))
    found = run(
        [
            Utterance(clip, text="a", extra={"split": "train", "license": "CC0-1.0"}),
            Utterance(clip, 2.05, "b", extra={"split": "dev/../x"}),  # a table that rounds; a name for a file
            Utterance(clip, 0.5, "c", offset=1.6),  # past the end by less than annotation tools do
            Utterance(clip, 0.5, "d", offset=0.5),
            Utterance(clip, 1.9, "e"),
            Utterance(clip, 1.5, "f", speaker="s"),
        ],
        tmp_path / "out",
    )
    assert found.rejected == [] and (tmp_path / "out/rejected.jsonl").read_text() == ""
    assert sorted(path.name for path in (tmp_path / "out").glob("*.jsonl")) == [
        "all.jsonl",
        "dev_.._x.jsonl",
        "rejected.jsonl",
        "train.jsonl",
    ]
    (train,) = read_manifest(tmp_path / "out/train.jsonl")
    assert (train.audio_filepath, train.duration, train.extra["license"]) == (clip, 2.0, "CC0-1.0")
    assert read_manifest(found.manifests["dev_.._x"])[0].duration == 2.0
    rest = [(one.text, one.duration) for one in read_manifest(found.manifests["all"])]
    assert rest == [("c", pytest.approx(0.4)), ("d", 0.5), ("e", 2.0), ("f", 1.5)]


def test_rejected_utterances_are_listed_with_their_reasons(tmp_path: Path, write_wav: WriteWav) -> None:
    clip = str(write_wav("a.wav", 2.0))
    (tmp_path / "zero.mp3").write_bytes(b"")
    (tmp_path / "text.wav").write_text("no audio")
    empty = str(write_wav("empty.wav", np.zeros(0)))
    utterances = [
        Utterance(clip, text=" \t", source="t:1"),
        Utterance(str(tmp_path / "none.wav"), text="a", source="t:2"),
        Utterance(str(tmp_path / "zero.mp3"), text="a", source="t:3"),
        Utterance(str(tmp_path / "text.wav"), text="a"),
        Utterance(empty, text="a", source="t:5"),
        Utterance(clip, 1.0, "a", offset=2.0, source="t:6"),
        Utterance(clip, 1.0, "a", offset=1.5, source="t:7"),
        Utterance(clip, 0.0, "a", source="t:8"),
        Utterance(clip, 1.0, "a", offset=-0.5, source="t:9"),
        Utterance(clip, text="good"),
        Utterance(str(tmp_path / "none2.wav"), text="a", source="t:11"),
    ]
    found = run(utterances, tmp_path / "out", Problem("t:0", "3 columns where the header has 10"))
    listed = [json.loads(line) for line in (tmp_path / "out/rejected.jsonl").read_text(encoding="utf-8").splitlines()]
    assert [(record["where"], record["reason"].partition(":")[0]) for record in listed] == [
        ("t:0", "3 columns where the header has 10"),
        ("t:1", "empty text"),
        ("t:2", "audio file not found"),
        ("t:3", "audio file is empty (0 bytes)"),
        (str(tmp_path / "text.wav"), "not readable as audio"),
        ("t:5", "audio has no samples"),
        ("t:6", f"offset 2 s is outside of {clip} (2.00 s)"),
        ("t:7", f"ends at 2.50 s, past the end of {clip} (2.00 s)"),
        ("t:8", "duration is 0 s"),
        ("t:9", f"offset -0.5 s is outside of {clip} (2.00 s)"),
        ("t:11", "audio file not found"),
    ]
    counts = {reason: len(problems) for reason, problems in found.reasons.items()}
    assert next(iter(counts.items())) == ("audio file not found", 2)
    assert counts["offset … s is outside of … (… s)"] == 2 and sum(counts.values()) == 11
    assert [one.text for one in read_manifest(tmp_path / "out/all.jsonl")] == ["good"]


def test_names_that_are_not_utf_8_are_rejected_and_escaped(tmp_path: Path, write_wav: WriteWav) -> None:
    clip = write_wav("a.wav", 1.0)
    old = os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9.wav")
    shutil.copy(clip, old)
    good = Utterance(str(clip), text="a", extra={"split": "rejected"})
    strange = Utterance(str(clip), text="b", extra={"upload": "caf\udce9"})
    found = run([Utterance(old, text="b"), strange, good], tmp_path / "out", Problem(old, "odd"))
    assert [problem.where.endswith("caf\\udce9.wav") for problem in found.rejected] == [True, True, False]
    assert found.rejected[2].what == "not UTF-8: caf\\udce9; rename the file or folder"
    assert [one.text for one in read_manifest(tmp_path / "out/rejected_.jsonl")] == ["a"]
    assert (tmp_path / "out/rejected.jsonl").read_text().count("\n") == 3


def test_only_force_replaces_manifests_and_it_replaces_nothing_else(tmp_path: Path, write_wav: WriteWav) -> None:
    utterances = [Utterance(str(write_wav("a.wav", 1.0)), text="a")]
    run(utterances, tmp_path / "out")
    (tmp_path / "out/mine.jsonl").write_text("mine")
    with pytest.raises(
        AnadilError, match=r"rejected.jsonl exists already\n  next: choose another --out, or add --force"
    ):
        run(utterances, tmp_path / "out")
    (tmp_path / "out/rejected.jsonl").unlink()
    with pytest.raises(AnadilError, match="all.jsonl exists already"):
        run(utterances, tmp_path / "out")
    run(utterances, tmp_path / "out", force=True)
    assert (tmp_path / "out/mine.jsonl").read_text() == "mine"


def test_an_empty_or_missing_source_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(AnadilError, match=r"x holds no utterances\n  expected: anything"):
        run([], tmp_path / "out")
    assert not (tmp_path / "out").exists()
    with pytest.raises(AnadilError, match=r"none.tar.gz is not there\n  expected: the archive as downloaded"):
        import_speech(find_kind("common-voice"), tmp_path / "none.tar.gz", Options(), tmp_path / "out")


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("common-voice", {"tier": "x"}, "common-voice does not support --tier\n  it supports: --lang\n"),
        (
            "ctm",
            {"tier_type": "x", "text_column": "t"},
            "does not support --tier-type, --text-column\n  it supports: --lang, --audio",
        ),
        ("table", {"tier": "x"}, "--audio-column, --text-column, --speaker-column"),
    ],
)
def test_an_option_that_the_kind_does_not_support_is_refused(
    tmp_path: Path, name: str, options: dict[str, str], message: str
) -> None:
    with pytest.raises(AnadilError, match=message):
        import_speech(find_kind(name), tmp_path, Options(**options), tmp_path / "out")


# --- conversion


def test_each_recording_is_converted_to_16_khz_wav_once(tmp_path: Path, write_wav: WriteWav) -> None:
    (tmp_path / "b").mkdir()
    long = str(write_wav("a.flac", 3.0, 44100))
    two = str(write_wav("b/a.wav", np.random.default_rng(0).uniform(-0.5, 0.5, (8000, 2)), 8000))
    utterances = [Utterance(long, 1.0, "one", offset=0.5), Utterance(long, text="two"), Utterance(two, text="three")]
    found = run(utterances, tmp_path / "out", wav=True)
    one, both, three = read_manifest(found.manifests["all"])
    assert (one.audio_filepath, one.offset, one.duration) == (str(tmp_path / "out/wav/a.wav"), 0.5, 1.0)
    assert both.audio_filepath == one.audio_filepath and both.duration == pytest.approx(3.0)
    assert three.audio_filepath == str(tmp_path / "out/wav/b/a.wav") and three.extra["original_audio"] == two
    for path in (one.audio_filepath, three.audio_filepath):
        info = audio.probe(path)
        assert (info.sample_rate, info.channels) == (16000, 1)
    with pytest.raises(AnadilError, match="out/wav exists already"):
        (tmp_path / "out/rejected.jsonl").unlink()
        run(utterances, tmp_path / "out", wav=True)


@pytest.mark.parametrize(("rate", "channels"), [(44100, 2), (8000, 1), (16000, 1)])
def test_conversion_in_blocks_equals_conversion_of_the_whole(
    tmp_path: Path, write_wav: WriteWav, monkeypatch: pytest.MonkeyPatch, rate: int, channels: int
) -> None:
    monkeypatch.setattr("anadil.corpora.importing._BLOCK_SAMPLES", 1000)
    samples = np.random.default_rng(1).uniform(-0.5, 0.5, (rate * 2 + 777, channels))
    source = write_wav("a.wav", samples, rate)
    _convert_to_wav(source, tmp_path / "b.wav")
    whole = audio.read(source, 16000)
    found, _ = soundfile.read(str(tmp_path / "b.wav"), dtype="float32")
    assert len(found) == len(whole)
    assert np.abs(found - whole).max() < 2e-4


def test_a_recording_with_nan_in_the_middle_is_rejected(tmp_path: Path, write_wav: WriteWav) -> None:
    good, bad = str(write_wav("good.wav", 1.0)), tmp_path / "bad.wav"
    samples = np.zeros(16000, dtype=np.float32)
    samples[8000] = np.nan
    soundfile.write(str(bad), samples, 16000, subtype="FLOAT")
    found = run([Utterance(good, text="a"), Utterance(str(bad), text="b", source="t:2")], tmp_path / "out", wav=True)
    assert [str(problem) for problem in found.rejected] == [
        f"t:2: audio contains values that are not numbers (NaN or infinity): {bad}"
    ]
    assert sorted(path.name for path in (tmp_path / "out/wav").iterdir()) == ["good.wav"]


def test_two_recordings_never_get_the_same_name() -> None:
    names = _wav_paths(
        [("/x/a.wav", "mix"), ("/x/a.mp3", "mix"), ("/x/b/a.wav", "mix"), ("/x/b/a.wav", 2)], Path("out")
    )
    assert names == {
        ("/x/a.wav", "mix"): Path("out/a.wav.wav"),
        ("/x/a.mp3", "mix"): Path("out/a.mp3.wav"),
        ("/x/b/a.wav", "mix"): Path("out/b/a.wav"),
        ("/x/b/a.wav", 2): Path("out/b/a-channel2.wav"),
    }
    assert _wav_paths([("/x/y/a.wav", "mix")], Path("out")) == {("/x/y/a.wav", "mix"): Path("out/a.wav")}
    clash = _wav_paths([("/x/a.wav", 1), ("/x/a-channel1.wav", "mix")], Path("out"))
    assert [path.name for path in clash.values()] == ["a.wav-channel1.wav", "a-channel1.wav.wav"]
    assert _wav_paths([], Path("out")) == {}


# --- real clips


def test_real_clips_of_common_voice(shared: Path, tmp_path: Path) -> None:
    source = shared / "speech/common_voice/tr"
    found = import_speech(find_kind("common-voice"), source, Options(), tmp_path / "out")
    assert found.rejected == [] and list(found.splits) == ["validated"]
    validated = read_manifest(found.manifests["validated"])
    assert len(validated) == 100 and len({one.speaker for one in validated}) == 67
    assert all(one.audio_filepath.endswith(".mp3") and (one.duration or 0) > 0.5 for one in validated)
    assert validated[0].text == "Profesöre göre, sürecin aşamalı olması gerekiyor."


def test_a_clip_with_another_duration_than_its_table(shared: Path, tmp_path: Path) -> None:
    clips = sorted((shared / "speech/common_voice/tr/clips").glob("*.mp3"))[:3]
    (tmp_path / "tr/clips").mkdir(parents=True)
    rows, durations = [], []
    for clip, wrong in zip(clips, (60, -60, 5000), strict=True):
        shutil.copy(clip, tmp_path / "tr/clips")
        rows.append(ROW | {"path": clip.name})
        durations.append({"clip": clip.name, "duration[ms]": str(round(audio.probe(clip).duration * 1000) + wrong)})
    write_tsv(tmp_path / "tr/test.tsv", COLUMNS["17"], rows)
    write_tsv(tmp_path / "tr/clip_durations.tsv", "clip duration[ms]", durations)
    found = import_speech(find_kind("common-voice"), tmp_path / "tr", Options(), tmp_path / "out")
    assert [one.duration for one in found.splits["test"]] == [audio.probe(clip).duration for clip in clips[:2]]
    assert len(found.rejected) == 1 and "past the end of" in found.rejected[0].what


# --- channels


@pytest.fixture
def interview(write_wav: WriteWav) -> str:
    """Left speaks for a second, then right, then both; each is heard on the other channel at -20 dB."""
    rng = np.random.default_rng(0)
    left, right = (rng.uniform(-0.5, 0.5, 4 * 16000) for _ in range(2))
    left[16000:32000] = right[:16000] = left[48000:] = right[48000:] = 0
    return str(write_wav("interview.wav", np.stack([left + 0.1 * right, right + 0.1 * left], axis=1)))


def spoken(interview: str, **more: Any) -> list[Utterance]:
    return [Utterance(interview, 0.9, f"{i}", offset=i + 0.05, source=f"t:{i}", **more) for i in range(4)]


def test_split_takes_the_louder_channel_and_rejects_what_is_not_clear(tmp_path: Path, interview: str) -> None:
    mono = Utterance(str(tmp_path / "mono.wav"), text="m")
    audio.write(mono.audio_filepath, np.full(16000, 0.1), 16000)
    stated = Utterance(interview, 0.5, "said", extra={"channel": "B"})
    found = run([*spoken(interview), mono, stated], tmp_path / "out", channel="split")
    read = read_manifest(found.manifests["all"])
    assert [(one.text, one.channel) for one in read] == [("0", 1), ("1", 2), ("m", "mix"), ("said", 2)]
    assert [problem.where for problem in found.rejected] == ["t:2", "t:3"]
    assert found.rejected[0].what.startswith("not clear which channel it is on: the two loudest differ by 0.")
    assert found.rejected[1].what == "no channel has any sound in its stretch"
    assert found.channels == {1: 1, 2: 2}


def test_one_channel_for_all_and_as_wav(tmp_path: Path, interview: str) -> None:
    right = soundfile.read(interview, dtype="float32")[0][:, 1]
    found = run(spoken(interview), tmp_path / "out", channel=2)
    assert {one.channel for one in read_manifest(found.manifests["all"])} == {2}
    found = run(spoken(interview), tmp_path / "wav", channel=2, wav=True)
    one = read_manifest(found.manifests["all"])[0]
    assert Path(one.audio_filepath).name == "interview-channel2.wav" and one.channel == "mix"
    assert (one.extra["original_audio"], one.extra["original_channel"]) == (interview, 2)
    assert np.abs(audio.read(one.audio_filepath, 16000) - right).max() < 1e-4
    both = run(spoken(interview), tmp_path / "both", channel="split", wav=True)
    assert [Path(one.audio_filepath).name for one in both.splits["all"]] == [
        "interview-channel1.wav",
        "interview-channel2.wav",
    ]
    missing = run(spoken(interview), tmp_path / "none", channel=3)
    assert missing.splits == {} and {problem.where for problem in missing.rejected} == {"t:0", "t:1", "t:2", "t:3"}
    assert missing.rejected[0].what == f"{interview} has 2 channels, and no channel 3"


@pytest.mark.parametrize(
    ("said", "stereo", "mono"),
    [
        ("A", (1, None), ("mix", None)),
        ("2", (2, None), ("mix", "2")),
        ("telephone", ("mix", "telephone"), ("mix", "telephone")),
        (0, ("mix", 0), ("mix", 0)),
        ("mix", ("mix", None), ("mix", None)),
    ],
)
def test_what_a_source_says_of_the_channel(
    tmp_path: Path, interview: str, said: object, stereo: tuple[object, object], mono: tuple[object, object]
) -> None:
    """It holds if the recording has it; the side of a call may have a file of its own, and a column mean anything."""
    audio.write(tmp_path / "mono.wav", np.full(16000, 0.1), 16000)
    for path, wanted in ((interview, stereo), (str(tmp_path / "mono.wav"), mono)):
        found = run([Utterance(path, text="a", extra={"channel": said})], tmp_path / "out", force=True)
        (one,) = read_manifest(found.manifests["all"])
        assert (one.channel, one.extra.get("original_channel")) == wanted and "channel" not in one.extra
    found = run([Utterance(interview, text="a", extra={"channel": said})], tmp_path / "out", channel=2, force=True)
    (one,) = read_manifest(found.manifests["all"])
    assert (one.channel, one.extra["original_channel"]) == (2, said)
