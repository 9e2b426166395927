from __future__ import annotations

import errno
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from anadil.errors import AnadilError
from anadil.files import recover_folder, refuse_overwrite, whole_file, whole_folder


def write_file(path: Path, content: str, failure: BaseException | None = None) -> None:
    with whole_file(path) as beside:
        beside.write_text(content)
        if failure is not None:
            raise failure


def write_folder(path: Path, content: str, failure: BaseException | None = None) -> None:
    with whole_folder(path) as beside:
        (beside / "content").write_text(content)
        if failure is not None:
            raise failure


def content_of(path: Path) -> str:
    return (path / "content" if path.is_dir() else path).read_text()


def names(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir()]


both = pytest.mark.parametrize("write", [write_file, write_folder])
Write = Callable[..., None]


@both
def test_the_new_version_replaces_the_old_and_leaves_no_other_files(tmp_path: Path, write: Write) -> None:
    path = tmp_path / "new" / "x"
    for content in ("old", "new"):
        write(path, content)
        assert content_of(path) == content
    assert names(path.parent) == ["x"]


def test_a_folder_is_replaced_not_merged(tmp_path: Path) -> None:
    write_folder(tmp_path / "x", "old")
    (tmp_path / "x" / "more").touch()
    write_folder(tmp_path / "x", "new")
    assert names(tmp_path / "x") == ["content"]


@both
@pytest.mark.parametrize("failure", [RuntimeError, KeyboardInterrupt])
def test_failure_leaves_the_old_version(tmp_path: Path, write: Write, failure: type[BaseException]) -> None:
    write(tmp_path / "x", "old")
    with pytest.raises(failure):
        write(tmp_path / "x", "new", failure())
    with pytest.raises(failure):
        write(tmp_path / "y", "new", failure())
    assert content_of(tmp_path / "x") == "old"
    assert names(tmp_path) == ["x"]


@pytest.mark.parametrize(
    ("write", "call"),
    [(write_file, "fsync"), (write_file, "replace"), (write_folder, "fsync"), (write_folder, "rename")],
)
def test_a_full_disk_is_an_error_with_a_next_step(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, write: Write, call: str
) -> None:
    write(tmp_path / "x", "old")
    real = getattr(os, call)

    def full(*args: object) -> object:
        if call == "fsync" or ".partial" in str(args[0]):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return real(*args)

    monkeypatch.setattr(os, call, full)
    with pytest.raises(AnadilError, match=r"No space left on device.*untouched(.|\n)*free disk space"):
        write(tmp_path / "x", "new")
    assert content_of(tmp_path / "x") == "old"
    assert names(tmp_path) == ["x"]


@both
def test_a_file_too_large_for_the_system_leaves_the_old_version(tmp_path: Path, write: Write) -> None:
    pytest.importorskip("resource")
    write(tmp_path / "x", "old")
    script = f"""
import resource, sys
from pathlib import Path
from typing import Any
from anadil.errors import AnadilError
from anadil.files import {"whole_file as whole" if write is write_file else "whole_folder as whole"}
resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))
try:
    with whole(Path(sys.argv[1])) as beside:
        (beside / "content" if beside.is_dir() else beside).write_bytes(bytes(5000))
except AnadilError as error:
    print(error)
    sys.exit(7)
"""
    run = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path / "x")], check=False, capture_output=True, text=True
    )
    assert run.returncode == 7, run.stderr
    assert "File too large (the version that was there before is untouched)" in run.stdout
    assert content_of(tmp_path / "x") == "old"
    assert names(tmp_path) == ["x"]


@both
def test_a_parent_that_is_a_file_is_an_error(tmp_path: Path, write: Write) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(AnadilError, match="could not write"):
        write(tmp_path / "file" / "x", "new")


def test_a_folder_in_the_place_of_a_file_is_an_error(tmp_path: Path) -> None:
    write_folder(tmp_path / "x", "old")
    with pytest.raises(AnadilError, match="could not write"):
        write_file(tmp_path / "x", "new")
    assert content_of(tmp_path / "x") == "old"


def test_a_file_in_the_place_of_a_folder_leaves_nothing_behind(tmp_path: Path) -> None:
    (tmp_path / "x").write_text("old")
    for content in ("new", "newer"):
        write_folder(tmp_path / "x", content)
        assert content_of(tmp_path / "x") == content
    assert names(tmp_path) == ["x"]


def test_a_crash_between_the_two_renames_is_recovered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "x"
    write_folder(path, "old")
    real = os.rename

    def crash(source: Path, target: Path) -> None:
        if target == path:
            raise KeyboardInterrupt
        real(source, target)

    monkeypatch.setattr(os, "rename", crash)
    with pytest.raises(KeyboardInterrupt):
        write_folder(path, "new")
    monkeypatch.undo()
    recover_folder(path)
    assert content_of(path) == "old"
    recover_folder(path)  # nothing to do any more
    assert names(tmp_path) == ["x"]


def test_a_backup_that_the_user_made_is_not_touched(tmp_path: Path) -> None:
    write_folder(tmp_path / "x", "old")
    (tmp_path / "x.old").mkdir()
    (tmp_path / "x.old" / "content").write_text("backup")
    recover_folder(tmp_path / "x")
    write_folder(tmp_path / "x", "new")
    assert content_of(tmp_path / "x.old") == "backup"


def test_existing_files_are_not_overwritten_without_force(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "empty").mkdir()
    (tmp_path / "full" / "inner").mkdir(parents=True)
    for name in ("missing", "empty"):
        refuse_overwrite(tmp_path / name, force=False)
    for name in ("file", "full"):
        refuse_overwrite(tmp_path / name, force=True)
        with pytest.raises(AnadilError, match=f"{name} exists already\n.*--force"):
            refuse_overwrite(tmp_path / name, force=False)


@pytest.mark.parametrize("writes", [whole_file, whole_folder])
def test_an_interruption_leaves_no_folder_that_was_made_for_the_file(tmp_path: Path, writes: Any) -> None:
    (tmp_path / "there").mkdir()
    with pytest.raises(KeyboardInterrupt), writes(tmp_path / "there/a/b/out"):
        raise KeyboardInterrupt
    assert [path.name for path in tmp_path.rglob("*")] == ["there"]


def test_the_working_directory_has_a_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "model").mkdir()
    monkeypatch.chdir(tmp_path / "model")
    recover_folder(Path())  # `anadil transcribe . recording.wav`
    (tmp_path / ".model.replaced").mkdir()
    recover_folder(Path())
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model"]
