from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

import anadil
from anadil import audio
from anadil.data.pauses import cut_file
from anadil.errors import AnadilError
from anadil.manifest import Utterance, read_manifest, write_manifest
from anadil.recognition.pseudo_labels import DurationLimits, PseudoLabels, calibrate, pseudo_label, stretches_of
from anadil.recognition.recognizer import Recognizer
from tests.support.micro import TEXTS, speak

LIMITS = DurationLimits(0.1, 4.0)


@pytest.fixture(scope="module")
def recognizer(exported: Path) -> Recognizer:
    return anadil.load(exported)


@pytest.fixture
def unlabelled(micro: Path) -> list[Utterance]:
    return [replace(one, text="") for one in read_manifest(micro / "train.jsonl")]


def label(recognizer: Recognizer, utterances: list[Utterance], least: float = 0.0, **more: Any) -> PseudoLabels:
    return pseudo_label(recognizer, utterances, least, "micro", **{"limits": LIMITS, "labelled": {}} | more)


def test_the_lines_say_what_was_heard_how_sure_and_by_whom(recognizer: Recognizer, unlabelled: list[Utterance]) -> None:
    spoken = [replace(one, speaker="ayşe", language="en", extra={"license": "CC0"}) for one in unlabelled]
    found = label(recognizer, spoken)
    assert [one.text for one in found.kept] == list(TEXTS) and found.rejected == []
    for one, was in zip(found.kept, spoken, strict=True):
        assert (one.audio_filepath, one.speaker, one.language) == (was.audio_filepath, "ayşe", "en")
        assert set(one.extra) == {"license", "pseudo_label", "confidence", "pseudo_label_model"}
        assert one.extra["license"] == "CC0" and one.is_pseudo_label and one.extra["pseudo_label_model"] == "micro"
        sure = one.extra["confidence"]
        assert 0.5 < sure <= 1.0 and sure == round(sure, 4)  # a threshold that is printed keeps what it kept
        assert one.duration == pytest.approx(audio.probe(one.audio_filepath).duration)
    assert found == label(recognizer, spoken)


def test_the_threshold_parts_kept_from_rejected(recognizer: Recognizer, unlabelled: list[Utterance]) -> None:
    sure = [one.extra["confidence"] for one in label(recognizer, unlabelled).kept]
    least = sorted(sure)[4]
    found = label(recognizer, unlabelled, least)
    assert [one.extra["confidence"] for one in found.kept] == [value for value in sure if value >= least]
    assert found.reasons == {f"confidence below {least:g}": 4}
    lost = found.rejected[0]
    assert lost.text == "" and lost.extra["pred_text"] in TEXTS and lost.extra["confidence"] < least
    assert lost.extra["where"] == lost.source


def test_silence_and_what_cannot_be_used_are_rejected_with_their_reasons(
    recognizer: Recognizer, unlabelled: list[Utterance], tmp_path: Path
) -> None:
    (tmp_path / "noise.wav").write_text("no audio")
    audio.write(tmp_path / "short.wav", speak("a")[:800], 16000)
    first = unlabelled[0]
    bad = [
        Utterance(str(tmp_path / "none.wav"), source="m:1"),
        Utterance(str(tmp_path / "noise.wav"), source="m:2"),
        Utterance(str(tmp_path / "short.wav"), source="m:3"),
        replace(first, offset=100.0, source="m:4"),
        replace(first, duration=0.0, source="m:5"),
        Utterance(str(tmp_path / "caf\udce9.wav"), source="m:6"),
        first,
    ]
    found = label(recognizer, [*unlabelled, *bad])
    assert len(found.kept) == 8
    assert found.reasons == {"not readable": 5, "shorter than 0.1 s": 1, "given twice": 1}
    assert {one.extra["where"] for one in found.rejected} >= {f"m:{n}" for n in range(1, 7)}
    write_manifest(tmp_path / "rejected.jsonl", found.rejected)  # the name that is no UTF-8 too
    assert len(read_manifest(tmp_path / "rejected.jsonl")) == 7


