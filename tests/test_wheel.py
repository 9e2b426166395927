"""The built package, installed with its required dependencies alone into an empty environment."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import venv
import zipfile
from pathlib import Path

import pytest

from tests.support.earlier_versions import copy_made
from tests.support.micro import TEXTS

ROOT = Path(__file__).parents[1]
BIN = "Scripts" if os.name == "nt" else "bin"

pytestmark = pytest.mark.slow


def run(*command: str | Path, cwd: Path) -> str:
    """The standard output of a command that does not see this repository's sources."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run([*map(str, command)], cwd=cwd, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of what the package is built from: building leaves files in its folder, and reads old ones from there."""
    source = tmp_path_factory.mktemp("source")
    shutil.copytree(ROOT / "anadil", source / "anadil", ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    return source


@pytest.fixture(scope="module")
def wheel(source: Path) -> Path:
    run(sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", "dist", ".", cwd=source)
    (wheel,) = (source / "dist").glob("*.whl")
    return wheel


def test_every_file_of_the_package_is_in_the_wheel(wheel: Path) -> None:
    files = {path.relative_to(ROOT).as_posix() for path in (ROOT / "anadil").rglob("*") if path.is_file()}
    packed = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    assert packed == {name for name in files if "__pycache__" not in name}


def test_the_installed_package_transcribes_without_pytorch(wheel: Path, tmp_path: Path) -> None:
    made, home = copy_made(tmp_path / "made"), tmp_path / "venv"
    venv.create(home)
    python = home / BIN / "python"
    install = ("install", "--quiet", "--constraint", ROOT / "constraints.txt", wheel)
    run(sys.executable, "-m", "pip", "--python", python, *install, cwd=tmp_path)
    code = "import importlib.util, anadil; print(importlib.util.find_spec('torch'), anadil.__file__)"
    torch, _, path = run(python, "-c", code, cwd=tmp_path).strip().partition(" ")
    assert torch == "None" and Path(path).is_relative_to(home)
    clips = [made / f"clips/{i}.wav" for i in (1, 2)]
    for clip, text in zip(clips, TEXTS[1:3], strict=True):
        assert run(home / BIN / "anadil", "transcribe", made / "exported", clip, cwd=tmp_path) == f"{text}\n"
