"""Alignment of manifests and recordings with the micro model, whose letters are tones with known times."""

from __future__ import annotations

import itertools
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import anadil
from anadil import audio
from anadil.decoding.word_times import USUAL_DELAY
from anadil.errors import AnadilError
from anadil.manifest import Utterance, read_manifest
from anadil.recognition import align as module
from anadil.recognition.align import ALIGNMENT, Aligned, AlignedWord, align_manifest
from anadil.recognition.recognizer import Recognizer
from anadil.recognition.segment import (
    LOW_SCORE,
    NOT_IN_TEXT,
    NOT_SPOKEN,
    Segmented,
    SegmentLimits,
    segment_recording,
)
from tests.support.micro import GAP_S, LETTER_S, TEXTS, speak
from tests.support.tones import tone_recognizer

RATE = 16000


@pytest.fixture(scope="session")
def recognizer(exported: Path) -> Recognizer:
    return anadil.load(exported)


def true_times(text: str) -> list[tuple[float, float]]:
    """Start and end of each word of `speak(text)`."""
    letters = [(GAP_S + i * (LETTER_S + GAP_S), letter) for i, letter in enumerate(text)]
    words = [list(group) for is_space, group in itertools.groupby(letters, lambda one: one[1] == " ") if not is_space]
    return [(word[0][0], word[-1][0] + LETTER_S) for word in words]


def errors(words: list[AlignedWord], text: str) -> list[float]:
    """By how much the starts and ends are off, seconds."""
    return [
        abs(found - true)
        for word, times in zip(words, true_times(text), strict=True)
        for found, true in zip((word.start, word.end), times, strict=True)
    ]


@pytest.fixture(scope="session")
def aligned(recognizer: Recognizer, micro: Path) -> Aligned:
    return align_manifest(recognizer, read_manifest(micro / "train.jsonl"))


def test_words_are_where_they_are_spoken(aligned: Aligned) -> None:
    assert (aligned.problems, aligned.ignored, aligned.doubtful, aligned.total) == ([], {}, [], len(TEXTS))
    assert aligned.delay != USUAL_DELAY
    assert [one.text for one in aligned.utterances] == list(TEXTS)
    found = [error for words, text in zip(aligned.words, TEXTS, strict=True) for error in errors(words, text)]
    assert max(found) < 0.07  # frames of 40 ms
    raw_score = aligned.utterances[0].extra[ALIGNMENT]["score"]
    assert 0.5 < raw_score <= 1


def test_characters_divide_their_word(aligned: Aligned) -> None:
    for words, text in zip(aligned.words, TEXTS, strict=True):
        assert [word.text for word in words] == text.split()
        for word in words:
            assert "".join(one.text for one in word.characters) == word.spoken
            times = [word.start, *(time for one in word.characters for time in (one.start, one.end)), word.end]
            assert times == sorted(times) and times[0] == times[1] and times[-1] == times[-2]
            assert all(0 <= one.confidence <= 1 for one in word.characters) and 0 <= word.score <= 1


def test_words_come_back_as_written_with_times_of_the_recording(recognizer: Recognizer, tmp_path: Path) -> None:
    samples = np.concatenate([np.zeros(RATE, np.float32), speak("cab ba")])
    audio.write(tmp_path / "a.wav", samples, RATE)
    one = Utterance(str(tmp_path / "a.wav"), 1.3, "— “Cab”, BA!", offset=0.9)
    found = align_manifest(recognizer, [one])
    (words,) = found.words
    assert [(word.text, word.spoken) for word in words] == [("— “Cab”,", "cab"), ("BA!", "ba")]
    assert max(errors([replace(word, start=word.start - 1, end=word.end - 1) for word in words], "cab ba")) < 0.07
    content = found.utterances[0].extra[ALIGNMENT]["words"][0]
    assert (content["text"], content["spoken"]) == ("— “Cab”,", "cab") and len(content["characters"]) == 3


def test_what_cannot_be_aligned_is_named_and_the_rest_is_aligned(recognizer: Recognizer, micro: Path) -> None:
    clip = str(micro / "clips/0.wav")
    texts = ["abc", "", "...", "привет", "abc" * 20, "abc azb"]
    utterances = [Utterance(clip, text=text, source=f"m.jsonl:{i}") for i, text in enumerate(texts, start=1)]
    utterances.append(Utterance(str(micro / "train.jsonl"), text="abc", source="m.jsonl:7"))
    utterances.append(Utterance("nowhere.wav", text="abc", source="m.jsonl:8"))
    found = align_manifest(recognizer, utterances)
    assert [one.source for one in found.utterances] == ["m.jsonl:1", "m.jsonl:6"]
    assert {problem.where: problem.what.split(":")[0].split(",")[0] for problem in found.problems} == {
        "m.jsonl:2": "empty text",
        "m.jsonl:3": "empty text",
        "m.jsonl:4": "the model has no label for 6 of 6 characters",
        "m.jsonl:5": "text too long for its audio",
        "m.jsonl:7": "not readable as audio",
        "m.jsonl:8": "audio file not found",
    }
    assert found.ignored == {"z": 1}


def test_another_text_is_doubtful(recognizer: Recognizer, micro: Path) -> None:
    found = align_manifest(recognizer, [Utterance(str(micro / "clips/0.wav"), text=text) for text in ("abc", "cba")])
    assert [one.text for one, _ in found.doubtful] == ["cba"]


# --- long recordings


