"""Transcriber's files: turns cut at marks, several speakers at once, events, old encodings and the DTD."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from anadil.corpora import transcriber
from anadil.corpora.reader import Options
from anadil.errors import AnadilError, Problem
from anadil.manifest import Utterance

TURNS = """<Section type="report" startTime="0" endTime="9">
<Turn startTime="0" endTime="3" speaker="spk1">
<Sync time="0"/>

<Event desc="r" type="noise" extent="instantaneous"/>
 bugün é
<Event desc="tr" type="language" extent="begin"/>güzel<Comment desc="a car"/>
<Sync time="1.5"/>
hava
</Turn>
<Turn speaker="spk1 spk2" startTime="3" endTime="4"><Sync time="3"/>
<Who nb="1"/>
evet
<Who nb="2"/>
hayır
</Turn>
<Turn startTime="4" endTime="5"><Sync time="4"/>
<Event desc="music" type="noise" extent="instantaneous"/>
</Turn>
</Section>
"""


@pytest.fixture
def file(tmp_path: Path, write_wav: Callable[..., Path]) -> Path:
    write_wav("talk.wav", 0.1)
    return tmp_path / "first.trs"


def read(file: Path, turns: str, encoding: str = "UTF-8", declared: str = "", **options: object) -> tuple[
    list[Utterance], list[Problem]
]:  # fmt: skip
    content = (
        f'<?xml version="1.0" encoding="{declared or encoding}"?>\n<!DOCTYPE Trans SYSTEM "trans-14.dtd">\n'
        '<Trans scribe="x" audio_filename="talk" version="1" version_date="990901"><Speakers>\n'
        '<Speaker id="spk1" name="Ana"/><Speaker id="spk2" name="Ben"/></Speakers>\n'
        f"<Episode>{turns}</Episode></Trans>"
    )
    file.write_bytes(content.encode(encoding))
    rejected: list[Problem] = []
    return list(transcriber.utterances(file, Options(**options), rejected.append)), rejected  # type: ignore[arg-type]


@pytest.mark.parametrize("encoding", ["UTF-8", "ISO-8859-9", "windows-1254"])
def test_turns_are_cut_at_their_marks_and_each_speaker_has_what_he_said(file: Path, encoding: str) -> None:
    options = Options()
    found, rejected = read(file, TURNS, encoding, notes=options.notes)
    assert [(one.text, one.offset, one.duration, one.speaker, one.extra) for one in found] == [
        ("bugün é güzel", 0, 1.5, "Ana", {}),
        ("hava", 1.5, 1.5, "Ana", {}),
        ("evet", 3, 1, "Ana", {"overlaps": ["Ben"]}),
        ("hayır", 3, 1, "Ben", {"overlaps": ["Ana"]}),
    ]
    assert rejected == []
    assert options.notes.removed == {"[r]": 1, "[language=tr]": 1, "[comment=a car]": 1}
    assert {Path(one.audio_filepath).name for one in found} == {"talk.wav"}  # by audio_filename


def test_unintelligible_speech_untranscribed_sections_and_bad_times_are_rejected(file: Path) -> None:
    turns = """<Section type="report"><Turn startTime="0" endTime="2" speaker="spk1"><Sync time="0"/>yes
    <Event desc="pi" type="pronounce" extent="instantaneous"/></Turn>
    <Turn startTime="2" endTime="4" speaker="spk3"><Sync time="2"/>a<Sync time="3"/>b<Sync time="1"/>c<Sync time="x"/>d
    </Turn></Section>
    <Section type="nontrans" startTime="4" endTime="9"><Turn startTime="4" endTime="9"><Sync time="4"/></Turn>
    <Turn startTime="5" endTime="6"><Sync time="5"/>note</Turn></Section>"""
    found, rejected = read(file, turns)
    assert [(one.text, one.speaker) for one in found] == [("a", "spk3")]
    assert [problem.what for problem in rejected] == [
        "holds unintelligible speech",
        "lasts -2 s (3 to 1 s)",
        "its time mark goes back to 1 s, after one at 3 s",
        "no valid times: nan to 4.0 s",
        "in a section that is marked as not transcribed (nontrans)",
    ]


def test_a_file_that_lies_about_its_encoding_or_holds_nothing_is_an_error(file: Path) -> None:
    with pytest.raises(AnadilError, match="not readable as XML"):
        read(file, TURNS, "ISO-8859-9", declared="UTF-8")
    with pytest.raises(AnadilError, match="not readable as XML"):
        read(file, TURNS, declared="klingon")
    with pytest.raises(AnadilError, match="no turn holds any text"):
        read(file, '<Section type="nontrans"/>')
    file.write_text('<!DOCTYPE Trans SYSTEM "x.dtd" [<!ENTITY a "b">]><Trans>&a;</Trans>')
    with pytest.raises(AnadilError, match="declares XML entities"):
        list(transcriber.utterances(file, Options(), lambda problem: None))


def test_an_encoding_of_several_bytes_is_read(file: Path) -> None:
    turns = '<Section><Turn startTime="0" endTime="1" speaker="spk1"><Sync time="0"/>日本語</Turn></Section>'
    assert [one.text for one in read(file, turns, "Shift_JIS")[0]] == ["日本語"]
