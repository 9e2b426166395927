from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from anadil.doctor.examine import Model, write_without
from anadil.doctor.findings import Severity
from anadil.doctor.splits import splits_of
from anadil.errors import AnadilError
from anadil.manifest import read_manifest
from tests.support.diagnoses import babble, diagnose, diagnose_texts, kinds_in


def line(text: str, audio: str = "", **fields: Any) -> dict[str, Any]:
    return {"audio_filepath": audio or f"{text}.wav", "text": text} | fields


@pytest.mark.parametrize(
    ("names", "splits"),
    [
        ("train.jsonl valid.jsonl test.jsonl", "train valid test"),
        ("test.jsonl train.jsonl", "test train"),
        ("cv-dev-clean.jsonl tr_train.jsonl", "valid train"),
        ("train-dev.jsonl train.jsonl", "train-dev.jsonl train"),
        ("a.jsonl b.jsonl", "train b.jsonl"),
        ("a.jsonl train-1.jsonl train-2.jsonl", "a.jsonl train train"),
        ("validated.jsonl invalidated.jsonl", "train invalidated.jsonl"),
        ("contest.jsonl", "train"),
        ("test.jsonl", "test"),
    ],
)
def test_splits_by_name_and_else_by_order(names: str, splits: str) -> None:
    assert splits_of([Path(name) for name in names.split()]) == splits.split()


def test_the_config_overrides_the_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    paths = [tmp_path / "test.jsonl", Path("a.jsonl"), Path("b.jsonl")]
    assert splits_of(paths, train=["./b.jsonl"], valid=["test.jsonl"]) == ["valid", "a.jsonl", "train"]


