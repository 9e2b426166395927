"""ELAN files as ELAN writes them, and damaged ones."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path

import pympi
import pytest
from hypothesis import given
from hypothesis import strategies as st

from anadil.corpora import elan
from anadil.corpora.reader import Options
from anadil.corpora.segments import Segment
from anadil.errors import AnadilError, Problem
from anadil.manifest import Utterance

HEAD = """<?xml version="1.0" encoding="UTF-8"?>
<ANNOTATION_DOCUMENT AUTHOR="" DATE="2019-05-01T10:00:00+01:00" FORMAT="3.0" VERSION="3.0"
  xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance"
  xsi:noNamespaceSchemaLocation="http://www.mpi.nl/tools/elan/EAFv3.0.xsd">
<HEADER MEDIA_FILE="" TIME_UNITS="milliseconds">{media}<PROPERTY NAME="lastUsedAnnotationId">9</PROPERTY></HEADER>
"""
MEDIA = (
    '<MEDIA_DESCRIPTOR MEDIA_URL="file:///C:/Users/ana/My%20Recordings/talk%201.wav" MIME_TYPE="audio/x-wav" '
    'RELATIVE_MEDIA_URL="../audio/talk%201.wav"{origin}/>'
)


def slots(*times: int | None) -> str:
    inner = "".join(
        f'<TIME_SLOT TIME_SLOT_ID="ts{i}"' + (f' TIME_VALUE="{time}"/>' if time is not None else "/>")
        for i, time in enumerate(times, start=1)
    )
    return f"<TIME_ORDER>{inner}</TIME_ORDER>"


def aligned(key: str, first: int, last: int, text: str) -> str:
    return (
        f'<ANNOTATION><ALIGNABLE_ANNOTATION ANNOTATION_ID="{key}" TIME_SLOT_REF1="ts{first}" TIME_SLOT_REF2="ts{last}">'
        f"<ANNOTATION_VALUE>{text}</ANNOTATION_VALUE></ALIGNABLE_ANNOTATION></ANNOTATION>"
    )


def symbolic(key: str, parent: str, text: str, previous: str = "") -> str:
    before = f' PREVIOUS_ANNOTATION="{previous}"' if previous else ""
    return (
        f'<ANNOTATION><REF_ANNOTATION ANNOTATION_ID="{key}" ANNOTATION_REF="{parent}"{before}>'
        f"<ANNOTATION_VALUE>{text}</ANNOTATION_VALUE></REF_ANNOTATION></ANNOTATION>"
    )


def tier(name: str, *annotations: str, kind: str = "utterance", **attributes: str) -> str:
    more = "".join(f' {key}="{value}"' for key, value in attributes.items())
    return f'<TIER LINGUISTIC_TYPE_REF="{kind}" TIER_ID="{name}"{more}>{"".join(annotations)}</TIER>'


def eaf(folder: Path, *parts: str, media: str = "", name: str = "talk.eaf") -> Path:
    path = folder / name
    path.write_text(HEAD.format(media=media) + "".join(parts) + "</ANNOTATION_DOCUMENT>", encoding="utf-8")
    return path


@pytest.fixture
def talk(write_wav: Callable[..., Path]) -> Path:
    """The recording talk.wav in the test's folder."""
    return write_wav("talk.wav", 0.1)


def read(source: Path, **options: object) -> tuple[list[Utterance], list[Problem]]:
    rejected: list[Problem] = []
    return list(elan.utterances(source, Options(**options), rejected.append)), rejected  # type: ignore[arg-type]


