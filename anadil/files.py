"""Files and folders that appear whole or not at all: they are written under another name, then renamed."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from anadil.errors import AnadilError


def refuse_overwrite(path: Path, force: bool) -> None:
    """Raise AnadilError if `path` exists and may not be replaced. An empty folder may."""
    if path.exists() and not force and not (path.is_dir() and not any(path.iterdir())):
        raise AnadilError(f"{path} exists already\n  next: choose another --out, or add --force to replace it")


def write_json(path: Path, value: Any) -> None:
    """Write a value as indented JSON in UTF-8, whole or not at all."""
    with whole_file(path) as beside:
        beside.write_text(json.dumps(value, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")


@contextlib.contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """Yield a path to write to. It is renamed to `path` when the block ends, or deleted when the block fails."""
    beside, made = _beside(path), _missing_parents(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield beside
        _sync(beside)
        os.replace(beside, path)
    except OSError as error:
        raise AnadilError(_could_not_write(path, error)) from error
    finally:
        with contextlib.suppress(OSError):
            beside.unlink()
        _remove_empty(made)


@contextlib.contextmanager
def whole_folder(path: Path) -> Iterator[Path]:
    """Yield a new folder to fill. It replaces `path` when the block ends.

    If the block fails, `path` stays as it was. A crash between the two renames leaves the earlier folder as
    `.NAME.replaced`, which `recover_folder` puts back.
    """
    beside, made = _beside(path), _missing_parents(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        recover_folder(path)
        beside.mkdir()
        yield beside
        for file in beside.iterdir():
            _sync(file)
        old = _old(path)
        if path.exists():
            os.rename(path, old)
        os.rename(beside, path)
        _remove(old)
    except OSError as error:
        recover_folder(path)
        raise AnadilError(_could_not_write(path, error)) from error
    finally:
        shutil.rmtree(beside, ignore_errors=True)
        _remove_empty(made)


def recover_folder(path: Path) -> None:
    """Put back the earlier version of a folder if a crash interrupted its replacement between the two renames."""
    old = _old(path)
    if old.exists():
        if path.exists():
            _remove(old)
        else:
            os.rename(old, path)


def sweep(folder: Path) -> None:
    """Delete partial files that a killed process left in `folder`, and put back folders that it was about to replace."""
    for path in folder.glob(".*.replaced"):
        with contextlib.suppress(OSError):
            recover_folder(path.with_name(path.name[1 : -len(".replaced")]))
    for path in folder.glob(".*.partial"):
        with contextlib.suppress(OSError):
            _remove(path)


def escape_surrogates(text: str) -> str:
    """Python decodes a byte of a file name that is not UTF-8 to half a surrogate pair; "caf\udce9" becomes "caf\\udce9"."""
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def _missing_parents(path: Path) -> list[Path]:
    """The folders above `path` that do not exist yet, the innermost first."""
    return [folder for folder in path.parents if not folder.exists()]


def _remove_empty(folders: list[Path]) -> None:
    """Delete the folders, the innermost first, up to one that holds something."""
    for folder in folders:
        try:
            folder.rmdir()
        except OSError:
            return


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def _beside(path: Path) -> Path:
    path = Path(os.path.abspath(path))  # "." has no name
    return path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}.partial")


def _old(path: Path) -> Path:
    path = Path(os.path.abspath(path))
    return path.with_name(f".{path.name}.replaced")  # hidden, and not NAME.old, which people use for their own backups


def _sync(path: Path) -> None:
    if path.is_file():
        with open(path, "rb+") as file:
            os.fsync(file.fileno())


def _could_not_write(path: Path, error: OSError) -> str:
    before = " (the version that was there before is untouched)" if path.exists() else ""
    return f"could not write {path}: {error.strerror or error}{before}\n  next: free disk space or check permissions"
