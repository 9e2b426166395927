"""CTM files as NIST and Kaldi write them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from anadil.corpora import ctm
from anadil.corpora.reader import Options
from anadil.errors import AnadilError, Problem
from anadil.manifest import Utterance

LINES = """;; a comment
talk 1 0.10 0.40 evet 0.9
talk 1 0.55 0.25 ağ 0.8
talk 1 1.29 0.10 <eps> 1.0
talk 1 1.30 0.20 yeni 0.5
talk 1 1.60 0.20 biri NA lex ana
talk 2 0.20 0.30 öteki
talk A nan 0.1 bad
talk A -1 0.1 bad
talk A 1
* * <ALT_BEGIN>
gone 1 0 1 nobody
"""


def read(source: Path, **options: object) -> tuple[list[Utterance], list[Problem]]:
    rejected: list[Problem] = []
    return list(ctm.utterances(source, Options(**options), rejected.append)), rejected  # type: ignore[arg-type]


def test_words_are_grouped_by_channel_pause_and_speaker(tmp_path: Path, write_wav: Callable[..., Path]) -> None:
    (tmp_path / "wav").mkdir()
    wav = str(write_wav("wav/talk.flac", 0.1))
    (tmp_path / "out.ctm").write_bytes(LINES.replace("\n", "\r\n").encode())
    found, rejected = read(tmp_path, audio=tmp_path / "wav")
    assert found == [
        Utterance(wav, 0.7, "evet ağ", 0.1, extra={"channel": "1", "confidence": 0.85}),
        Utterance(wav, 0.2, "yeni", 1.3, extra={"channel": "1", "confidence": 0.5}),
        Utterance(wav, 0.2, "biri", 1.6, "ana", extra={"channel": "1"}),
        Utterance(wav, 0.3, "öteki", 0.2, extra={"channel": "2"}),
    ]
    assert [problem.what.split("\n")[0][:60] for problem in rejected] == [
        "'nan' is not a number of seconds: 'talk A nan 0.1 bad'",
        "a negative time: 'talk A -1 0.1 bad'",
        "3 columns, expected 5 to 8: 'talk A 1'",
        "3 columns, expected 5 to 8: '* * <ALT_BEGIN>'",
        f"1 utterances: {tmp_path / 'gone.ctm'}: no recording found"[:60],
    ]


def test_a_pause_just_below_the_limit_does_not_split(tmp_path: Path) -> None:
    words = [
        ctm.TimedWord("a", "1", 0.0, 1.0, "x"),
        ctm.TimedWord("a", "1", 1.49, 0.1, "y"),
        ctm.TimedWord("a", "1", 2.1, 0.1, "z"),
    ]
    assert [segment.text for segment in ctm._group_words(words)] == ["x y", "z"]


def test_a_file_that_is_not_ctm_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "a.ctm").write_text("File type\n")
    with pytest.raises(AnadilError, match="not a CTM file"):
        read(tmp_path / "a.ctm")


words = st.builds(
    lambda start, length, word, confidence, speaker: ctm.TimedWord(
        "rec", "1", start / 1000, length / 1000, word, confidence if confidence is None else confidence / 1000, speaker
    ),
    st.integers(0, 10**8), st.integers(0, 10**5),
    st.text(st.characters(exclude_categories=["Cs", "Cc", "Z"]), min_size=1).filter(lambda word: word not in ("<eps>", "@")),
    st.none() | st.integers(0, 1000), st.none() | st.just("ana"),
)  # fmt: skip


@given(written=st.lists(words, min_size=1, max_size=5))
def test_written_segments_are_read_back(tmp_path_factory: pytest.TempPathFactory, written: list[ctm.TimedWord]) -> None:
    file = tmp_path_factory.getbasetemp() / "x.ctm"
    file.write_text(ctm.format_ctm(written), encoding="utf-8", newline="\n")
    assert ctm._words(file, lambda problem: pytest.fail(str(problem))) == written


@pytest.mark.parametrize("word", ["", "a b", "a\n"])
def test_words_with_white_space_cannot_be_written(word: str) -> None:
    with pytest.raises(AnadilError, match="cannot be empty or contain white space"):
        ctm.format_ctm([ctm.TimedWord("a", "1", 0, 1, word)])