def test_aligned_annotations_become_utterances_and_bad_ones_are_rejected(tmp_path: Path, talk: Path) -> None:
    file = eaf(
        tmp_path,
        slots(1000, 2500, 2000, 3250, 3250, -100, 500),
        tier(
            "tx@A",
            aligned("a1", 1, 2, "Wa ndé\n  bisí &amp; &quot;ω&quot;"),
            aligned("a2", 3, 4, "overlaps"),
            aligned("a3", 3, 4, "  "),
            aligned("a4", 4, 5, "no time"),
            aligned("a5", 6, 7, "early"),
            aligned("a6", 7, 99, "lost"),
            PARTICIPANT="Ana",
        ),
    )
    found, rejected = read(file, language="mdw")
    assert found == [
        Utterance(str(talk), 1.5, 'Wa ndé bisí & "ω"', 1.0, "Ana", "mdw", {"tier": "tx@A"}),
        Utterance(str(talk), 1.25, "overlaps", 2.0, "Ana", "mdw", {"tier": "tx@A"}),
    ]
    assert [(problem.where.rsplit(" ", 1)[1], problem.what) for problem in rejected] == [
        ("a3", "no text (2 to 3.25 s)"),
        ("a4", "lasts 0 s (3.25 to 3.25 s)"),
        ("a5", "starts 0.1 s before the recording does"),
        ("a6", "no valid times: 0.5 to nan s"),
    ]


def test_a_tier_is_chosen_by_name_pattern_or_type(tmp_path: Path, talk: Path) -> None:
    tiers = (
        tier("tx@A", aligned("a1", 1, 2, "one"), PARTICIPANT="Ana"),
        tier("tx@B", aligned("a2", 2, 3, "two")),
        tier("note", aligned("a3", 1, 3, "wind"), kind="note"),
        tier("empty", kind="note"),
    )
    file = eaf(tmp_path, slots(0, 1000, 2000), *tiers)

    def heard(**options: str) -> list[tuple[str, str | None]]:
        return [(one.text, one.speaker) for one in read(file, **options)[0]]

    assert heard(tier="tx@B") == [("two", None)]
    assert heard(tier="tx@*") == heard(tier_type="utterance") == [("one", "Ana"), ("two", "tx@B")]
    assert heard(tier="note") == [("wind", None)]
    assert heard(tier="*", tier_type="note") == [("wind", "note")]
    with pytest.raises(AnadilError, match=r"3 tiers hold text.*\n  'tx@A', type 'utterance', 1 annotations") as caught:
        read(file)
    assert "'empty', type 'note', 0 annotations" in str(caught.value) and "--tier" in str(caught.value)
    with pytest.raises(AnadilError, match="no tier called 'tx'; it has"):
        read(file, tier="tx")


def test_annotations_without_times_have_their_parents_and_are_joined_in_order(tmp_path: Path, talk: Path) -> None:
    file = eaf(
        tmp_path,
        slots(0, 1000, 1000, 2000),
        tier("ref", aligned("a1", 1, 2, "t.001"), aligned("a2", 3, 4, "t.002"), kind="ref", PARTICIPANT="Ana"),
        tier("tx", symbolic("a3", "a1", "mwána abé"), symbolic("a4", "a2", "ya"), kind="tx", PARENT_REF="ref"),
        tier("mb", symbolic("a6", "a3", "be", "a5"), symbolic("a7", "a3", "ana", "a8"), symbolic("a5", "a3", "a", "a7"),
             symbolic("a8", "a3", "mw"), symbolic("a9", "a4", "ya"), symbolic("a10", "gone", "orphan"),
             kind="mb", PARENT_REF="tx"),
    )  # fmt: skip
    found, _ = read(file, tier="tx")
    assert [(one.text, one.offset, one.duration, one.speaker) for one in found] == [
        ("mwána abé", 0.0, 1.0, "Ana"),
        ("ya", 1.0, 1.0, "Ana"),
    ]
    found, rejected = read(file, tier="mb")
    assert [(one.text, one.offset) for one in found] == [("mw ana a be", 0.0), ("ya", 1.0)]
    assert [problem.what for problem in rejected] == ["no times"]


