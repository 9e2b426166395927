"""Audacity's labels."""

from __future__ import annotations

import sqlite3
import struct
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
from tests.support.corpus_seeds import write_aup3


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


AUP = """<?xml version="1.0" standalone="no" ?>
<!DOCTYPE project PUBLIC "-//audacityproject-1.3.0//DTD//EN" "http://audacity.sourceforge.net/xml/audacityproject-1.3.0.dtd" >
<project xmlns="http://audacity.sourceforge.net/xml/" projname="talk_data" rate="44100.0"><tags/>
<wavetrack name="talk" offset="0.00000000"/><labeltrack name="ana" numlabels="3"><label t="0.5" t1="1.25" title="evet &amp; ağ"/>
<label t="2.0" t1="2.0" title="click"/><label t="x" t1="3" title="when"/></labeltrack>
<labeltrack name="ben" numlabels="1"><label t="3.0" t1="4,5" title="hayır"/></labeltrack></project>
"""


@pytest.mark.parametrize("form", ["aup", "aup3 1", "aup3 2", "aup3 4", "autosave"])
def test_label_tracks_of_a_project(tmp_path: Path, wav: Path, form: str) -> None:
    file = tmp_path / f"talk.{form.split()[0].replace('autosave', 'aup3')}"
    if form == "aup":
        file.write_text(AUP, encoding="utf-8")
    else:
        write_aup3(file, int(form.split()[-1]) if " " in form else 4, "autosave" if form == "autosave" else "project")
    with pytest.raises(AnadilError, match="2 tiers hold text, and none was chosen(?s:.*)such as 'evet & ağ'"):
        read(file)
    found, rejected = read(file, tier=["ana", "ben"])
    assert found == [
        Utterance(str(wav), 0.75, "evet & ağ", 0.5, "ana", extra={"tier": "ana"}),
        Utterance(str(wav), 1.5, "hayır", 3.0, "ben", extra={"tier": "ben"}),
    ]
    assert "a point label, which has no length: 'click' at 2 s" in [problem.what for problem in rejected]
    assert ("no valid times: nan to 3.0 s" in [problem.what for problem in rejected]) == (form == "aup")


@pytest.mark.parametrize("is_open", [False, True])
def test_a_project_with_a_log_of_changes_is_read_and_nothing_is_written(
    tmp_path: Path, wav: Path, is_open: bool
) -> None:
    file = tmp_path / "talk.aup3"
    write_aup3(file)
    database = sqlite3.connect(file)
    database.execute("PRAGMA journal_mode = WAL")
    database.execute("CREATE TABLE other (x)")
    database.commit()
    if not is_open:
        database.close()
    before = sorted(path.name for path in tmp_path.iterdir())
    assert [one.text for one in read(file, tier="*")[0]] == ["evet & ağ", "hayır"]
    assert sorted(path.name for path in tmp_path.iterdir()) == before
    database.close()


def test_a_damaged_project_names_the_way_to_export_its_labels(tmp_path: Path, wav: Path) -> None:
    file = tmp_path / "talk.aup3"
    write_aup3(file)
    whole = file.read_bytes()
    for content in (whole[:3000], whole.replace(struct.pack("<i", 12) + "ana".encode("utf-32-le"), b"\xff" * 16), b"x"):
        file.write_bytes(content)
        with pytest.raises(AnadilError, match="not readable as a project of Audacity 3(?s:.*)Export Labels"):
            read(file, tier="*")
    file.unlink()
    with sqlite3.connect(file) as database:
        database.execute("CREATE VIEW autosave AS WITH RECURSIVE c(dict) AS (SELECT 1 UNION ALL SELECT dict + 1 FROM c) "
                         "SELECT dict, dict AS doc FROM c WHERE dict < 0")  # fmt: skip
    with pytest.raises(AnadilError, match="interrupted"):
        read(file)


def test_labels_that_were_exported_beside_the_project_are_read_once(tmp_path: Path, wav: Path) -> None:
    write_aup3(tmp_path / "talk.aup3")
    (tmp_path / "talk.txt").write_text("0\t1\tx\n")
    found, rejected = read(tmp_path)
    assert [one.text for one in found] == ["x"]
    assert [problem.what for problem in rejected] == ["its labels are also in talk.txt, which is imported instead"]
    with pytest.raises(AnadilError, match="talk.txt: it has no tiers\n  next: omit --tier"):
        read(tmp_path / "talk.txt", tier="x")
