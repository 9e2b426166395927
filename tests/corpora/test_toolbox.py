"""Toolbox texts: as ELAN exports them, with references to recordings, and in old encodings."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from anadil.corpora import toolbox
from anadil.corpora.reader import Options
from anadil.errors import AnadilError, Problem
from anadil.manifest import Utterance

ELAN = r"""\_sh v3.0  400  Text
\_DateStampHasFourDigitYear

\id Conversation
\ref talk.001
\ELANBegin 0.500
\ELANEnd 1.750
\ELANParticipant Ana
\tx mwána abé
\mb mw-  ána abé
\ge CL1- child
be.here
\tx ya
\ge that
\ft The child is here.
\dt 29/Nov/2012

\ref talk.002
\ELANBegin 00:00:02,500
\ELANEnd 00:01:03.250
\ELANParticipant ***
\tx é
\ref talk.003
\tx no times
\ref talk.004
\ELANBegin 5.0
\ELANEnd 4.0
\tx backwards
"""


@pytest.fixture
def file(tmp_path: Path, write_wav: Callable[..., Path]) -> Path:
    write_wav("talk.wav", 0.1)
    return tmp_path / "talk.txt"


def read(file: Path, content: str, written: str = "utf-8", **options: object) -> tuple[list[Utterance], list[Problem]]:
    file.write_bytes(content.encode(written))
    rejected: list[Problem] = []
    return list(toolbox.utterances(file, Options(**options), rejected.append)), rejected  # type: ignore[arg-type]


@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_records_with_elans_markers(file: Path, end: str) -> None:
    found, rejected = read(file, ELAN.replace("\n", end))
    assert [(one.text, one.offset, one.duration, one.speaker) for one in found] == [
        ("mwána abé ya", 0.5, 1.25, "Ana"),
        ("é", 2.5, 60.75, None),
    ]
    assert found[0].extra == {
        "tier": "tx",
        "annotations": {
            "mb": ["mw-", "ána", "abé"],
            "ge": ["CL1-", "child", "be.here", "that"],
            "ft": ["The child is here."],
            "dt": ["29/Nov/2012"],
        },
    }
    assert [(problem.where.rsplit(", ")[1], problem.what) for problem in rejected] == [
        (r"\ref talk.003", "no times"),
        (r"\ref talk.004", "lasts -1 s (5 to 4 s)"),
    ]


def test_references_to_stretches_of_recordings(file: Path, write_wav: Callable[..., Path]) -> None:
    write_wav("other one.wav", 0.1)
    content = r"""\id First
\ref 1
\_AUDIO C:\rec\talk.wav 1.2 3.4
\tx one
\id Second
\sound other one.wav
\ref 2
\aud other one.wav 00:01.5 2,25
\tx two
\ref 3
\ELANBegin 3
\ELANEnd 4
\tx three, in the recording of its text
\ref 4
\aud talk.wav 1:x 2
\tx four
"""
    found, rejected = read(file, content)
    assert [(one.text.split(",")[0], Path(one.audio_filepath).name, one.offset, one.duration) for one in found] == [
        ("one", "talk.wav", 1.2, 2.2),
        ("two", "other one.wav", 1.5, 0.75),
        ("three", "other one.wav", 3.0, 1.0),
    ]
    assert [problem.what for problem in rejected] == ["no times"]


def test_records_of_other_markers_and_a_text_marker_that_must_be_chosen(file: Path) -> None:
    content = "\\_sh v3.0 x\n\n\\ELANExport\n" + "".join(
        f"\n\\block {n}\n\\ELANBegin {n}\n\\ELANEnd {n + 1}\n\\t sentence {n}\n\\f translation {n}\n" for n in range(3)
    )
    with pytest.raises(AnadilError, match="2 tiers hold text, and none was chosen(?s:.*)such as 'sentence 0'"):
        read(file, content)
    found, _ = read(file, content, tier="\\t")
    assert [(one.text, one.offset, one.extra["annotations"]) for one in found] == [
        (f"sentence {n}", float(n), {"f": [f"translation {n}"]}) for n in range(3)
    ]
    one = "\\ELANExport\n\n\\block 1\n\\EUDICOt0 1\n\\EUDICOt1 2\n\\EUDICOp Ana\n\\t only\n"
    assert [(one.text, one.offset, one.speaker) for one in read(file, one)[0]] == [("only", 1.0, "Ana")]


@pytest.mark.parametrize("encoding", ["cp1252", "mac_roman"])
def test_an_encoding_is_asked_for_and_never_guessed(file: Path, encoding: str) -> None:
    with pytest.raises(AnadilError, match="not UTF-8 at line 9(?s:.*)--encoding cp1252"):
        read(file, ELAN, encoding)
    assert [one.text for one in read(file, ELAN, encoding, encoding=encoding)[0]] == ["mwána abé ya", "é"]
    with pytest.raises(AnadilError, match="unknown encoding 'klingon'"):
        read(file, ELAN, encoding="klingon")


@pytest.mark.parametrize(
    ("content", "what"),
    [
        ("Once upon a time\n", ":1: not a Toolbox file"),
        ("\\_sh v3.0 x\n\n\\id A\n\\ref 1\n\\tx a\n", "none of its 1 records has times: looked for .ELANBegin"),
        ("\\lx word\n\\ge gloss\n", "none of its 1 records has times"),
        ("", "none of its 0 records has times"),
    ],
)
def test_what_is_no_text_with_times_is_an_error(file: Path, content: str, what: str) -> None:
    with pytest.raises(AnadilError, match=what):
        read(file, content)