def test_what_splits_share_is_reported_at_the_later_one(tmp_path: Path) -> None:
    samples = (32768 * babble(seed=1)).astype(np.int16)
    soundfile.write(tmp_path / "one.wav", samples, 16000)
    soundfile.write(tmp_path / "one.flac", samples, 16000)
    soundfile.write(tmp_path / "two.wav", babble(seed=2), 16000)
    soundfile.write(tmp_path / "softer.wav", samples // 2, 16000)  # a near miss
    train = [line("ab", "one.wav", speaker="x")]
    shared = [line("A, b!", "one.flac", speaker="x"), line("ba", "two.wav", speaker="y")]
    report = diagnose(tmp_path, train, valid=shared)
    assert kinds_in(report) == {"shared-audio": 1, "shared-speaker": 1} and report.spoiled
    assert {one.where for one in report.findings if "shared" in one.kind.name} == {f"{tmp_path}/valid.jsonl:1"}
    report = diagnose(tmp_path, train, test=[line("AB!", "softer.wav", speaker="X"), line("ba", "two.wav")])
    assert kinds_in(report) == {"shared-text": 1} and not report.spoiled
    assert (
        "1 times in test, 1 times in train: 'AB!'"
        in [one.what for one in report.findings if "occurs" not in one.what][-1]
    )


def test_silence_does_not_count_as_shared_audio(tmp_path: Path) -> None:
    for name in ("0.wav", "1.wav"):
        soundfile.write(tmp_path / name, 0 * babble(), 16000)
    report = diagnose(tmp_path, [line("ab", "0.wav")], valid=[line("ba", "1.wav")])
    assert kinds_in(report) == {"silent-audio": 2}


def test_duplicates(tmp_path: Path) -> None:
    samples = (32768 * babble(seed=1)).astype(np.int16)
    soundfile.write(tmp_path / "one.wav", samples, 16000)
    soundfile.write(tmp_path / "copy.flac", samples, 16000)
    soundfile.write(tmp_path / "shorter.wav", samples[:-1], 16000)
    report = diagnose(tmp_path, [line("ab", "one.wav"), line("ab ", "copy.flac"), line("ba", "shorter.wav")])
    twice = {one.kind.name: one for one in report.findings if "duplicate" in one.kind.name}
    assert set(twice) == {"duplicate-audio", "duplicate-text"} and not report.spoiled
    assert [one.where[-1] for one in twice.values()] == ["2", "2"]
    assert twice["duplicate-text"].value == 2
    report = diagnose(tmp_path, [line("ab", "one.wav"), line("ba", "copy.flac")])
    assert report.spoiled and kinds_in(report) == {"duplicate-audio": 1}  # one of the two texts is wrong


def test_characters_that_the_training_text_does_not_have(tmp_path: Path) -> None:
    train = [line("ab ab")]
    stops = diagnose(tmp_path, train, valid=[line("aq"), line("Qa")], decode_audio=False)
    (unseen,) = [one for one in stops.findings if one.kind.name == "unseen-character"]
    assert (unseen.severity, unseen.value, len(unseen.lines)) == (Severity.SPOILS, 2, 2)
    counts = diagnose(tmp_path, train, test=[line("aq")], decode_audio=False)
    assert kinds_in(counts) == {"unseen-character": 1} and not counts.spoiled
    assert kinds_in(diagnose(tmp_path, train, valid=[line("ba BA?")], decode_audio=False)) == {}


def test_characters_without_a_label_are_reported_once(tmp_path: Path) -> None:
    model = Model(16000, lambda n: n // 640, labels_from_training=False)
    valid = [line("aq", duration=2), line("az", duration=2)]
    report = diagnose(tmp_path, [line("ab", duration=2)], "und", [" ", *"abz"], model, decode_audio=False, valid=valid)
    assert kinds_in(report) == {"no-label": 1, "unseen-character": 1}
    assert [(one.kind.name, one.where[-1], one.severity) for one in report.findings[:2]] == [
        ("unseen-character", "2", Severity.LOOK),  # it has a label, and training goes on
        ("no-label", "1", Severity.SPOILS),
    ]


def test_text_too_long_for_its_audio_counts_repeats(tmp_path: Path) -> None:
    model = Model(16000, lambda n: n // 1600, labels_from_training=True)  # ten frames a second
    records = [line("aabb", duration=0.59), line("aabb", duration=0.6), line("abab", duration=0.4)]
    report = diagnose(tmp_path, records, "und", [" ", "a", "b"], model, decode_audio=False)
    assert kinds_in(report) == {"too-many-labels": 1} and report.spoiled
    assert (report.findings[0].where[-1], report.findings[0].value) == ("1", 1)
    assert "4 labels and 2 repeats need 6 frames, the model makes 5 of 0.59 s" in report.findings[0].what


def rates(*odd: tuple[int, float], **fields: Any) -> list[dict[str, Any]]:
    """30 utterances of about 15 characters a second, and some of (characters, seconds)."""
    usual = [(30, 2 + 0.03 * (i % 11 - 5)) for i in range(30)]
    return [line("a" * n, f"{i}.wav", duration=s) | fields for i, (n, s) in enumerate([*usual, *odd])]


@pytest.mark.parametrize(("odd", "n"), [((30, 1.2), 1), ((30, 1.35), 0), ((10, 2), 1), ((3, 0.2), 0)])
def test_speaking_rates_beyond_three_robust_deviations(tmp_path: Path, odd: tuple[int, float], n: int) -> None:
    assert kinds_in(diagnose(tmp_path, rates(odd), decode_audio=False)) == ({"speaking-rate": 1} if n else {})


def test_a_slow_speaker_and_another_language_are_not_reported(tmp_path: Path) -> None:
    slow = rates(speaker="x") + [line("a" * 30, f"slow{i}.wav", duration=4 + i % 2 / 9, speaker="y") for i in range(6)]
    assert kinds_in(diagnose(tmp_path, slow, decode_audio=False)) == {}
    assert kinds_in(diagnose(tmp_path, slow[:-2], decode_audio=False)) == {"speaking-rate": 4}  # too few to be a habit
    two = rates(language="a") + [record | {"duration": 8.0} for record in rates(language="b")[:22]]
    assert kinds_in(diagnose(tmp_path, two, decode_audio=False)) == {}


def test_a_pause_is_not_slow_speech(tmp_path: Path) -> None:
    """24 clips of 2 s; one with a pause of 6 s, one that is spoken for 8 s."""
    records = []
    for i in range(26):
        samples = babble(8 if i == 25 else 2, seed=i)
        if i == 24:
            samples = babble(8, seed=i)
            samples[16000 : 7 * 16000] *= 1e-3
        soundfile.write(tmp_path / f"{i}.wav", samples, 16000)
        records.append(line("ab" * 12 + "c" * (i % 3), f"{i}.wav"))
    report = diagnose(tmp_path, records)
    assert kinds_in(report) == {"speaking-rate": 1}
    assert report.findings[0].where.endswith(":26")


def test_manifests_without_the_utterances_of_findings(tmp_path: Path) -> None:
    records = [line("ab", note=1), line(" ", note=2), line("a5", note=3), line("ab", "again.wav", note=4)]
    report = diagnose(tmp_path, records, decode_audio=False)
    written = write_without(report.parts, report, ["empty-text", "duplicate-text"], tmp_path / "out")
    assert written == [(tmp_path / "out/train.jsonl", 2)]
    assert [one.extra for one in read_manifest(tmp_path / "out/train.jsonl")] == [{"note": 1}, {"note": 3}]
    assert read_manifest(tmp_path / "out/train.jsonl")[0].audio_filepath == str(tmp_path / "ab.wav")
    with pytest.raises(AnadilError, match="manifest is empty"):
        (tmp_path / "none.jsonl").touch()
        diagnose_texts(tmp_path / "none.jsonl")


def test_hours_count_an_utterance_once_and_the_worst_come_first(tmp_path: Path) -> None:
    report = diagnose(tmp_path, [line("1 q", duration=3600), line("12 34 q", duration=1800)], decode_audio=False)
    (some,) = [some for kind, some in report.by_kind() if kind.name == "symbols"]
    assert [one.value for one in some] == [4, 1] and report.seconds_of(some) == 5400
    assert report.seconds_of(report.findings) == report.seconds == 5400
