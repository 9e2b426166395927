from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import anadil
from anadil import audio
from anadil.errors import AnadilError
from anadil.manifest import Utterance, read_manifest
from anadil.recognition.recognize_manifest import evaluate_decoders, evaluate_manifest
from anadil.recognition.recognizer import Recognizer
from tests.support.micro import TEXTS, speak


@pytest.fixture(scope="module")
def recognizer(exported: Path) -> Recognizer:
    return anadil.load(exported)


@pytest.fixture
def utterances(micro: Path) -> list[Utterance]:
    return read_manifest(micro / "train.jsonl")


def test_what_is_heard_is_scored_in_the_manifests_order(recognizer: Recognizer, utterances: list[Utterance]) -> None:
    told: list[tuple[int, int]] = []
    result, unknown = evaluate_manifest(recognizer, utterances, lambda done, total: told.append((done, total)))
    assert [one.hypothesis for one in result.scored] == [one.reference for one in result.scored] == list(TEXTS)
    assert (result.cer, result.wer, dict(unknown)) == (0.0, 0.0, {})
    assert result.audio_s == pytest.approx(sum(0.06 + 0.2 * len(text) for text in TEXTS), abs=0.01)
    assert result.elapsed_s > 0
    assert told == [(done, 8) for done in range(1, 9)]


def test_errors_are_counted_against_the_normalised_reference(
    recognizer: Recognizer, utterances: list[Utterance]
) -> None:
    texts = ["ABC!", "cab  ba.", "b cc", "a", *TEXTS[4:]]  # heard: abc, cab ba, b ac, acb a, ...
    result, _ = evaluate_manifest(
        recognizer, [replace(one, text=text) for one, text in zip(utterances, texts, strict=True)]
    )
    assert [one.reference for one in result.scored] == ["abc", "cab ba", "b cc", "a", *TEXTS[4:]]
    assert [one.characters.errors for one in result.scored] == [0, 0, 1, 4, 0, 0, 0, 0]
    assert [one.words.errors for one in result.scored] == [0, 0, 1, 1, 0, 0, 0, 0]
    n_characters = sum(map(len, TEXTS)) - len("acb a") + len("a")
    assert result.cer == pytest.approx(5 / n_characters)
    assert result.wer == pytest.approx(2 / (14 - 1))


def test_characters_without_a_label_count_as_errors_and_are_reported(
    recognizer: Recognizer, utterances: list[Utterance]
) -> None:
    result, unknown = evaluate_manifest(
        recognizer, [replace(utterances[0], text="ağc"), replace(utterances[1], text="cxx ba")]
    )
    assert dict(unknown) == {"ğ": 1, "x": 2}
    assert [(one.characters.substitutions, one.characters.deletions) for one in result.scored] == [(1, 0), (2, 0)]
    assert result.cer == 3 / 9


def test_segments_of_one_recording_are_heard_each_on_its_own(recognizer: Recognizer, tmp_path: Path) -> None:
    first, second = speak("cab ba"), speak("acb")
    audio.write(tmp_path / "both.wav", np.concatenate([first, second]), 16000)
    path, split = str(tmp_path / "both.wav"), len(first) / 16000
    segments = [
        Utterance(path, split, "cab ba"),
        Utterance(path, None, "acb", offset=split),
        Utterance(path, 99, "acb", split),
    ]
    result, _ = evaluate_manifest(recognizer, segments)
    assert [one.hypothesis for one in result.scored] == ["cab ba", "acb", "acb"]
    assert [one.utterance.duration for one in result.scored] == pytest.approx([1.26, 0.66, 0.66])


def test_every_utterance_that_cannot_be_scored_is_listed(
    recognizer: Recognizer, utterances: list[Utterance], tmp_path: Path
) -> None:
    (tmp_path / "noise.wav").write_text("no audio")
    bad = [
        replace(utterances[0], audio_filepath=str(tmp_path / "none.wav"), source="m:1"),
        replace(utterances[1], audio_filepath=str(tmp_path / "noise.wav"), source="m:2"),
        replace(utterances[2], text="?!", source="m:3"),
        replace(utterances[3], offset=100.0, source="m:4"),
        replace(utterances[4], duration=0.0, source="m:5"),  # not the whole recording: training refuses it too
    ]
    with pytest.raises(AnadilError) as caught:
        evaluate_decoders(recognizer, [*bad, *utterances[5:]], empty_references="refuse")
    lines = str(caught.value).splitlines()
    expected = [
        "m:1: audio file not found",
        "m:2: not readable as audio",
        "m:3: empty text: the text rules leave nothing of '?!'",
        "m:4: offset 100 s is outside of",
        "m:5: duration is 0 s",
        "5 of 8 utterances cannot be used",
    ]
    assert all(line.startswith(start) for line, start in zip(lines, expected, strict=False))
    assert lines[6].startswith("  next: ")
