"""Subtitles as players accept them, which is more than any standard allows."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from anadil.corpora import subtitles
from anadil.corpora.reader import Options
from anadil.corpora.segments import Segment
from anadil.errors import AnadilError, Problem
from anadil.manifest import Utterance

SRT = """credits by x
1
00:00:01,000 --> 00:00:02,000  X1:100 X2:200
<i>Evet</i>,
1990

2
0:00:02.5-->00:00:03,25
{\\an8}<font color="#fff">iki</font> < üç

dört
3
00:0x:02,500 --> 00:00:03,250
broken

00:00:03,000 --> 00:00:06,000
no number,
5 -> 6: a -> b: 7

5
00:00:07,000 --> 00:00:08,000

6
-00:00:01,000 --> 00:00:08,000
negative

7
00:00:09,000 --> 00:00:08,000
backwards

8
100:00:09,000 --> 100:00:10,000
son
1990"""
VTT = """WEBVTT - talk
CorpusKind: captions

STYLE
::cue { color: red }

NOTE 00:01 is where it begins

intro-1
00:01.000 --> 00:02.500 align:start position:0%
<v.loud Ayşe Y>Evet &amp; <i.x>hayır</i>,
a &lt; b <00:00:02.000><c>üç</c>

00:02.000 --> 100:00:04.000
<v Ayşe>one</v>
<v Bora>two</v>

00:0x.000 --> 00:09.000
broken

00:07.000 --> 00:07.000
<v Bora>none</v>

00:08.000 --> 00:09.000
- 1990
"""


@pytest.fixture
def wav(write_wav: Callable[..., Path]) -> Path:
    return write_wav("talk.wav", 0.1)


def read(source: Path, **options: object) -> tuple[list[Utterance], list[tuple[str, str]]]:
    rejected: list[Problem] = []
    found = list(subtitles.utterances(source, Options(**options), rejected.append))  # type: ignore[arg-type]
    return found, [(problem.where.removeprefix(str(source)), problem.what) for problem in rejected]


@pytest.mark.parametrize(
    ("end", "encoding"), [("\n", "utf-8"), ("\r\n", "utf-8-sig"), ("\r", "utf-8"), ("\n", "utf-16")]
)
def test_subrip(tmp_path: Path, wav: Path, end: str, encoding: str) -> None:
    file = tmp_path / "talk.tr.srt"
    file.write_bytes(SRT.replace("\n", end).encode(encoding))
    found, rejected = read(file)
    assert [(one.text, one.offset, one.duration, one.audio_filepath) for one in found] == [
        ("Evet, 1990", 1.0, 1.0, str(wav)),
        ("iki < üç dört", 2.5, 0.75, str(wav)),
        ("no number, 5 -> 6: a -> b: 7", 3.0, 3.0, str(wav)),
        ("son 1990", 360009.0, 1.0, str(wav)),
    ]
    assert sorted(rejected) == [
        (": line 21", "no text (7 to 8 s)"),
        (": line 24", "starts 1 s before the recording does"),
        (": line 28", "lasts -1 s (9 to 8 s)"),
        (":1", "text before the first cue: 'credits by x'"),
        (":13", "times cannot be read: '00:0x:02,500 --> 00:00:03,250'"),
    ]


@pytest.mark.parametrize(("end", "encoding"), [("\n", "utf-8"), ("\r\n", "utf-8-sig")])
def test_webvtt(tmp_path: Path, wav: Path, end: str, encoding: str) -> None:
    file = tmp_path / "talk.vtt"
    file.write_bytes(VTT.replace("\n", end).encode(encoding))
    found, rejected = read(file, language="tr")
    assert found == [
        Utterance(str(wav), 1.5, "Evet & hayır, a < b üç", 1.0, "Ayşe Y", "tr"),
        Utterance(str(wav), 360002.0, "one two", 2.0, None, "tr", {"voices": ["Ayşe", "Bora"]}),
        Utterance(str(wav), 1.0, "- 1990", 8.0, None, "tr"),
    ]
    assert sorted(rejected) == [
        (": cue 3 (00:00:07.000)", "lasts 0 s (7 to 7 s)"),
        (":18", "times cannot be read: '00:0x.000 --> 00:09.000'"),
    ]


@pytest.mark.parametrize("name", ["talk.srt", "talk.vtt"])
@pytest.mark.parametrize("text", ["", "Once upon a time -->\n", "1" * 100_000, "00:00:0a,000 --> 00:00:02,000\nx"])
def test_a_file_without_subtitles_is_an_error(tmp_path: Path, wav: Path, name: str, text: str) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(AnadilError, match="not a subtitle file"):
        read(tmp_path / name)


def test_a_folder_with_both_formats(tmp_path: Path, wav: Path, write_wav: Callable[..., Path]) -> None:
    write_wav("b.mp3", 0.1, format="WAV")
    (tmp_path / "talk.srt").write_text("00:01,0 --> 00:02,0\nx")
    (tmp_path / "b.VTT").write_text("WEBVTT\n\n00:01.000 --> 00:02.000\ny")
    assert sorted((Path(one.audio_filepath).name, one.text) for one in read(tmp_path)[0]) == [
        ("b.mp3", "y"), ("talk.wav", "x"),
    ]  # fmt: skip


plain = st.text(st.characters(exclude_categories=["Cs", "Cc"])).map(lambda text: " ".join(text.split()))
segments = st.lists(
    st.builds(
        lambda start, length, text, speaker: Segment(start / 1000, (start + length) / 1000, text, speaker),
        st.integers(0, 10**9), st.integers(0, 10**5), plain, st.none() | plain.filter(bool),
    ),
    min_size=1, max_size=4,
)  # fmt: skip


@given(written=segments)
@example(
    written=[
        Segment(0, 1, "<i>a</i> &amp; 0:1 --> 0:2 <v x>", "<b> & c>"),
        Segment(2, 3, "NOTE x"),
        Segment(3, 4, "1990"),
    ]
)
def test_written_webvtt_is_read_back(written: list[Segment]) -> None:
    found = list(subtitles._webvtt(subtitles.format_vtt(written), Path("x"), lambda problem: pytest.fail(str(problem))))
    assert found == written


@given(written=segments)
def test_written_subrip_is_read_back(written: list[Segment]) -> None:
    written = [
        Segment(one.start, one.end, subtitles.collapse_whitespace(subtitles._STYLE.sub("", one.text.replace(">", ""))))
        for one in written
    ]
    found = list(subtitles._subrip(subtitles.format_srt(written), Path("x"), lambda problem: pytest.fail(str(problem))))
    assert found == written
