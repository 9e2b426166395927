"""The choice of tiers, for all formats that have them; what is left is counted; what was read can be written again."""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from anadil.corpora import elan, textgrid
from anadil.corpora.reader import Options
from anadil.corpora.segments import Segment, Tier, choose_tiers, match_names
from anadil.errors import AnadilError, Problem
from anadil.manifest import Utterance
from tests.support.command_line import anadil, fails, succeeds


@pytest.mark.parametrize(
    ("wanted", "matched", "unmatched"),
    [
        (["CHI", "FA1"], {"CHI", "FA1"}, []),
        (["CHI, FA1"], {"CHI", "FA1"}, []),
        (["FA*"], {"FA1", "FA1-ids"}, []),
        (["CHI,FA*", "a"], {"CHI", "FA1", "FA1-ids", "a"}, []),
        (["a,b"], {"a,b"}, []),  # an exact name wins over a list
        (["CHI,a,b"], {"CHI", "a,b"}, []),
        (["b,a"], {"a", "b"}, []),
        (["a[1]"], {"a[1]"}, []),  # and over a pattern
        (["CHI,FA2", "X*"], {"CHI"}, ["FA2", "X*"]),
        (["chi"], set(), ["chi"]),
        (["se\u0301"], {"s\u00e9"}, []),  # composed and decomposed
        ([""], set(), [""]),
        (["CHI,"], {"CHI"}, []),
    ],
)
def test_names_lists_and_patterns_mean_these_tiers(wanted: list[str], matched: set[str], unmatched: list[str]) -> None:
    names = ["CHI", "FA1", "FA1-ids", "a", "b", "a,b", "a[1]", "s\u00e9"]
    assert match_names(wanted, names) == (matched, unmatched)


@pytest.mark.parametrize("choice", [["--tier", "CHI", "--tier", "FA1"], ["--tier", "CHI,FA1"], ["--tier", "*[!s]"]])
def test_several_tiers_are_imported_and_the_others_counted(shared: Path, tmp_path: Path, choice: list[str]) -> None:
    file = shared / "faults/two_tiers.eaf"
    result = succeeds("import", "elan", file, *choice, "--out", tmp_path / "out")
    lines = (tmp_path / "out/all.jsonl").read_text(encoding="utf-8").splitlines()
    found = [(one["speaker"], one["tier"], one["text"]) for one in map(json.loads, lines)]
    assert found == [("CHI", "CHI", "wa láatiá"), ("CHI", "CHI", "wangala"), ("FA1", "FA1", "la ngá")]
    last = result.stdout.splitlines()[-1]
    assert last == "3 utterances of tiers 'CHI' (2), 'FA1' (1); 1 annotation of other tiers left: 'FA1-ids' (1)"
    told = json.loads(succeeds("import", "elan", file, *choice, "--out", tmp_path / "out", "--force", "--json").stdout)
    assert told["tiers"] == {"taken": {"CHI": 2, "FA1": 1}, "left": {"FA1-ids": 1}, "kept_in_annotations": {}}


def test_without_a_choice_the_tiers_are_listed_with_a_sample_and_none_is_taken(shared: Path, tmp_path: Path) -> None:
    file = shared / "faults/two_tiers.eaf"
    error = fails("import", "elan", file, "--out", tmp_path / "out")
    assert "3 tiers hold text, and none was chosen" in error
    for line in ("'CHI', type 'default-lt', 2 annotations with text, such as 'wa láatiá'", "such as 'FA1_0001'"):
        assert line in error
    error = fails("import", "elan", file, "--tier", "CHI,FA2", "--out", tmp_path / "out")
    assert "no tier called 'FA2'; it has:\n  'CHI'" in error and "--tier NAME" in error
    error = fails("import", "elan", file, "--tier-type", "default-lt", "--tier-type", "x", "--out", tmp_path / "out")
    assert "no tier of type 'x'; it has:" in error
    assert not (tmp_path / "out").exists()


def tier(name: str, *texts: str, transcribes: str | None = None, has_intervals: bool = True) -> Tier:
    segments = [Segment(i, i + 1, text) for i, text in enumerate(texts)]
    return Tier(name, "x", segments, has_intervals, transcribes, is_speaker=True)


def test_tiers_that_the_format_calls_transcriptions_are_taken_if_each_speaker_has_one() -> None:
    def taken(*tiers: Tier, **choice: str) -> tuple[list[str], list[str]]:
        options = Options(**choice)
        return [one.name for one in choose_tiers(tiers, options, Path("f"))], list(options.notes.remarks)

    ana, ben, note = tier("ana", "a", transcribes="A"), tier("ben", "b", transcribes="B"), tier("note", "n")
    assert taken(ana, ben, note) == (
        ["ana", "ben"],
        ["tiers 'ana', 'ben' taken: by the format, each of them holds what a speaker said"],
    )
    assert taken(ana, note)[0] == ["ana"] and taken(ana, note, tier="note")[0] == ["note"]
    assert taken(tier("empty"), note) == (["note"], ["tier 'note' taken: no other tier of intervals holds text"])
    with pytest.raises(AnadilError, match="2 tiers hold text"):
        taken(ana, tier("phonetic", "a", transcribes="A"))
    clicks = tier("clicks", "!", has_intervals=False)
    assert taken(ana, clicks, tier="*")[0] == ["ana"]
    for choice in ("clicks", "ana,clicks", "cl*"):
        with pytest.raises(AnadilError, match="tier 'clicks' holds points"):
            taken(ana, clicks, tier=choice)