def recording(path: Path, texts: list[str], pause_s: float = 0.6) -> Path:
    quiet = np.random.default_rng(1).normal(0, 0.003, round(pause_s * RATE)).astype(np.float32)
    audio.write(path, np.concatenate([quiet, *(part for text in texts for part in (speak(text), quiet))]), RATE)
    return path


TONES = tone_recognizer()
SPOKEN = ["cab ba", "abc", "b ac", "acb a", "ca bc", "bac", "a b c", "cba"]


def segmented(folder: Path, text: str, longest_s: float = 3.0, least_score: float = 0.1) -> Segmented:
    found = segment_recording(
        TONES, recording(folder / "long.wav", SPOKEN), text, SegmentLimits(longest_s, least_score)
    )
    n_left = sum(len(one.text.split()) for one in found.left_out)
    assert sum(map(len, found.words)) + n_left == found.n_words == len(text.split())  # each word is accounted for
    return found


def test_a_recording_is_cut_at_pauses(tmp_path: Path) -> None:
    found = segmented(tmp_path, "\n".join(SPOKEN))
    assert (found.left_out, found.n_cuts_without_pause) == ([], 0)
    assert " ".join(one.text for one in found.segments) == " ".join(SPOKEN)
    assert all(set(one.text) <= set("abc ") and (one.duration or 9) <= 3 for one in found.segments)
    # a segment holds whole lines, as only between them is a pause, and recognises as its text
    ends = set(itertools.accumulate(len(line.split()) for line in SPOKEN))
    assert set(itertools.accumulate(len(one.text.split()) for one in found.segments)) <= ends
    for one in found.segments:
        samples = audio.read(one.audio_filepath, RATE, one.offset, one.duration)
        assert TONES.transcribe(samples).text == one.text


def test_text_that_is_not_spoken_and_speech_that_is_not_in_the_text_are_found(tmp_path: Path) -> None:
    inserted = "bbbbbb bbbbbbb bbbbbbb"
    found = segmented(tmp_path, "\n".join([SPOKEN[0], inserted, *SPOKEN[1:5]]))  # the last three lines are not in it
    (unspoken,), (speech,) = found.of(NOT_SPOKEN), found.of(NOT_IN_TEXT)
    assert (unspoken.text, unspoken.line) == (inserted, 2)
    assert speech.recognized == "bac a b c cba"
    length = sum(len(speak(text)) for text in SPOKEN[:5]) / RATE + 0.6 * 6
    assert speech.start == pytest.approx(length + GAP_S, abs=0.07)
    assert len(found.left_out) == 2
    assert " ".join(one.text for one in found.segments) == " ".join(SPOKEN[:5])
    assert not any(one.offset + (one.duration or 0) > speech.start for one in found.segments)


def test_segments_of_a_low_score_are_left_out(tmp_path: Path) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("anadil.recognition.segment.SKIP_ENTRY", 1e6)  # the wrong text must be aligned
        patch.setattr("anadil.recognition.segment.FOREIGN_ENTRY", 1e6)
        found = segmented(tmp_path, "\n".join([*SPOKEN[:4], "bb ab", *SPOKEN[5:]]), longest_s=2.0)
    assert "bb ab" in [one.text for one in found.of(LOW_SCORE)]
    assert all(one.score is not None and one.score < 0.1 for one in found.left_out)
    assert found.segments[0].text == SPOKEN[0]


def test_blocks_of_a_long_recording_change_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = segmented(tmp_path, "\n".join(SPOKEN))
    monkeypatch.setattr(module, "BLOCK_S", 3.0)
    monkeypatch.setattr(module, "BATCH_SECONDS", 2.0)
    in_blocks = segmented(tmp_path, "\n".join(SPOKEN))
    words = [[word for part in found.words for word in part] for found in (whole, in_blocks)]
    assert [word.text for word in words[1]] == " ".join(SPOKEN).split()
    for one, other in zip(*words, strict=True):
        assert (one.start, one.end) == (pytest.approx(other.start, abs=0.09), pytest.approx(other.end, abs=0.09))


def test_a_silence_of_a_minute_moves_nothing(tmp_path: Path) -> None:
    parts = [recording(tmp_path / f"{i}.wav", texts) for i, texts in enumerate((SPOKEN[:4], SPOKEN[4:]))]
    first, second = (audio.read(part, RATE) for part in parts)
    silence = np.random.default_rng(2).normal(0, 0.003, 60 * RATE).astype(np.float32)
    audio.write(tmp_path / "all.wav", np.concatenate([first, silence, second]), RATE)
    found = segment_recording(TONES, tmp_path / "all.wav", " ".join(SPOKEN), SegmentLimits(3.0))
    assert found.left_out == [] and " ".join(one.text for one in found.segments) == " ".join(SPOKEN)
    after = [one for one in found.segments if one.offset > len(first) / RATE]
    assert after[0].text.startswith("ca bc")
    assert after[0].offset == pytest.approx(len(first) / RATE + 60 + 0.6, abs=0.3)


def test_a_text_of_another_recording_is_an_error(tmp_path: Path) -> None:
    samples = np.random.default_rng(3).normal(0, 0.003, 3 * RATE).astype(np.float32)
    audio.write(tmp_path / "noise.wav", samples, RATE)
    with pytest.raises(AnadilError, match="no word of the text is found"):
        segment_recording(TONES, tmp_path / "noise.wav", "abcabc cbacba " * 4, SegmentLimits())
