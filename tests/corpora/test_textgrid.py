"""TextGrids in every form that Praat writes, and in some of other programs."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from praatio import textgrid as praatio

from anadil.corpora import textgrid
from anadil.corpora.reader import Options
from anadil.corpora.segments import Segment
from anadil.errors import AnadilError, Problem
from anadil.manifest import Utterance

LONG = """File type = "ooTextFile"
Object class = "TextGrid"

xmin = 0 
xmax = 3.5 
tiers? <exists> 
size = 2 
item []: 
    item [1]:
        class = "IntervalTier" 
        name = "söz" 
        xmin = 0 
        xmax = 3.5 
        intervals: size = 4 
        intervals [1]:
            xmin = 0 
            xmax = 1e-05 
            text = " " 
        intervals [2]:
            xmin = 1e-05 
            xmax = 1.25 
            text = "say ""item [2]: size = 9"" ! 7" 
        intervals [3]:
            xmin = 1.25 
            xmax = 1.25 
            text = "nothing" 
        intervals [4]:
            xmin = 1.25 
            xmax = 3.5 
            text = "two
lines" 
    item [2]:
        class = "TextTier" 
        name = "clicks" 
        xmin = 0 
        xmax = 3.5 
        points: size = 1 
        points [1]:
            number = 1.5 
            mark = "!" 
