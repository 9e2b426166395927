from __future__ import annotations

import tarfile
from pathlib import Path
from typing import Any

import pytest

from anadil.corpora import voxforge
from anadil.corpora.download import RemoteFile
from anadil.corpora.reader import Options
from anadil.corpora.voxforge import utterances
from anadil.errors import AnadilError, Problem
from anadil.manifest import Utterance

ORIGINAL = "de-01 Guten Tag, wie geht's?\nde-02  Schöne Grüße.\n\n"
CAPITALS = "{name}/mfc/de-01 GUTEN TAG WIE GEHT'S\n{name}/mfc/de-02 SCHÖNE GRÜSSE\n{name}/mfc/de-03 NUR HIER\n"


def upload(
    root: Path, name: str, ids: tuple[str, ...] = ("de-01", "de-02"), audio: str = "wav", **etc: str | bytes
) -> Path:
    folder = root / name
    (folder / audio).mkdir(parents=True)
    (folder / "etc").mkdir()
    for recording in ids:
        (folder / audio / f"{recording}.{audio}").write_bytes(b"")
    for file, content in etc.items():
        path = folder / "etc" / file.replace("_", "-")
        path.write_bytes(content if isinstance(content, bytes) else content.format(name=name).encode())
    return folder


def read(source: Path, **options: Any) -> tuple[list[Utterance], list[str]]:
    rejected: list[Problem] = []
    return list(utterances(source, Options(**options), rejected.append)), sorted(str(problem) for problem in rejected)


def test_both_kinds_of_prompts_and_of_audio(tmp_path: Path) -> None:
    upload(
        tmp_path,
        "ralf-20080318-kdl",
        prompts_original=ORIGINAL,
        PROMPTS=CAPITALS,
        README="Language: DE\nGender: männlich",
    )
    upload(tmp_path, "guenter-20090101-a1", ("de-01", "de-02", "de-03"), "flac", PROMPTS=CAPITALS)
    found, rejected = read(tmp_path)
    assert [(one.speaker, Path(one.audio_filepath).name, one.text) for one in found] == [
        ("guenter", "de-01.flac", "GUTEN TAG WIE GEHT'S"),
        ("guenter", "de-02.flac", "SCHÖNE GRÜSSE"),
        ("guenter", "de-03.flac", "NUR HIER"),
        ("ralf", "de-01.wav", "Guten Tag, wie geht's?"),  # as it was shown, where that is there
        ("ralf", "de-02.wav", "Schöne Grüße."),
    ]
    assert [problem.split(": ", 1)[1] for problem in rejected] == [
        "prompt without a recording: de-03 in ralf-20080318-kdl"
    ]
    assert (found[0].language, found[-1].language) == (None, "de")
    about = {"license": "GPL-3.0-or-later", "upload": "ralf-20080318-kdl", "gender": "männlich"}
    assert found[-1].extra == about and "split" not in found[-1].extra
    assert found[-1].source == f"{tmp_path}/ralf-20080318-kdl/etc/prompts-original:2"


def test_prompts_without_recording_and_recordings_without_prompt_are_rejected(tmp_path: Path) -> None:
    folder = upload(tmp_path, "a-20080318-x", ("de-02", "DE-05"), PROMPTS="x/de-02\n*/de-05 Ja.\n*/de-06 Nein.\n")
    assert [one.text for one in read(tmp_path)[0]] == ["Ja."]
    assert read(tmp_path)[1] == sorted(
        [
            f"{folder}/etc/PROMPTS:1: no text after the name of the recording: 'x/de-02'",
            f"{folder}/etc/PROMPTS:3: prompt without a recording: de-06 in a-20080318-x",
            f"{folder}/wav/de-02.wav: recording without a prompt",
        ]
    )
    bare = upload(tmp_path, "b-20080318-x", ("1",))
    assert f"{bare}/wav/1.wav: recording without a prompt" in read(tmp_path)[1]


def test_each_anonymous_upload_has_its_own_speaker(tmp_path: Path) -> None:
    names = ["anonymous-20080425-abc", "Anonymous-20080425-abd", "anonyme-20080504-x", "anonymouse-20080504-x"]
    for name in [*names, "Ayşe-Nur-20100101-q", "Ayşe-Nur-20110101-r", "no_date"]:
        upload(tmp_path, name, ("1",), PROMPTS="1 ja\n")
    speakers = {Path(one.source).parts[-3]: one.speaker for one in read(tmp_path)[0]}
    assert speakers == {
        **{name: name for name in names[:3]},
        "anonymouse-20080504-x": "anonymouse",
        "Ayşe-Nur-20100101-q": "Ayşe-Nur",
        "Ayşe-Nur-20110101-r": "Ayşe-Nur",
        "no_date": "no_date",
    }