def test_what_other_tiers_of_the_hierarchy_hold_is_kept_beside_the_text(tmp_path: Path, talk: Path) -> None:
    file = eaf(
        tmp_path,
        slots(0, 1000, 2000, 500, 1500),
        tier("ref", aligned("a1", 1, 2, "t.001"), aligned("a2", 2, 3, "t.002"), kind="ref", PARTICIPANT="Ana"),
        tier("tx", symbolic("a3", "a1", "mwána abé"), symbolic("a4", "a2", "ya"), kind="tx", PARENT_REF="ref"),
        tier("ge", symbolic("a6", "a3", "be", "a5"), symbolic("a5", "a3", "child"), kind="ge", PARENT_REF="tx"),
        tier("ft", symbolic("a7", "a1", "the child is here"), symbolic("a8", "a2", ""), kind="ft", PARENT_REF="ref"),
        tier("w", aligned("a9", 1, 4, "mwána"), aligned("a10", 4, 2, "abé"), kind="w", PARENT_REF="ref"),
        tier("other", aligned("a11", 1, 2, "elsewhere"), kind="x"),
    )
    options = Options()
    first, second = read(file, tier="tx", notes=options.notes)[0]
    words = {"ge": ["child", "be"], "w": ["mwána", "abé"]}
    assert first.extra["annotations"] == {"ref": ["t.001"], "ft": ["the child is here"]} | words
    assert second.extra["annotations"] == {"ref": ["t.002"]}
    assert options.notes.left == {"ref": 2, "ge": 2, "ft": 1, "w": 2, "other": 1}
    word, _ = read(file, tier="w")[0]
    assert "annotations" not in word.extra  # a translation of the sentence is not one of the word


def test_a_saymore_project(tmp_path: Path, write_wav: Callable[..., Path]) -> None:
    for name in ("one.wav", "two.mp4"):
        (tmp_path / name).mkdir()
        write_wav(f"{name}/{Path(name).stem}.wav", 0.1)
        write_wav(f"{name}/{name}.oralAnnotations.wav", 0.1)
        text = tier(
            "Transcription",
            aligned("a1", 1, 2, f"text of {name}"),
            aligned("a2", 2, 3, "%ignore%"),
            kind="Transcription",
        )
        free = symbolic("a3", "a1", "translation")
        translation = tier("Phrase Free Translation", free, kind="Translation", PARENT_REF="Transcription")
        media = f'<MEDIA_DESCRIPTOR MEDIA_URL="{name}" MIME_TYPE="audio/x-wav" />' if name == "one.wav" else ""
        eaf(tmp_path / name, slots(0, 1000, 2000), text, translation, media=media, name=f"{name}.annotations.eaf")
    found, rejected = read(tmp_path)
    assert [(one.text, Path(one.audio_filepath).name) for one in found] == [
        ("text of one.wav", "one.wav"),
        ("text of two.mp4", "two.wav"),
    ]
    assert found[0].extra["annotations"] == {"Phrase Free Translation": ["translation"]}
    assert [problem.what for problem in rejected] == ["marked as ignored in SayMore"] * 2


def test_time_slots_without_a_value_are_interpolated(tmp_path: Path, talk: Path) -> None:
    words = (aligned("a2", 1, 3, "a"), aligned("a3", 3, 4, "b"), aligned("a4", 4, 2, "c"))
    file = eaf(tmp_path, slots(1000, 4000, None, None), tier("words", *words, kind="word"))
    found, _ = read(file)
    assert [(one.text, one.offset, one.duration) for one in found] == [("a", 1, 1), ("b", 2, 1), ("c", 3, 1)]
    assert all(one.extra["interpolated"] for one in found)


def test_cycles_of_parents_and_predecessors_are_handled(tmp_path: Path, talk: Path) -> None:
    circle = (symbolic("a1", "a2", "x", "a2"), symbolic("a2", "a1", "y", "a1"))
    found, rejected = read(eaf(tmp_path, slots(0), tier("t", *circle, PARENT_REF="t")))
    assert found == [] and rejected


@pytest.mark.parametrize(
    ("origin", "shift", "name"),
    [
        ("", 0.0, "../audio/talk 1"),
        (' TIME_ORIGIN="1500"', 1.5, "../audio/talk%201"),
        (' TIME_ORIGIN="-200"', -0.2, "..\\audio\\talk 1"),
    ],
)
def test_the_recording_is_found_by_its_relative_path_with_its_time_origin(
    tmp_path: Path, write_wav: Callable[..., Path], origin: str, shift: float, name: str
) -> None:
    (tmp_path / "audio").mkdir()
    (tmp_path / "eaf").mkdir()
    wav = write_wav("audio/talk 1.wav", 0.1)
    file = eaf(
        tmp_path / "eaf",
        slots(1000, 2000),
        tier("t", aligned("a1", 1, 2, "x")),
        media=MEDIA.format(origin=origin).replace("../audio/talk%201", name),
    )
    (one,), _ = read(file)
    assert Path(one.audio_filepath).resolve() == wav
    assert (one.offset, one.duration) == (1.0 + shift, 1.0)