"""  # noqa: W291
SHORT = '''File type = "ooTextFile"
Object class = "TextGrid"

0
3.5
<exists>
2
"IntervalTier"
"söz"
0
3.5
4
0
1e-05
""
1e-05
1.25
"say ""item [2]: size = 9"" ! 7"
1.25
1.25
"nothing"
1.25
3.5
"two
lines"
"TextTier"
"clicks"
0
3.5
1
1.5
"!"'''
TIGHT = '''"ooTextFile" "TextGrid" 0 3.5 ! times in seconds
<exists> 2 of2 (3) "IntervalTier" "söz" 0 3.5 4 0 0.00001 "" 0.00001 1.25 "say ""item [2]: size = 9"" ! 7" ! "no label"
1.25 1.25 "nothing" 1.25 3.5 "two lines" "TextTier" "clicks" 0 3.5 1 1.5 "!"'''


def two_tiers(first: str, second: str) -> str:
    return textgrid.format_textgrid({"ana": [Segment(0, 1, first)], "ben": [Segment(0.5, 2, second)]}, 2.0)


@pytest.fixture
def file(tmp_path: Path, write_wav: Callable[..., Path]) -> Path:
    """The path of talk.TextGrid, which does not exist yet, beside its recording."""
    write_wav("talk.wav", 0.1)
    return tmp_path / "talk.TextGrid"


def read(source: Path, **options: object) -> tuple[list[Utterance], list[Problem]]:
    rejected: list[Problem] = []
    return list(textgrid.utterances(source, Options(**options), rejected.append)), rejected  # type: ignore[arg-type]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-be"])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
@pytest.mark.parametrize(
    "form",
    [LONG, LONG.replace(" = ", "=").replace("size=9", "size = 9"), SHORT, TIGHT],
    ids=["long", "unspaced", "short", "tight"],
)
def test_every_form_gives_the_same_utterances(file: Path, form: str, end: str, encoding: str) -> None:
    mark = "\ufeff" if encoding == "utf-16-be" else ""
    file.write_bytes((mark + form).replace("\n", end).encode(encoding))
    found, rejected = read(file)
    assert found == [
        Utterance(str(file.with_suffix(".wav")), 1.24999, 'say "item [2]: size = 9" ! 7', 1e-05, extra={"tier": "söz"}),
        Utterance(str(file.with_suffix(".wav")), 2.25, "two lines", 1.25, extra={"tier": "söz"}),
    ]
    assert rejected == [Problem(f"{file}: tier 'söz', interval 3", "lasts 0 s (1.25 to 1.25 s)")]


def test_a_tier_is_chosen_or_each_tier_is_a_speaker(file: Path) -> None:
    file.write_text(two_tiers("evet", "hayır"), encoding="utf-8")
    assert [(one.text, one.speaker) for one in read(file, tier="ben")[0]] == [("hayır", None)]
    for choice in ({"tier": "*"}, {"tier_type": "intervals"}):
        assert [(one.text, one.speaker) for one in read(file, **choice)[0]] == [("evet", "ana"), ("hayır", "ben")]
    with pytest.raises(AnadilError, match="2 tiers hold text, and none was chosen"):
        read(file)
    with pytest.raises(AnadilError, match="no tier called 'Ben'; it has"):
        read(file, tier="Ben")
    file.write_text(two_tiers("", "hayır"), encoding="utf-8")
    assert [one.text for one in read(file)[0]] == ["hayır"]


def test_a_tier_of_points_is_an_error(file: Path) -> None:
    file.write_text(LONG, encoding="utf-8")
    with pytest.raises(AnadilError, match="tier 'clicks' holds points, which have no length"):
        read(file, tier="clicks")


def test_invalid_times_are_rejected(file: Path) -> None:
    file.write_text(
        SHORT.replace("1.25\n3.5", "-1.25\n--undefined--").replace("1e-05\n1.25", "-0.5\n1.25"), encoding="utf-8"
    )
    found, rejected = read(file)
    assert found == []
    assert [problem.what for problem in rejected] == [
        "starts 0.5 s before the recording does",
        "lasts 0 s (1.25 to 1.25 s)",
        "no valid times: -1.25 to nan s",
    ]


@pytest.mark.parametrize(
    ("content", "what"),
    [
        (LONG[: LONG.index('two')].encode(), r"ends before tier 'söz', interval 4: the file was cut off"),
        (SHORT.replace("<exists>\n2", "<exists>\n3").encode(), "ends before the class of tier 3"),
        (SHORT.replace("1.25\n1.25", "1.25").encode(), r":20: expected a number \(tier 'söz', interval 3\), found .nothing"),
        (LONG.replace('"TextGrid"', '"Pitch 1"').encode(), "not a TextGrid: .* and 'Pitch 1'"),
        (LONG.replace("TextTier", "Tier").encode(), "tier 2 is of class 'Tier'"),
        (LONG.replace("size = 4", "size = -4").encode(), "the size of tier 'söz' is -4"),
        (b"ooBinaryFile\x08TextGrid\x01", "binary or chronological"),
        (LONG.encode("cp1254"), "not UTF-8 at line 11"),
        (LONG.encode("utf-16-le"), "zero bytes"),
        (b"", "ends before the file type"),
    ],
)  # fmt: skip
def test_an_incomplete_or_invalid_textgrid_is_an_error(file: Path, content: bytes, what: str) -> None:
    file.write_bytes(content)
    with pytest.raises(AnadilError, match=what):
        read(file)


def test_the_header_of_old_versions_of_praat(file: Path) -> None:
    file.write_text(
        SHORT.replace('File type = "ooTextFile"', 'File type = "ooTextFile short"').replace("Object class = ", "")
    )
    assert len(read(file)[0]) == 2


def test_a_textgrid_without_tiers_is_an_error(file: Path) -> None:
    file.write_text('"ooTextFile" "TextGrid" 0 1 <absent>')
    with pytest.raises(AnadilError, match="it has no tiers"):
        read(file)


words = st.text(st.characters(exclude_categories=["Cs"])).map(lambda text: " ".join(text.split())).filter(bool)


@st.composite
def tiers(draw: st.DrawFn) -> list[Segment]:
    times = sorted(draw(st.lists(st.integers(0, 10**6), min_size=2, max_size=8, unique=True)))
    return [
        Segment(first / 1000, last / 1000, draw(words)) for first, last in zip(times[::2], times[1::2], strict=False)
    ]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("textgrid")


@given(first=tiers(), second=tiers())
def test_written_segments_are_read_back(first: list[Segment], second: list[Segment]) -> None:
    text = textgrid.format_textgrid({'a "b"': first, "ω": second}, 1000.0)
    assert [(tier.name, tier.segments) for tier in textgrid._parse(text, "x")] == [('a "b"', first), ("ω", second)]


def test_written_files_are_read_by_praatio(folder: Path) -> None:
    written = [Segment(0.5, 1.25, 'ağ "ω"'), Segment(1.25, 2.0, "b")]
    (folder / "x.TextGrid").write_text(textgrid.format_textgrid({"söz": written}, 3.0), encoding="utf-8")
    tier = praatio.openTextgrid(str(folder / "x.TextGrid"), includeEmptyIntervals=True).getTier("söz")
    assert [tuple(entry) for entry in tier.entries] == [
        (0, 0.5, ""), (0.5, 1.25, 'ağ "ω"'), (1.25, 2, "b"), (2, 3, ""),
    ]  # fmt: skip


@pytest.mark.parametrize("end", [1.5, 4.0, float("nan")])
def test_segments_that_a_textgrid_does_not_allow_cannot_be_written(end: float) -> None:
    with pytest.raises(AnadilError, match="cannot hold"):
        textgrid.format_textgrid({"x": [Segment(0, end, "a"), Segment(1, 2, "b")]}, 3.0)