def test_in_a_folder_each_file_may_lack_some_tiers_but_no_tier_may_be_unknown(
    tmp_path: Path, write_wav: Callable[..., Path]
) -> None:
    for name, tiers in {"a": ["CHI", "MOT"], "b": ["CHI"], "c": ["FAT"]}.items():
        write_wav(f"{name}.wav", 0.1)
        written = {tier: [Segment(0, 1, f"{name} {tier}")] for tier in tiers}
        (tmp_path / f"{name}.TextGrid").write_text(textgrid.format_textgrid(written, 2.0), encoding="utf-8")
    rejected: list[Problem] = []
    options = Options(tier=["CHI", "MOT"])
    found = list(textgrid.utterances(tmp_path, options, rejected.append))
    assert [one.text for one in found] == ["a CHI", "a MOT", "b CHI"]
    assert [Path(problem.where).name for problem in rejected] == ["c.TextGrid"]
    assert rejected[0].what.startswith("no tier called 'CHI', 'MOT'; it has:\n  'FAT'")
    with pytest.raises(AnadilError, match="no tier called 'GRA'; it has:") as caught:
        list(textgrid.utterances(tmp_path, Options(tier="CHI,GRA"), rejected.append))
    assert "'CHI', type 'intervals', 2 annotations" in str(caught.value)  # of all files together


def test_an_empty_folder_is_an_error_that_says_what_is_expected(tmp_path: Path) -> None:
    from anadil.corpora.catalog import KINDS

    (tmp_path / "empty/deep").mkdir(parents=True)
    for kind in KINDS:
        if kind.is_file:
            error = fails("import", kind.name, tmp_path / "empty", "--out", tmp_path / "out")
            assert f"empty is an empty folder\n  expected: {kind.source}" in error
    (tmp_path / "empty/note.pdf").write_bytes(b"")
    for kind in KINDS:
        if kind.is_file:
            fails("import", kind.name, tmp_path / "empty", "--out", tmp_path / "out")
    assert not (tmp_path / "out").exists()


texts = st.text(st.characters(exclude_categories=["Cc", "Cs"], exclude_characters="\ufffe\uffff")).map(
    lambda text: " ".join(text.split())
)


@st.composite
def tier_of_segments(draw: st.DrawFn) -> list[Segment]:
    times = sorted(draw(st.lists(st.integers(0, 10**7), min_size=2, max_size=9, unique=True)))
    pairs = itertools.pairwise(times)  # each begins where the one before it ends
    return [Segment(start / 1000, end / 1000, draw(texts.filter(bool))) for start, end in pairs]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("round_trip")
    (folder / "talk.wav").write_bytes(b"")
    return folder


@given(tiers=st.dictionaries(texts.filter(bool), tier_of_segments(), min_size=1, max_size=3))
def test_what_is_imported_and_written_again_has_the_same_annotations_and_times(
    folder: Path, tiers: dict[str, list[Segment]]
) -> None:
    def imported(name: str, content: str) -> dict[str, list[Segment]]:
        (folder / name).write_text(content, encoding="utf-8", newline="\n")
        module = elan if name.endswith("eaf") else textgrid
        found = module.utterances(folder / name, Options(tier="*"), lambda problem: pytest.fail(str(problem)))
        again: dict[str, list[Segment]] = {}
        for one in found:
            again.setdefault(one.extra["tier"], []).append(as_segment(one))
        return again

    def as_segment(one: Utterance) -> Segment:
        assert one.duration is not None
        return Segment(one.offset, one.offset + one.duration, one.text)

    def rounded(tiers: dict[str, list[Segment]]) -> dict[str, list[tuple[float, float, str]]]:
        return {
            name: [(round(one.start, 6), round(one.end, 6), one.text) for one in tier] for name, tier in tiers.items()
        }

    once = imported("talk.eaf", elan.format_eaf(tiers))
    twice = imported("talk.TextGrid", textgrid.format_textgrid(once, 10_001.0))
    thrice = imported("talk.eaf", elan.format_eaf(twice))
    assert rounded(once) == rounded(twice) == rounded(thrice) == rounded(tiers)


def test_the_help_tells_that_tiers_may_be_repeated() -> None:
    text = re.sub(r"[\s│]+", " ", anadil("import", "--help").stdout)
    assert "may be repeated" in text and "--encoding" in text
