from __future__ import annotations

import re
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from anadil.data.examples import Checked, check
from anadil.manifest import Utterance, read_manifest
from anadil.text.alphabet import labels_from_text
from anadil.text.rules import TextSettings, text_rules

RULES = text_rules("en", TextSettings(), [" ", "a", "b"])
SAMPLES_A_FRAME = 1600  # ten frames a second


def check_all(*utterances: Utterance, **limits: Any) -> Checked:
    return check(utterances, RULES, 16000, lambda n: n // SAMPLES_A_FRAME, **limits)


@pytest.fixture
def folder(tmp_path: Path, write_wav: Callable[..., Path]) -> Path:
    write_wav("1s.wav", 1.0)
    write_wav("0.6s.wav", 0.6)
    write_wav("0.59s.wav", 0.59)
    write_wav("stereo.wav", np.zeros((16000, 2)))
    write_wav("none.wav", 0.0)
    (tmp_path / "text.wav").write_text("no audio")
    return tmp_path


PROBLEMS = [
    ({"audio_filepath": "0.wav"}, "audio file not found: .*0.wav", {}),
    ({"audio_filepath": "text.wav"}, "not readable as audio", {}),
    ({"audio_filepath": "none.wav"}, "audio has no samples", {}),
    ({"offset": 1.0}, r"offset 1 s is outside of .*1s.wav \(1.00 s\)", {"offset": 0.89}),
    ({"duration": 0.0}, "duration is 0 s", {"duration": 0.1}),
    ({"text": " "}, "empty text", {"text": "a"}),
    ({"text": "?!"}, r"nothing is left of the text '\?!'", {"text": "?a"}),
    ({"text": "Acz"}, r"'c' \(U\+0063 LATIN SMALL LETTER C\), 'z' .* in 'acz'", {"text": "AbA"}),
    (
        {"audio_filepath": "0.59s.wav", "text": "aabb"},
        "4 labels and 2 repeats need 6 frames, the model makes 5 of 0.59 s",
        {"audio_filepath": "0.6s.wav", "text": "aabb"},
    ),
]


@pytest.mark.parametrize(("bad", "what", "near_miss"), PROBLEMS)
def test_unusable_utterances_are_reported_and_similar_usable_ones_are_not(
    folder: Path, bad: dict[str, Any], what: str, near_miss: dict[str, Any]
) -> None:
    def utterance(changes: dict[str, Any]) -> Utterance:
        fields = {"audio_filepath": "1s.wav", "text": "a"} | changes
        return Utterance(**fields | {"audio_filepath": str(folder / fields["audio_filepath"])}, source="m.jsonl:7")

    checked = check_all(utterance(bad))
    assert (checked.examples, checked.total) == ([], 1)
    (problem,) = checked.problems
    assert problem.where == "m.jsonl:7"
    assert re.search(what, problem.what)
    checked = check_all(utterance(near_miss))
    assert (checked.problems, len(checked.examples)) == ([], 1)


NOTES = [
    ({}, {}, None),
    ({"duration": 1.06}, {}, "longer than the audio is"),
    ({"duration": 1.04}, {}, None),
    ({"duration": 0.94}, {}, "shorter than the audio is"),
    ({"duration": 0.96}, {}, None),
    ({"duration": 0.5, "offset": 0.1}, {}, None),  # a segment
    ({"duration": 0.5, "offset": 0.6}, {}, "longer than the audio is"),
    ({}, {"max_duration": 0.99}, "set aside, longer"),
    ({}, {"max_duration": 1.0, "min_duration": 1.0}, None),
    ({}, {"min_duration": 1.01}, "set aside, shorter"),
]


@pytest.mark.parametrize(("fields", "limits", "note"), NOTES)
def test_changed_and_omitted_utterances_are_noted(
    folder: Path, fields: dict[str, float], limits: dict[str, float], note: str | None
) -> None:
    checked = check_all(Utterance(str(folder / "1s.wav"), text="a", **fields), **limits)  # type: ignore[arg-type]
    assert checked.problems == []
    assert len(checked.examples) == (not (note or "").startswith("set aside"))
    assert list(checked.notes.values()) == [1] * (note is not None)
    assert all(note is not None and note in one for one in checked.notes)
    for example in checked.examples:
        assert example.duration == pytest.approx(min(fields.get("duration", 1), 1 - fields.get("offset", 0)))


def test_files_are_noted_once_and_progress_is_reported(folder: Path) -> None:
    utterances = [Utterance(str(folder / name), text="Ab") for name in ("stereo.wav", "stereo.wav", "1s.wav")]
    reported: list[tuple[int, int]] = []
    checked = check_all(*utterances, on_progress=lambda done, total: reported.append((done, total)))
    assert dict(checked.notes) == {"2 channels, mixed down to one": 1}
    assert [example.labels for example in checked.examples] == [(1, 2)] * 3
    assert checked.hours == pytest.approx(3 / 3600)
    assert reported == [(1, 2), (2, 2)]


@pytest.mark.parametrize(("claimed_s", "n_notes"), [(1.0, 0), (1.5, 1)])
def test_a_cut_off_recording_is_used_up_to_its_end(folder: Path, claimed_s: float, n_notes: int) -> None:
    content = bytearray((folder / "1s.wav").read_bytes())
    content[40:44] = struct.pack("<I", round(claimed_s * 32000))
    (folder / "cut.wav").write_bytes(content)
    checked = check_all(Utterance(str(folder / "cut.wav"), duration=claimed_s, text="a"))
    assert [example.duration for example in checked.examples] == [1.0]
    assert sum(note.startswith("cut off") for note in checked.notes) == len(checked.notes) == n_notes


def test_damaged_recordings_are_all_used_and_counted(shared: Path) -> None:
    utterances = read_manifest(shared / "speech/damaged/manifest.jsonl")
    labels = labels_from_text(text_rules("mdw", TextSettings()), [utterance.text for utterance in utterances]).labels
    checked = check(utterances, text_rules("mdw", TextSettings(), labels), 16000, lambda n: n // 640)
    assert (len(checked.examples), checked.problems) == (4, [])
    ((note, count),) = checked.notes.items()
    assert (note.split(":")[0], count) == ("cut off", 4)
    assert all(
        example.duration < (one.duration or 0) for example, one in zip(checked.examples, utterances, strict=True)
    )