@pytest.mark.parametrize(
    ("text", "encoding", "options", "readme"),
    [
        ("Schöne Grüße – nie", "cp1252", {"language": "de"}, ""),
        ("Schöne Grüße", "latin-1", {}, "Language: DE"),
        ("niño", "latin-1", {}, ""),
        ("Ağaç dalı ışık", "cp1254", {"language": "tr"}, ""),
        ("καλημέρα", "cp1253", {}, "Language: EL"),
    ],
)
def test_old_encodings_are_decoded_and_recorded(
    tmp_path: Path, text: str, encoding: str, options: dict[str, str], readme: str
) -> None:
    prompts = b"1 " + text.encode(encoding) + b"\r\n2 " + text.encode("utf-8") + b"\r\n"
    upload(tmp_path, "a-20080318-x", ("1", "2"), prompts_original=prompts, README=readme)
    (old, new), rejected = read(tmp_path, **options)
    assert (old.text, new.text, rejected) == (text, text, [])
    assert old.extra["encoding"] == ("cp1252" if encoding == "latin-1" else encoding)
    assert "encoding" not in new.extra


def test_utf_16_is_read_and_unknown_encodings_are_rejected(tmp_path: Path) -> None:
    upload(tmp_path, "a-20080318-x", ("1",), prompts_original="1 Привет\r\n".encode("utf-16"))
    old = upload(tmp_path, "b-20080318-x", ("1",), prompts_original=b"1 " + "Привет".encode("koi8-r"))
    found, rejected = read(tmp_path, language="ru")
    assert [one.text for one in found] == ["Привет"]
    assert rejected[0].startswith(f"{old}/etc/prompts-original:1: not UTF-8; the older encoding of 'ru' is not known")


def test_archives_unpacked_folders_and_damaged_ones_together(tmp_path: Path) -> None:
    source = tmp_path / "in"
    for name in ("a-20080318-x", "b-20080318-x", "c-20080318-x"):
        folder = upload(tmp_path, name, ("1",), PROMPTS="1 ja\n")
        (source).mkdir(exist_ok=True)
        with tarfile.open(source / f"{name}.tgz", "w:gz") as tar:
            tar.add(folder, name)
    (source / "c-20080318-x").mkdir()
    (tmp_path / "c-20080318-x").rename(source / "c-20080318-x")  # unpacked by hand, its archive still there
    (source / "d-20080318-x.tgz").write_bytes(b"cut")
    for out in (tmp_path / "out", source / "out"):  # OUT may lie below the source
        found, rejected = read(source, unpack_to=out)
        assert sorted(one.speaker or "" for one in found) == ["a", "b", "c"]
        assert all(Path(one.audio_filepath).is_file() for one in found)
        assert len(rejected) == 1 and "d-20080318-x.tgz is damaged" in rejected[0]
        assert not (source / "b-20080318-x").exists()
    found, rejected = read(source, unpack_to=tmp_path / "out")  # what the run before unpacked is there twice now
    assert len(found) == 3 and sum("the same upload is in" in problem for problem in rejected) == 2


def test_archives_with_their_unpacked_folders_are_read_once(tmp_path: Path) -> None:
    folder = upload(tmp_path / "x", "a-20080318-x", ("1",), PROMPTS="1 ja\n")
    with tarfile.open(tmp_path / "a-20080318-x.tgz", "w:gz") as tar:
        tar.add(folder, "a-20080318-x")
    (tmp_path / "x").rename(tmp_path.parent / f"{tmp_path.name}-x")
    assert [len(read(tmp_path)[0]) for _ in range(2)] == [1, 1]


def test_a_source_without_uploads_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(AnadilError, match="holds no uploads of VoxForge"):
        read(tmp_path)


PAGE = """<html><a href="?C=N;O=D">Name</a><a href="/downloads/">up</a>
<a href="ralf-20080318-kdl.tgz">ralf</a> <A HREF='g%C3%BCnter-20090101-a1.tgz'>g</A> <a href="..%2F..%2Fevil.tgz">x</a></html>"""


def test_the_listing_gives_the_files_to_download(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[RemoteFile] = []
    pages: list[str] = []

    def page(url: str) -> bytes:
        pages.append(url)
        return PAGE.encode()

    monkeypatch.setattr(voxforge, "read_page", page)
    monkeypatch.setattr(voxforge, "fetch_all", lambda files, out, progress: asked.extend(files) or [])
    voxforge.download("nl", [], tmp_path, lambda *step: None)
    assert pages == ["http://www.repository.voxforge1.org/downloads/Dutch/Trunk/Audio/Main/16kHz_16bit/"]
    assert [(file.url.removeprefix(pages[0]), file.name) for file in asked] == [
        ("g%C3%BCnter-20090101-a1.tgz", "günter-20090101-a1.tgz"),
        ("ralf-20080318-kdl.tgz", "ralf-20080318-kdl.tgz"),
    ]
    with pytest.raises(AnadilError, match="no language 'xx'; it has: bg, ca, de"):
        voxforge.download("xx", [], tmp_path, lambda *step: None)
