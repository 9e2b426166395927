"""The order in which `anadil next` gives clips to transcribe."""

from __future__ import annotations

import json
import math
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from anadil import audio
from anadil.manifest import CONFIDENCE, PSEUDO_LABEL, Utterance, read_manifest
from anadil.recognition.next_clips import LEAST_UNCERTAINTY, ranked
from tests.support.command_line import anadil, fails, succeeds
from tests.support.lines import write_lines
from tests.support.micro import speak


def clip(text: str, confidence: float = 0.5, seconds: float = 2.0, speaker: str | None = "ada") -> Utterance:
    extra = {CONFIDENCE: confidence, PSEUDO_LABEL: True, "session": 3}
    return Utterance(f"{text}-{confidence}.wav", seconds, text, speaker=speaker, extra=extra)


def texts(order: list[Utterance]) -> list[str]:
    return [one.extra["pred_text"] for one in order]


def test_the_clip_that_the_model_is_less_sure_of_comes_first() -> None:
    assert texts(ranked([clip("one", 0.9), clip("six", 0.2), clip("ten", 0.6)])) == ["six", "ten", "one"]


def test_a_text_that_was_chosen_already_comes_last() -> None:
    assert texts(ranked([clip("mother", 0.4), clip("mother", 0.41), clip("father", 0.5), clip("pillow", 0.55)])) == [
        "mother", "pillow", "father", "mother",
    ]  # fmt: skip


def test_what_is_transcribed_already_counts() -> None:
    clips = [clip("mother", 0.4), clip("pillow", 0.45)]
    assert texts(ranked(clips)) == ["mother", "pillow"]
    assert texts(ranked(clips, [Utterance("k.wav", 1.0, text) for text in ("mother", "mother", "the mother")])) == [
        "pillow",
        "mother",
    ]


def test_speakers_take_turns() -> None:
    clips = [clip("mother", 0.50, speaker="ada") for _ in range(4)] + [
        clip("mother", 0.52, speaker="ben") for _ in range(4)
    ]
    assert [one.speaker for one in ranked(clips)] == ["ada", "ben"] * 4


def test_a_gain_costs_its_seconds_and_the_time_is_kept_to() -> None:
    clips = [clip("abcdefgh", seconds=20.0), clip("ijklmnop", seconds=2.0), clip("qrstuvwx", seconds=3.0)]
    assert texts(ranked(clips)) == ["ijklmnop", "qrstuvwx", "abcdefgh"]
    assert texts(ranked(clips, max_seconds=20)) == ["ijklmnop", "qrstuvwx"]


def test_a_clip_comes_back_to_be_transcribed() -> None:
    (one,) = ranked([clip("draft", 0.25)])
    assert one.text == "" and not one.is_pseudo_label
    assert one.extra == {CONFIDENCE: 0.25, "session": 3, "rank": 1, "pred_text": "draft"}


def test_the_lazy_choice_is_the_greedy_one() -> None:
    """Against the definition, computed anew for each choice."""
    rng = np.random.default_rng(3)
    clips = [
        clip("".join(rng.choice(list("ab "), 6)), round(float(rng.random()), 3), float(rng.integers(1, 5)), f"s{rng.integers(3)}")
        for _ in range(30)
    ]  # fmt: skip

    def value(chosen: list[Utterance]) -> float:
        weights: Counter[tuple[str, str]] = Counter()
        for one in chosen:
            unsure = max(LEAST_UNCERTAINTY, 1 - one.extra[CONFIDENCE])
            padded = f"  {one.text} "
            for start in range(len(padded) - 2):
                for speaker in ("all", one.speaker or ""):
                    weights[padded[start : start + 3], speaker] += unsure  # type: ignore[assignment]
        return sum(map(math.sqrt, weights.values()))

    left, chosen = list(clips), list[Utterance]()
    while left:
        best = max(left, key=lambda one: (value([*chosen, one]) - value(chosen)) / (one.duration or 1))
        chosen.append(best)
        left.remove(best)
    assert [one.audio_filepath for one in ranked(clips)] == [one.audio_filepath for one in chosen]


@pytest.fixture
def recordings(tmp_path: Path) -> Path:
    folder = tmp_path / "recordings"
    folder.mkdir()
    for name, text in (("1", "abc"), ("2", "cab ba"), ("3", "abc")):
        audio.write(folder / f"{name}.wav", speak(text, seed=int(name)), 16000)
    return folder


def test_next_writes_a_manifest_to_transcribe(exported: Path, recordings: Path, tmp_path: Path) -> None:
    result = succeeds("next", exported, recordings, "--out", tmp_path / "next.jsonl")
    order = read_manifest(tmp_path / "next.jsonl")
    assert result.stdout == f"{tmp_path / 'next.jsonl'}\n" and "3 clips" in result.stderr
    assert [one.extra["rank"] for one in order] == [1, 2, 3]
    assert sorted(one.extra["pred_text"] for one in order) == ["abc", "abc", "cab ba"]
    assert {one.text for one in order} == {""}
    assert "exists already" in fails("next", exported, recordings, "--out", tmp_path / "next.jsonl")


def test_what_has_a_text_is_left_out(exported: Path, recordings: Path, tmp_path: Path) -> None:
    lines = [{"audio_filepath": str(recordings / f"{name}.wav"), "text": "abc" * (name == 1)} for name in (1, 2, 3)]
    manifest = write_lines(tmp_path / "all.jsonl", lines)
    result = succeeds("next", exported, manifest, "--out", tmp_path / "next.jsonl")
    assert "1 utterances have a text" in result.stderr
    assert [Path(one.audio_filepath).name for one in read_manifest(tmp_path / "next.jsonl")] == ["2.wav", "3.wav"]
    known = write_lines(tmp_path / "known.jsonl", [json.loads(json.dumps(lines[0]))])
    result = succeeds(
        "next", exported, recordings, "--transcribed", known, "--minutes", 0.02, "--out", tmp_path / "short.jsonl"
    )
    assert "labelled already" in result.stderr
    assert [Path(one.audio_filepath).name for one in read_manifest(tmp_path / "short.jsonl")] == ["3.wav"]


def test_a_recording_that_cannot_be_read_is_named_and_changes_the_status(
    exported: Path, recordings: Path, tmp_path: Path
) -> None:
    (recordings / "4.wav").write_bytes(b"RIFF and nothing more")
    result = anadil("next", exported, recordings, "--out", tmp_path / "next.jsonl")
    assert result.exit_code == 1 and "4.wav" in result.stderr and "not readable" in result.stderr
    assert len(read_manifest(tmp_path / "next.jsonl")) == 3


def test_silence_alone_gives_nothing_to_transcribe(exported: Path, tmp_path: Path) -> None:
    audio.write(tmp_path / "quiet.wav", np.zeros(32000, np.float32), 16000)
    message = fails("next", exported, tmp_path / "quiet.wav", "--out", tmp_path / "next.jsonl")
    assert "no clip is left" in message and not (tmp_path / "next.jsonl").exists()
