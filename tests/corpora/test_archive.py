"""Unpacking: valid archives are unpacked completely, invalid ones leave nothing behind."""

from __future__ import annotations

import os
import shutil
import stat
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from anadil.corpora import archive
from anadil.corpora.archive import MARKER, archive_stem, archives_in, is_archive, unpack, unpack_if_archive
from anadil.errors import AnadilError
from tests.support.archives import make_tar

CONTENT = {"tr/train.tsv": "ş\n".encode(), "tr/clips/a.mp3": bytes(range(256)) * 40, "./tr/empty.txt": b""}


def make_zip(path: Path, files: dict[str, bytes], attributes: int = 0) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as packed:
        for name, content in files.items():
            info = zipfile.ZipInfo(name)
            info.external_attr = attributes << 16
            packed.writestr(info, content, zipfile.ZIP_DEFLATED)
    return path


def listing(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and path.name != MARKER
    }


MAKERS: dict[str, Callable[[Path], Path]] = {
    "a.tar": lambda path: make_tar(path, CONTENT, "w"),
    "a.tar.gz": lambda path: make_tar(path, CONTENT, "w:gz"),
    "a.TGZ": lambda path: make_tar(path, CONTENT, "w:gz"),
    "a.tar.bz2": lambda path: make_tar(path, CONTENT, "w:bz2"),
    "a.tar.xz": lambda path: make_tar(path, CONTENT, "w:xz"),
    "a.zip": lambda path: make_zip(path, CONTENT),
}


@pytest.mark.parametrize("name", list(MAKERS))
def test_each_archive_format_is_unpacked_once_and_completely(name: str, tmp_path: Path) -> None:
    packed = MAKERS[name](tmp_path / name)
    heard: list[tuple[int, int]] = []
    folder = unpack(packed, tmp_path / "out", lambda done, total: heard.append((done, total)))
    assert listing(folder) == {name.removeprefix("./"): content for name, content in CONTENT.items()}
    assert heard[-1] == (packed.stat().st_size, packed.stat().st_size)
    (folder / "tr/train.tsv").write_text("kept")
    assert unpack(packed, tmp_path / "out") == folder
    assert (folder / "tr/train.tsv").read_text() == "kept"
    os.utime(packed, (1, 1))  # another archive of that name
    unpack(packed, tmp_path / "out")
    assert (folder / "tr/train.tsv").read_text() == "ş\n"


def special(name: str, kind: bytes, target: str = "") -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, target
    return info


BAD_MEMBERS = {
    "parent": (tarfile.TarInfo("../evil"), "leads out"),
    "parent inside": (tarfile.TarInfo("a/../../evil"), "leads out"),
    "absolute": (tarfile.TarInfo("/tmp/evil"), "leads out"),
    "backslashes": (tarfile.TarInfo("..\\evil"), "leads out"),
    "drive": (tarfile.TarInfo("C:\\evil"), "leads out"),
    "symlink": (special("a/link", tarfile.SYMTYPE, "/etc"), "is a link"),
    "hard link": (special("a/link", tarfile.LNKTYPE, "../../evil"), "is a link"),
    "device": (special("a/null", tarfile.CHRTYPE), "special file"),
    "pipe": (special("a/pipe", tarfile.FIFOTYPE), "special file"),
    "no name": (tarfile.TarInfo("."), "not a valid file name"),
    "our marker": (tarfile.TarInfo(MARKER), "not a valid file name"),
}


@pytest.mark.parametrize("name", list(BAD_MEMBERS))
def test_members_that_lead_outside_are_refused_and_nothing_is_left(name: str, tmp_path: Path) -> None:
    member, why = BAD_MEMBERS[name]
    (tmp_path / "in").mkdir()
    packed = make_tar(tmp_path / "in/a.tar.gz", {"good.txt": b"good"}, bad=member)
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(AnadilError, match=why):
        unpack(packed, tmp_path / "in/out")
    assert sorted(tmp_path.rglob("*")) == before


OUTSIDE = {"parent": "../evil", "inside": "a/../../evil", "absolute": "/{tmp}/evil"}