def test_nothing_heard_is_not_a_label(recognizer: Recognizer, unlabelled: list[Utterance]) -> None:
    def blanks(waveforms: np.ndarray, counts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        log_probs = np.full((len(waveforms), 9, 5), -1e3)
        log_probs[:, :, -1] = 0.0
        return log_probs, np.full(len(waveforms), 9)

    found = label(replace(recognizer, forward=blanks), unlabelled)
    assert found.kept == [] and found.reasons == {"empty hypothesis": 8}


def test_audio_that_breaks_off_in_the_middle_costs_that_utterance_alone(
    recognizer: Recognizer, unlabelled: list[Utterance], monkeypatch: pytest.MonkeyPatch
) -> None:
    real = audio.read

    def read(path: str, *args: Any) -> np.ndarray:
        if path == unlabelled[2].audio_filepath:
            raise AnadilError(f"not readable as audio: {path}")
        return real(path, *args)

    monkeypatch.setattr(audio, "read", read)
    found = label(recognizer, unlabelled)
    assert [one.text for one in found.kept] == [*TEXTS[:2], *TEXTS[3:]] and found.reasons == {"not readable": 1}


def test_a_text_that_is_there_is_set_aside_and_not_lost(recognizer: Recognizer, unlabelled: list[Utterance]) -> None:
    told = [replace(unlabelled[0], text="cab"), replace(unlabelled[1], text="cc", extra={"pseudo_label": True})]
    found = label(recognizer, told)
    assert [one.text for one in found.kept] == list(TEXTS[:2]) and found.n_texts == 2
    assert [one.extra.get("original_text") for one in found.kept] == ["cab", None]  # a model's own text is no original


def test_long_recordings_become_pieces_between_the_words(recognizer: Recognizer, tmp_path: Path) -> None:
    words = ["abc", "cab", "bac", "acb", "cba"] * 3
    pauses = np.random.default_rng(0).normal(0, 0.003, 8000).astype(np.float32)
    samples = np.concatenate([part for word in words for part in (speak(word), pauses)])
    soundfile.write(str(tmp_path / "long.flac"), samples, 16000)
    lead = 1.0
    whole = Utterance(str(tmp_path / "long.flac"), speaker="ayşe", extra={"license": "CC0"})
    found = label(recognizer, [whole])
    assert found.n_cut == 1 and len(found.kept) > 3 and not found.rejected
    assert "".join(one.text for one in found.kept).replace(" ", "") == "".join(words)
    assert all(one.duration is not None and one.duration <= 4.0 for one in found.kept)
    assert all((one.speaker, one.extra["license"]) == ("ayşe", "CC0") for one in found.kept)
    for one in found.kept:  # as training will read it
        samples = audio.read(one.audio_filepath, 16000, one.offset, one.duration)
        assert recognizer.decoder.decode(recognizer.log_probs([samples])[0]).text == one.text
    part = replace(whole, offset=lead, duration=8.0, text="said in all of it")
    pieces = label(recognizer, [part]).kept
    assert min(one.offset for one in pieces) >= lead
    assert max(one.offset + (one.duration or 0.0) for one in pieces) <= lead + 8.0 + 1e-6
    assert all("original_text" not in one.extra for one in pieces)


@pytest.mark.parametrize("block_s", [17.0, 40.0, 300.0])
def test_a_file_is_cut_in_blocks_without_gaps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, block_s: float) -> None:
    monkeypatch.setattr("anadil.data.pauses.BLOCK_S", block_s)
    samples = 0.1 * np.random.default_rng(0).standard_normal(100 * 8000).astype(np.float32)
    samples *= np.repeat(np.random.default_rng(1).random(1000), 800).astype(np.float32)
    path = tmp_path / "long.wav"
    audio.write(path, samples, 8000)
    pieces = cut_file(str(path), 16000, 3.0, 90.0, 4.0)
    starts, ends = [one for one, _ in pieces], [start + length for start, length in pieces]
    assert starts[0] == 3.0 and ends[-1] == pytest.approx(93.0)
    assert starts[1:] == pytest.approx(ends[:-1])
    assert all(length <= 4.0 + 1e-9 for _, length in pieces)
    assert sum(length < 2.0 - 1e-3 for _, length in pieces) <= 1  # the last: no block leaves a stump
    assert cut_file(str(path), 16000, 3.0, 4.0, 4.0) == [(3.0, 4.0)]
    assert cut_file(str(path), 16000, 95.0, 60.0, 4.0)[-1][0] < 100.0  # the file ends before the header says


