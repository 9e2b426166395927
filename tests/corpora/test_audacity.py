"""Audacity's labels."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from anadil.corpora import audacity
from anadil.corpora.reader import Options
from anadil.corpora.segments import Segment
from anadil.errors import AnadilError, Problem
from anadil.manifest import Utterance


@pytest.fixture
def wav(write_wav: Callable[..., Path]) -> Path:
    return write_wav("talk.wav", 0.1)


def read(source: Path, **options: object) -> tuple[list[Utterance], list[Problem]]:
    rejected: list[Problem] = []
    return list(audacity.utterances(source, Options(**options), rejected.append)), rejected  # type: ignore[arg-type]


def test_labels_as_audacity_exports_them(tmp_path: Path, wav: Path) -> None:
    lines = [
        "0.500000\t1.250000\tEvet,  ağ\tve tab",
        "\\\t120.000000\t3400.000000",
        "2,000000\t2,500000\tωra",
        "3.000000\t3.000000\tclick",
        "4.000000\t3.500000\tbackwards",
        "nan\t5.0\tnot a time",
        "6.000000\t7.000000",
        "hello",
    ]
    file = tmp_path / "talk.txt"
    file.write_bytes("\r\n".join(lines).encode("utf-8-sig"))
    found, rejected = read(file, language="tr")
    assert found == [
        Utterance(str(wav), 0.75, "Evet, ağ ve tab", 0.5, language="tr"),
        Utterance(str(wav), 0.5, "ωra", 2.0, language="tr"),
    ]
    assert sorted((problem.where.removeprefix(str(file)), problem.what) for problem in rejected) == [
        (": line 5", "lasts -0.5 s (4 to 3.5 s)"),
        (": line 7", "no text (6 to 7 s)"),
        (":4", "a point label, which has no length: 'click' at 3 s"),
        (":6", "not a label: expected START<tab>END<tab>TEXT, found 'nan\\t5.0\\tnot a time'"),
        (":8", "not a label: expected START<tab>END<tab>TEXT, found 'hello'"),
    ]


def test_the_recording_may_be_given(tmp_path: Path, wav: Path) -> None:
    (tmp_path / "labels.txt").write_text("0\t1\tx\n")
    with pytest.raises(AnadilError, match="no recording found: looked for labels (?s:.*)--audio"):
        read(tmp_path / "labels.txt")
    assert [one.audio_filepath for one in read(tmp_path / "labels.txt", audio=wav)[0]] == [str(wav)]
    with pytest.raises(AnadilError, match="--audio: .*gone is not there"):
        read(tmp_path / "labels.txt", audio=tmp_path / "gone")


def test_one_recording_cannot_belong_to_many_files(tmp_path: Path, wav: Path) -> None:
    for name in ("a.txt", "b.txt"):
        (tmp_path / name).write_text("0\t1\tx\n")
    with pytest.raises(AnadilError, match="is one recording, and there are 2 annotation files"):
        read(tmp_path, audio=wav)


def test_recordings_with_the_same_name_are_matched_by_their_folder(
    tmp_path: Path, write_wav: Callable[..., Path]
) -> None:
    for speaker in ("ana", "ben"):
        (tmp_path / "wav" / speaker).mkdir(parents=True)
        (tmp_path / "labels" / speaker).mkdir(parents=True)
        write_wav(f"wav/{speaker}/1.wav", 0.1)
        (tmp_path / "labels" / speaker / "1.txt").write_text(f"0\t1\t{speaker}\n")
    (tmp_path / "labels" / "1.txt").write_text("0\t1\twhose\n")
    found, rejected = read(tmp_path / "labels", audio=tmp_path / "wav")
    assert [(one.text, Path(one.audio_filepath).parent.name) for one in found] == [("ana", "ana"), ("ben", "ben")]
    assert "several recordings are called 1" in rejected[0].what


def test_names_match_in_any_unicode_form(tmp_path: Path, write_wav: Callable[..., Path]) -> None:
    write_wav("s\u0131g\u0306.WAV", 0.1)  # decomposed, as macOS copies it
    (tmp_path / "S\u0131\u011f.txt").write_text("0\t1\tx\n")
    assert len(read(tmp_path)[0]) == 1


def test_a_text_without_labels_is_an_error(tmp_path: Path, wav: Path) -> None:
    (tmp_path / "talk.txt").write_text("Once upon a time\nthere was\n")
    with pytest.raises(AnadilError, match="not an Audacity label file"):
        read(tmp_path / "talk.txt")


@given(
    st.lists(
        st.tuples(st.integers(0, 10**9), st.integers(1, 10**6), st.text(st.characters(exclude_categories=["Cs", "Cc"])))
    )
)
def test_written_segments_are_read_back(
    tmp_path_factory: pytest.TempPathFactory, spans: list[tuple[int, int, str]]
) -> None:
    spans.append((0, 1, "x"))
    written = [Segment(start / 1e6, (start + length) / 1e6, " ".join(text.split())) for start, length, text in spans]
    file = tmp_path_factory.getbasetemp() / "labels.txt"
    file.write_text(audacity.format_audacity(written), encoding="utf-8", newline="\n")
    assert audacity._labels(file, lambda problem: pytest.fail(str(problem))) == written