@pytest.mark.skipif(not hasattr(tarfile, "data_filter"), reason="Python 3.11.0 to 3.11.3")
@pytest.mark.parametrize("with_filter", [True, False])
@pytest.mark.parametrize("kind", list(OUTSIDE))
def test_tarfiles_filter_alone_stops_members_that_lead_outside(
    kind: str, with_filter: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With our own checks disabled: without the filter the file is written outside, with it nowhere."""
    monkeypatch.setattr(archive, "_require_plain", lambda member, folder, packed: None)
    monkeypatch.setattr(archive, "_path_inside", lambda folder, name, packed: folder / name)
    if not with_filter:
        monkeypatch.setattr(archive, "_DATA_FILTER", lambda member, folder: member)
    name = OUTSIDE[kind].format(tmp=str(tmp_path).lstrip("/"))
    packed = make_tar(tmp_path / "in.tar", {"good.txt": b"good", name: b"evil"}, "w")
    if kind == "absolute":  # the filter makes it a path inside
        unpack(packed, tmp_path / "out")
        written = [path for path in tmp_path.rglob("evil") if path.is_file()]
        assert [(tmp_path / "out") in path.parents for path in written] == [with_filter]
    elif with_filter:
        with pytest.raises(AnadilError, match="is refused: .* is not plain data .*outside the destination"):
            unpack(packed, tmp_path / "out")
        assert not list(tmp_path.rglob("evil"))
    else:
        unpack(packed, tmp_path / "out")
        assert (tmp_path / "evil").read_bytes() == b"evil"


@pytest.mark.skipif(not hasattr(tarfile, "data_filter"), reason="Python 3.11.0 to 3.11.3")
@pytest.mark.parametrize("kind", ["symlink", "hard link", "device", "pipe"])
def test_tarfiles_filter_alone_stops_links_and_devices(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(archive, "_require_plain", lambda member, folder, packed: None)
    packed = make_tar(tmp_path / "in.tar", {}, "w", bad=BAD_MEMBERS[kind][0])
    with pytest.raises(AnadilError, match="is refused: .* is not plain data"):
        unpack(packed, tmp_path / "out")


@pytest.mark.parametrize(
    ("name", "attributes", "why"),
    [
        ("../evil", 0, "leads out"),
        ("/evil", 0, "leads out"),
        ("a/link", stat.S_IFLNK | 0o777, "is a link"),
        ("a/pipe", stat.S_IFIFO, "special file"),
    ],
)
def test_such_members_of_a_zip_are_refused(name: str, attributes: int, why: str, tmp_path: Path) -> None:
    packed = make_zip(tmp_path / "a.zip", {name: b"x"}, attributes)
    with pytest.raises(AnadilError, match=why):
        unpack(packed, tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["a.zip"]


@pytest.mark.parametrize("name", ["bomb.tar.gz", "bomb.tar.xz", "bomb.zip"])
def test_a_zip_bomb_is_refused_before_it_fills_the_disk(name: str, tmp_path: Path) -> None:
    files = {"zeros": bytes(archive.ALWAYS_ALLOWED_BYTES + 2**20)}
    packed = (
        make_zip(tmp_path / name, files) if name.endswith("zip") else make_tar(tmp_path / name, files, "w:" + name[-2:])
    )
    with pytest.raises(AnadilError, match="would grow more than 100 times"):
        unpack(packed, tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_a_bomb_of_many_empty_files_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archive, "ALWAYS_ALLOWED_BYTES", 2**16)
    packed = make_tar(tmp_path / "a.tar.xz", {f"{i}": b"" for i in range(1500)}, "w:xz")
    with pytest.raises(AnadilError, match="would grow"):
        unpack(packed, tmp_path / "out")


@pytest.mark.parametrize("name", ["a.tar.gz", "a.zip"])
def test_an_archive_larger_than_the_free_space_is_refused(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    packed = MAKERS[name](tmp_path / name)
    free = sum(len(content) + archive.MEMBER_BYTES for content in CONTENT.values())
    monkeypatch.setattr(shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(free, 0, free - 1))  # type: ignore[attr-defined]
    with pytest.raises(AnadilError, match="needs more room than the 0.0 GB that are free"):
        unpack(packed, tmp_path / "out")
    assert not (tmp_path / "out").exists()
    monkeypatch.setattr(shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(free, 0, free))  # type: ignore[attr-defined]
    assert unpack(packed, tmp_path / "out").is_dir()


@pytest.mark.parametrize("name", [name for name in MAKERS if name != "a.TGZ"])
def test_a_damaged_archive_is_an_error_and_nothing_is_left(name: str, tmp_path: Path) -> None:
    whole = MAKERS[name](tmp_path / name).read_bytes()
    for damaged in (b"", whole[: len(whole) // 2], b"<html>not found</html>", whole[:10]):
        (tmp_path / name).write_bytes(damaged)
        with pytest.raises(AnadilError, match=r"(is damaged|is cut off).*\n  next: download it again"):
            unpack(tmp_path / name, tmp_path / "out")
        assert [path.name for path in tmp_path.iterdir()] == [name]


@pytest.mark.parametrize("name", ["a.tar.gz", "a.tar.bz2", "a.tar.xz", "a.zip"])
def test_a_flipped_byte_is_detected(name: str, tmp_path: Path) -> None:
    packed = MAKERS[name](tmp_path / name)
    content = bytearray(packed.read_bytes())
    place = {"a.tar.gz": -8, "a.zip": content.find(b"tr/clips/a.mp3") + 40}.get(name, len(content) // 2)
    content[place] ^= 0x55
    packed.write_bytes(content)
    with pytest.raises(AnadilError, match="is damaged"):
        unpack(packed, tmp_path / "out")


def test_a_zip_with_a_password_is_an_error(tmp_path: Path) -> None:
    packed = make_zip(tmp_path / "a.zip", {"a": b"abc"})
    content = bytearray(packed.read_bytes())
    for mark, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        content[content.find(mark) + offset] |= 1
    packed.write_bytes(content)
    with pytest.raises(AnadilError, match="has a password"):
        unpack(packed, tmp_path / "out")


def test_a_folder_with_other_content_is_not_touched(tmp_path: Path) -> None:
    packed = MAKERS["a.tar"](tmp_path / "a.tar")
    (tmp_path / "a").mkdir()
    (tmp_path / "a/mine").write_text("mine")
    with pytest.raises(AnadilError, match="exists already and was not unpacked from"):
        unpack_if_archive(packed, None)
    assert archives_in(tmp_path) == []  # unpacked by hand: the folder is read instead
    assert unpack_if_archive(packed, tmp_path / "out") == tmp_path / "out/a"
    assert [path.name for path in (tmp_path / "a").iterdir()] == ["mine"]


def test_a_source_that_is_not_an_archive_is_returned_unchanged(tmp_path: Path) -> None:
    (tmp_path / "cuts.jsonl.gz").write_bytes(b"")
    (tmp_path / "._a.zip").write_bytes(b"")  # what macOS leaves beside a file
    assert [is_archive(path) for path in sorted(tmp_path.iterdir())] == [False, False]
    assert unpack_if_archive(tmp_path / "cuts.jsonl.gz", None) == tmp_path / "cuts.jsonl.gz"
    assert [archive_stem(Path(name)) for name in ("tr.tar.gz", "x.y.TGZ", "a.zip", "b.wav")] == [
        "tr",
        "x.y",
        "a",
        "b.wav",
    ]