def test_speech_that_is_labelled_already_is_left_out(recognizer: Recognizer, micro: Path, tmp_path: Path) -> None:
    samples = np.concatenate([speak("abc"), speak("cab"), speak("bac")])
    audio.write(tmp_path / "three.wav", samples, 16000)
    (tmp_path / "link.wav").symlink_to(tmp_path / "three.wav")
    length = len(samples) / 3 / 16000
    three = [Utterance(str(tmp_path / "three.wav"), length, "", i * length) for i in range(3)]
    other = [Utterance(str(micro / "clips/0.wav"))]
    middle = Utterance(str(tmp_path / "link.wav"), length, "cab", length)
    found = label(recognizer, [*three, *other], labelled=stretches_of([middle, Utterance(str(micro / "clips/1.wav"))]))
    assert [one.text for one in found.kept] == ["abc", "bac", "abc"]
    assert found.reasons == {"labelled already (--calibrate, --exclude)": 1}
    whole = label(recognizer, three, labelled=stretches_of([replace(middle, duration=None, offset=0.0)]))
    assert whole.kept == []


def test_kept_lines_of_another_language_are_counted(recognizer: Recognizer, unlabelled: list[Utterance]) -> None:
    languages = ["tr", "en", None, "tr", *["en"] * 4]
    found = label(recognizer, [replace(one, language=name) for one, name in zip(unlabelled, languages, strict=True)])
    assert found.languages == {"tr": 2}


# --- calibration


@pytest.fixture(scope="module")
def valid(tmp_path_factory: pytest.TempPathFactory) -> list[Utterance]:
    """60 utterances of "bac abc cab", half of them under noise."""
    folder, text = tmp_path_factory.mktemp("valid"), "bac abc cab"
    rng = np.random.default_rng(0)
    for i in range(60):
        noise = rng.normal(0, 0.4 if i % 2 else 0.0, len(speak(text)))
        audio.write(folder / f"{i}.wav", np.clip(speak(text, seed=i) + noise, -1, 1).astype(np.float32), 16000)
    return [Utterance(str(folder / f"{i}.wav"), None, text.upper(), source=f"valid.jsonl:{i + 1}") for i in range(60)]


def test_confidence_tells_the_noisy_from_the_clean(recognizer: Recognizer, valid: list[Utterance]) -> None:
    told: list[float] = []
    found = calibrate(recognizer, valid, LIMITS, lambda stage, done, total: told.append(done / total))
    assert (found.n_utterances, found.n_set_aside, found.characters.reference) == (60, 0, 60 * 11)
    assert found.characters.rate > 0.1
    by_kept = {one.kept: one for one in found.thresholds}
    assert by_kept[60].cer == found.characters.rate > 0.1  # something was heard in each
    assert min(one.cer for one in found.thresholds) < found.characters.rate / 2
    assert told[-1] == pytest.approx(1.0) and told == sorted(told)


def test_what_is_not_labelled_is_not_calibrated_on(recognizer: Recognizer, valid: list[Utterance]) -> None:
    found = calibrate(recognizer, valid, DurationLimits(0.1, 1.0))
    assert (found.n_utterances, found.n_set_aside, found.thresholds) == (0, 60, [])


def test_calibration_on_pseudo_labels_is_refused(recognizer: Recognizer, valid: list[Utterance]) -> None:
    with pytest.raises(AnadilError, match=r"valid\.jsonl:3: pseudo_label\n(.*\n)*.*give calibration texts that people"):
        calibrate(recognizer, [*valid[:2], replace(valid[2], extra={"pseudo_label": True})], LIMITS)


def test_validation_audio_that_is_not_there_is_named(recognizer: Recognizer, valid: list[Utterance]) -> None:
    gone = replace(valid[0], audio_filepath=os.devnull + "x")
    with pytest.raises(AnadilError, match=r"valid\.jsonl:1: audio file not found"):
        calibrate(recognizer, [gone, *valid[1:]], LIMITS)
