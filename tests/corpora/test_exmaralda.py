"""EXMARaLDA's basic transcriptions: events that are parts of utterances, points without times, several speakers."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from anadil.corpora import exmaralda
from anadil.corpora.reader import Options
from anadil.errors import AnadilError, Problem
from anadil.manifest import Utterance

HEAD = """<?xml version="1.0" encoding="UTF-8"?>
<!-- (c) http://www.rrz.uni-hamburg.de/exmaralda -->
<!DOCTYPE basic-transcription SYSTEM "http://www.exmaralda.org/xml/basic-transcription.dtd">
<basic-transcription><head><meta-information><referenced-file url="talk.mp3"/><referenced-file url="talk.wav"/>
<ud-meta-information/><comment/><transcription-convention>HIAT</transcription-convention></meta-information><speakertable>
<speaker id="SPK0"><abbreviation>ANA</abbreviation></speaker><speaker id="SPK1"><abbreviation>BEN</abbreviation></speaker>
</speakertable></head><basic-body>"""


def timeline(*times: object) -> str:
    points = "".join(
        f'<tli id="T{n}"' + ("" if time is None else f' time="{time}"') + "/>" for n, time in enumerate(times)
    )
    return f"<common-timeline>{points}</common-timeline>"


def tier(name: str, kind: str, speaker: str, *events: tuple[int, int, str], category: str = "v") -> str:
    inner = "".join(f'<event start="T{start}" end="T{end}">{text}</event>' for start, end, text in events)
    who = f' speaker="{speaker}"' if speaker else ""
    return f'<tier id="{name}" category="{category}" display-name="{name}" type="{kind}"{who}>{inner}</tier>'


@pytest.fixture
def file(tmp_path: Path, write_wav: Callable[..., Path]) -> Path:
    write_wav("talk.wav", 0.1)
    return tmp_path / "talk.exb"


def read(file: Path, *parts: str, **options: object) -> tuple[list[Utterance], list[Problem]]:
    file.write_text(HEAD + "".join(parts) + "</basic-body></basic-transcription>", encoding="utf-8")
    rejected: list[Problem] = []
    return list(exmaralda.utterances(file, Options(**options), rejected.append)), rejected  # type: ignore[arg-type]


def test_the_transcription_of_each_speaker_is_taken_with_the_annotations_beside(file: Path) -> None:
    parts = (
        timeline(0, 1, 2, 3, 4),
        tier("ANA [v]", "t", "SPK0", (0, 1, "Merhaba • ((öksürür)) "), (1, 2, "((güler)) "), (3, 4, "sen ")),
        tier("ANA [en]", "a", "SPK0", (0, 1, "Hello"), (1, 3, "laughs"), category="en"),
        tier("BEN [v]", "t", "SPK1", (0, 2, "Evet &amp; tamam")),
        tier("[nn]", "d", "", (0, 4, "wind"), category="nn"),
    )
    options = Options(language="tr")
    found, rejected = read(file, *parts, language="tr", notes=options.notes)
    assert [(one.text, one.offset, one.duration, one.speaker) for one in found] == [
        ("Merhaba", 0.0, 1.0, "ANA"),
        ("sen", 3.0, 1.0, "ANA"),
        ("Evet & tamam", 0.0, 2.0, "BEN"),
    ]
    assert found[0].extra == {"tier": "ANA [v]", "annotations": {"ANA [en]": ["Hello"]}}
    assert [problem.what for problem in rejected] == ["no speech: ((güler))"]
    assert options.notes.removed == {"•": 1, "((öksürür))": 1}
    assert options.notes.left == {"ANA [en]": 2, "[nn]": 1}
    assert [one.text for one in read(file, *parts, tier_type="en")[0]] == ["Hello", "laughs"]
    two = tier("ANA [ipa]", "t", "SPK0", (0, 1, "mɛrhaba"))
    with pytest.raises(AnadilError, match="3 tiers hold text, and none was chosen"):
        read(file, *parts, two)


def test_events_are_joined_where_a_word_continues_or_nobody_set_a_time(file: Path) -> None:
    events = (0, 1, "den Be"), (1, 2, "setzungen, "), (2, 3, "die "), (3, 4, "wir "), (4, 5, "haben ")
    found, _ = read(file, timeline(0, 1, 2, None, 4, None), tier("ANA [v]", "t", "SPK0", *events))
    assert [(one.text, one.offset, one.duration) for one in found] == [("den Besetzungen,", 0, 2), ("die wir", 2, 2)]
    found, _ = read(
        file, timeline(0, 1, None, 3), tier("ANA [v]", "t", "SPK0", (0, 1, "bir"), (1, 2, "iki"), (2, 3, "üç"))
    )
    assert [(one.text, one.offset, one.duration) for one in found] == [("bir", 0, 1), ("iki üç", 1, 2)]


def test_a_time_that_nobody_set_is_interpolated_and_a_bad_one_rejected(file: Path) -> None:
    ana = tier("ANA [v]", "t", "SPK0", (0, 1, "a "), (2, 3, "b "), (4, 5, "c "), (5, 9, "d "))
    found, rejected = read(file, timeline(0, None, None, 3, 2, "x"), ana)
    assert [(one.text, one.offset, one.duration, one.extra.get("interpolated")) for one in found] == [
        ("a", 0, 1, True),
        ("b", 2, 1, True),
    ]
    assert [problem.what for problem in rejected] == ["no valid times: 2.0 to nan s", "no times"]


@pytest.mark.parametrize(
    ("content", "what"),
    [
        ('<!DOCTYPE a [<!ENTITY b "ha">]><basic-transcription>&b;</basic-transcription>', "declares XML entities"),
        (
            '<!DOCTYPE a [<!ENTITY b SYSTEM "file:///etc/passwd">]><basic-transcription>&b;</basic-transcription>',
            "declares XML entities",
        ),
        ("<segmented-transcription/>", "not a file of EXMARaLDA: expected <basic-transcription>"),
        (HEAD, "not readable as XML"),
        (HEAD + timeline(None, None) + "</basic-body></basic-transcription>", "its timeline has no times"),
    ],
)
def test_an_invalid_file_is_an_error(file: Path, content: str, what: str) -> None:
    file.write_text(content, encoding="utf-8")
    with pytest.raises(AnadilError, match=what):
        list(exmaralda.utterances(file, Options(), lambda problem: None))