def test_a_given_recording_has_the_time_origin_of_its_name(tmp_path: Path, write_wav: Callable[..., Path]) -> None:
    media = MEDIA.format(origin=' TIME_ORIGIN="250"') + '<MEDIA_DESCRIPTOR MEDIA_URL="b.wav" TIME_ORIGIN="500"/>'
    file = eaf(tmp_path, slots(0, 1000), tier("t", aligned("a1", 1, 2, "x")), media=media)
    for name, shift in (("Talk 1.flac", 0.25), ("b.wav", 0.5)):
        wav = write_wav(name, 0.1)
        (one,), _ = read(file, audio=wav)
        assert (one.audio_filepath, one.offset) == (str(wav), shift)
    with pytest.raises(AnadilError, match=r"its recordings start at different times \(0.25 s, 0.5 s\)"):
        read(file, audio=write_wav("other.wav", 0.1))
    one_media = MEDIA.format(origin=' TIME_ORIGIN="250"')
    file = eaf(tmp_path, slots(0, 1000), tier("t", aligned("a1", 1, 2, "x")), media=one_media)
    assert read(file, audio=tmp_path / "other.wav")[0][0].offset == 0.25


def test_a_recording_with_a_path_of_another_machine_is_found_beside_the_file(
    tmp_path: Path, write_wav: Callable[..., Path]
) -> None:
    wav = write_wav("Talk 1.WAV", 0.1)
    write_wav("other.wav", 0.1)
    file = eaf(tmp_path, slots(0, 1000), tier("t", aligned("a1", 1, 2, "x")), media=MEDIA.format(origin=""))
    (one,), _ = read(file)
    assert Path(one.audio_filepath) == wav


@pytest.mark.parametrize(
    "url", ["x" * 300 + "/talk 2.wav", "file:///" + "y" * 5000, "%00/%FF.wav", "", "/", "http://[::1", "..\\.."]
)
def test_an_invalid_path_is_not_found(tmp_path: Path, talk: Path, url: str) -> None:
    file = eaf(
        tmp_path, slots(0, 1000), tier("t", aligned("a1", 1, 2, "x")), media=f'<MEDIA_DESCRIPTOR MEDIA_URL="{url}"/>'
    )
    assert [one.audio_filepath for one in read(file)[0]] == [str(talk)]
    talk.unlink()
    with pytest.raises(AnadilError, match="no recording found"):
        read(file)


def test_a_video_is_taken_if_there_is_no_other_recording(tmp_path: Path, write_wav: Callable[..., Path]) -> None:
    video = '<MEDIA_DESCRIPTOR MEDIA_URL="file:///x/film.mp4" MIME_TYPE="video/mp4" TIME_ORIGIN="500"/>'
    (tmp_path / "film.mp4").write_bytes(b"video")
    file = eaf(tmp_path, slots(0, 1000), tier("t", aligned("a1", 1, 2, "x")), media=video)
    (one,), _ = read(file)
    assert (one.audio_filepath, one.offset) == (str(tmp_path / "film.mp4"), 0.5)
    write_wav("film.wav", 0.1)
    (one,), _ = read(file)
    assert (one.audio_filepath, one.offset) == (str(tmp_path / "film.wav"), 0.5)


