"""Archives, as the tests write them."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path


def make_tar(path: Path, files: dict[str, bytes], mode: str = "w:gz", **members: tarfile.TarInfo) -> Path:
    with tarfile.open(path, mode) as tar:  # type: ignore[call-overload]
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
        for member in members.values():
            tar.addfile(member, io.BytesIO(b"x" * member.size))
    return path
