"""CHAT transcripts: time marks, continued lines, dependent lines, and codes in what was said."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from anadil.corpora import chat
from anadil.corpora.reader import Options
from anadil.errors import AnadilError, Problem
from anadil.manifest import Utterance

TALK = (
    """@UTF8
@PID:\t11312/c-00034743-1
@Begin
@Languages:\teng
@Participants:\tCHI Eve Target_Child , MOT Sue Mother
@Media:\t020605, audio
*CHI:\tmore cookie . [+ IMP] \x15100_1500\x15
%mor:\tqn|more
\tn|cookie .
%eng:\tgive me more
*MOT:\tthere's a cookie <on the table
\tin the room> [//] (.) on the table . \x151500_4200\x15
%wor:\tthere's \x151500_1600\x15 a \x151600_1700\x15
*CHI:\txxx (th)at ? \x154200_5000\x15
*MOT:\tno times here .
*MOT:\tbackwards . \x159000_8000\x15
*MOT:\tlate . \x150_"""
    + "9" * 400
    + """\x15
@Tape Location:\t225
*CHI:\t0 [=! whines] . \x159000_9500\x15
*MOT:\tone . \x15%snd:"020605"_10000_11000\x15 two . \x1511000_12000\x15
@End
"""
)


@pytest.fixture
def file(tmp_path: Path, write_wav: Callable[..., Path]) -> Path:
    write_wav("020605.wav", 0.1)
    return tmp_path / "eve.cha"


def read(file: Path, content: str, **options: object) -> tuple[list[Utterance], list[Problem]]:
    file.write_bytes(content.encode("utf-8"))
    rejected: list[Problem] = []
    return list(chat.utterances(file, Options(**options), rejected.append)), rejected  # type: ignore[arg-type]


@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_lines_with_time_marks_become_utterances(file: Path, end: str) -> None:
    options = Options()
    found, rejected = read(file, TALK.replace("\n", end), notes=options.notes)
    assert [(one.text, one.offset, one.duration, one.speaker) for one in found] == [
        ("more cookie.", 0.1, 1.4, "CHI"),
        ("there's a cookie on the table in the room on the table.", 1.5, 2.7, "MOT"),
        ("one. two.", 10.0, 2.0, "MOT"),
    ]
    assert found[0].extra == {
        "tier": "CHI",
        "participant": "Eve Target_Child",
        "annotations": {"%mor": ["qn|more n|cookie ."], "%eng": ["give me more"]},
    }
    assert found[1].extra["annotations"] == {"%wor": ["there's a"]}
    assert [problem.what for problem in rejected] == [
        "unintelligible speech (xxx)",
        "no speech, only codes",
        "no time mark",
        "lasts -1 s (9 to 8 s)",
        "no time mark",
    ]
    assert options.notes.removed == {"[+ ...]": 1, "[//]": 1, "(.)": 1}
    assert [one.text for one in read(file, TALK, tier="CHI")[0]] == ["more cookie."]


@pytest.mark.parametrize(
    ("content", "said", "codes"),
    [
        ("call Grandma and talk +...", "call Grandma and talk", ["+..."]),
        ("man [/] man .", "man man.", ["[/]"]),
        ("<little little> [/] little ?", "little little little?", ["[/]"]),
        ("<no way> [x 2] no: [x 3] .", "no way no way no no no.", ["[x ...]", "[x ...]", ":", ":", ":"]),
        ("you 0v more", "you more", ["0"]),
        ("how_about black+board", "how about blackboard", ["+", "_"]),
        ("&-uh I &+fr &~gaga &um was &=laughs:loud here", "uh I fr gaga um was here", ["&=", "&-", "&+", "&~", "&"]),
        ("&*MOT:mhm wanna [: want to] go [*] ?", "wanna go?", ["[: ...]", "[*]", "&*"]),
        ("hola@s:spa (be)cause b@l run$v", "hola cause b run", ["(...)", "@", "@", "@"]),
        ("+< yes (1.5) +\" he (..) said +\"/.", "yes he said", ["(1.5)", "(..)", "+<", '+"', '+"/.']),
        ("the ⌈2 dog ⌉2 ran ↑ ‡ „ #", "the dog ran", ["#", "⌈2", "⌉2", "↑", "‡", "„"]),
        ("[- spa] ^hola ˈamigo [=? amiga] [>1]", "hola amigo", ["[- ...]", "[=? ...]", "[> ...]", "^", "ˈ"]),
        ("ta:p ((DOOR_SLAMS)) dance", "tap dance", ["((...))", ":"]),
        ("it's 3:00 , “ok” !", "it's 3:00, “ok”!", []),
    ],
)  # fmt: skip
def test_speech_is_kept_and_codes_are_removed_and_counted(content: str, said: str, codes: list[str]) -> None:
    assert chat.clean(content) == (said, codes, "")


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        ("yyy .", "unintelligible speech (yyy)"),
        ("look (.) www@s +...", "unintelligible speech (www)"),
        ("0 .", "no speech, only codes"),
        ("&=laughs", "no speech, only codes"),
        ("man [// man", "a bracket without its pair"),
        ("a" * 20_001, "longer than 20,000 characters"),
    ],
)
def test_a_line_that_cannot_be_used_says_why(content: str, problem: str) -> None:
    assert chat.clean(content)[2] == problem


def test_repetitions_do_not_grow_without_limit() -> None:
    assert len(chat.clean("<" * 9 + "ha" + "> [x 99]" * 9)[0]) < 20_000


@pytest.mark.parametrize(
    ("content", "what"),
    [
        ("@UTF8\n@Begin\n@End\n", "it has no line of a speaker"),
        ("hello\n", "not a CHAT file"),
        ("@Begin\n*CHI:\thi .\n@End\n", "none of its 1 lines of speakers has a time mark(?s:.*)CLAN"),
    ],
)
def test_a_file_without_times_or_speakers_is_one_clear_error(file: Path, content: str, what: str) -> None:
    with pytest.raises(AnadilError, match=what):
        read(file, content)