def test_broken_files_in_a_folder_are_rejected(tmp_path: Path, write_wav: Callable[..., Path]) -> None:
    good = slots(0, 1000), tier("t", aligned("a1", 1, 2, "x"))
    (tmp_path / "a").mkdir()
    write_wav("a/good.wav", 0.1)
    eaf(tmp_path / "a", *good, name="good.eaf")
    eaf(tmp_path / "a", *good, name="mute.eaf")
    (tmp_path / "cut.eaf").write_text(HEAD)
    (tmp_path / "._good.eaf").write_bytes(b"\0\5\x16\7")
    found, rejected = read(tmp_path)
    assert [one.text for one in found] == ["x"]
    assert [Path(problem.where).name for problem in rejected] == ["mute.eaf", "cut.eaf"]
    assert "no recording found: looked for mute" in rejected[0].what and "not readable as XML" in rejected[1].what
    (tmp_path / "a" / "good.wav").unlink()
    with pytest.raises(AnadilError, match="none of the 3 files"):
        read(tmp_path)


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ('<?xml version="1.0"?><!DOCTYPE a [<!ENTITY b "ha"><!ENTITY c "&b;&b;">]><a>&c;</a>', "entities"),
        ('<?xml version="1.0"?><!DOCTYPE a SYSTEM "file:///etc/passwd"><ANNOTATION_DOCUMENT/>', "entities or a DTD"),
        ("<html/>", "not a file of ELAN: expected <ANNOTATION_DOCUMENT>, found <html>"),
        ("", "not readable as XML"),
        ('<?xml version="1.0" encoding="klingon"?><a/>', "not readable as XML"),
        ('<ANNOTATION_DOCUMENT><HEADER TIME_UNITS="PAL-frames"/></ANNOTATION_DOCUMENT>', "its times are in PAL-frames"),
        ('<ANNOTATION_DOCUMENT><TIER TIER_ID="t"/><TIER TIER_ID="t"/></ANNOTATION_DOCUMENT>', "two tiers are called 't'"),
        ("<ANNOTATION_DOCUMENT/>", "no tier of intervals holds any text; it has no tiers"),
    ],
)  # fmt: skip
def test_an_invalid_elan_file_is_an_error(tmp_path: Path, talk: Path, text: str, what: str) -> None:
    (tmp_path / "talk.eaf").write_text(text)
    with pytest.raises(AnadilError, match=what):
        read(tmp_path / "talk.eaf")


texts = st.text(st.characters(exclude_categories=["Cc", "Cs"], exclude_characters="\ufffe\uffff")).map(
    lambda text: " ".join(text.split())
)
segments = st.lists(
    st.builds(
        lambda start, length, text: Segment(start / 1000, (start + length) / 1000, text, "Ana"),
        st.integers(0, 10**8), st.integers(1, 10**5), texts.filter(bool),
    ),
    min_size=1, max_size=4,
)  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("elan")


@given(written=segments)
def test_written_files_are_read_back_by_anadil_and_by_pympi(folder: Path, written: list[Segment]) -> None:
    file = folder / "talk.eaf"
    file.write_text(elan.format_eaf({"tx": written, "other": []}, Path("talk.wav")), encoding="utf-8", newline="\n")
    found = elan._read(file)
    assert found.tiers is not None and [tier.segments for tier in found.tiers] == [written, []]
    assert found.media[0].url == "./talk.wav"
    with warnings.catch_warnings(action="ignore"):
        peer = pympi.Eaf(str(file)).get_annotation_data_for_tier("tx")
    assert sorted(peer) == sorted((round(1000 * one.start), round(1000 * one.end), one.text) for one in written)


def test_files_written_by_pympi_are_read(tmp_path: Path, talk: Path) -> None:
    peer = pympi.Eaf(author="x")
    peer.add_tier("tx")
    peer.add_annotation("tx", 100, 900, 'a "b" ğ')
    peer.add_linked_file(str(talk), relpath="./talk.wav", mimetype="audio/x-wav")
    peer.to_file(str(tmp_path / "peer.eaf"))
    (one,), _ = read(tmp_path / "peer.eaf")
    assert (one.text, one.offset, one.duration, one.audio_filepath) == ('a "b" ğ', 0.1, 0.8, str(talk))


@pytest.mark.parametrize("bad", [Segment(0, 1, "a\x01"), Segment(1, 1, "a"), Segment(-1, 1, "a")])
def test_segments_that_elan_does_not_allow_cannot_be_written(bad: Segment) -> None:
    with pytest.raises(AnadilError, match=r"cannot hold|ELAN does not allow an annotation"):
        elan.format_eaf({"tx": [bad]})
