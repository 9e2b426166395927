"""Build the wheel, install it into an empty environment without PyTorch, and try it outside the source tree.

    python .ci/wheel.py

It finds what an editable install hides: a package or a data file that the wheel lacks, a dependency that only an extra has.
Needs nothing but Python, pip and a package index.
"""

from __future__ import annotations

import gzip
import json
import math
import os
import shutil
import struct
import subprocess
import sys
import tempfile
import venv
import wave
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
TONES = {"a": 400.0, "b": 800.0, "c": 1600.0, " ": 0.0}  # what the model of the tests was trained on, Hz


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder).resolve()
        python = install(work)
        try_out(python, work / "elsewhere")
    print("wheel: built, installed and tried")


def install(work: Path) -> Path:
    """Build the wheel from a copy (a build leaves files behind) and install it. Returns the environment's Python."""
    names = subprocess.check_output(
        ["git", "ls-files", "anadil", "pyproject.toml", "README.md", "LICENSE"], cwd=ROOT, text=True
    )
    for name in names.splitlines():
        (work / "source" / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, work / "source" / name)
    venv.create(work / "env", with_pip=True)
    python = work / "env" / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    pip = [str(python), "-m", "pip", "--quiet", "--disable-pip-version-check"]
    subprocess.run([*pip, "wheel", "--no-deps", "--wheel-dir", str(work), str(work / "source")], check=True)
    (wheel,) = work.glob("anadil-*.whl")
    subprocess.run([*pip, "install", "--constraint", str(ROOT / "constraints.txt"), str(wheel)], check=True)
    return python


def try_out(python: Path, folder: Path) -> None:
    """Text rules, an import and a recognition, in a folder that has no source in it."""
    model = folder / "model"
    shutil.copytree(ROOT / "tests/made_by_0.1.0/exported", model)
    (model / "model.onnx").write_bytes(gzip.decompress((model / "model.onnx.gz").read_bytes()))
    speak(folder / "1.wav", "cab ba")
    (folder / "1.txt").write_text("Saat 5'te, İzmir'de.", encoding="utf-8")
    anadil = [str(python.with_name("anadil"))]

    version = run([*anadil, "--version"], folder)
    assert version == f"anadil {source_version()}\n", version
    assert "voxforge" in run([*anadil, "corpora"], folder)
    run([*anadil, "import", "folder", ".", "--lang", "tr", "--out", "data"], folder)
    run([*anadil, "normalize", "data/all.jsonl", "--lang", "tr", "--out", "normal.jsonl"], folder)
    text = json.loads((folder / "normal.jsonl").read_text(encoding="utf-8"))["text"]
    assert text == "saat beş'te izmir'de", text
    hypothesis = run([*anadil, "transcribe", "model", "1.wav"], folder)
    assert hypothesis.strip()
    run([str(python), "-c", "import anadil; assert anadil.load('model').transcribe('1.wav').words"], folder)
    run([str(python), "-c", "import importlib.util as u; assert u.find_spec('torch') is None"], folder)


def run(command: list[str], folder: Path) -> str:
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"} | {"PYTHONUTF8": "1"}
    done = subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, encoding="utf-8", check=False
    )
    if done.returncode:
        sys.exit(f"{' '.join(command)}\n{done.stdout}{done.stderr}")
    return done.stdout


def source_version() -> str:
    line = next(
        line
        for line in (ROOT / "anadil/__init__.py").read_text(encoding="utf-8").splitlines()
        if "__version__ =" in line
    )
    return line.split('"')[1]


def speak(path: Path, text: str, rate: int = 16000) -> None:
    """A tone of 0.2 s for each letter, as 16-bit samples."""
    samples = [
        round(9000 * math.sin(2 * math.pi * TONES[letter] * i / rate)) for letter in text for i in range(rate // 5)
    ]
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(rate)
        file.writeframes(struct.pack(f"<{len(samples)}h", *samples))


if __name__ == "__main__":
    main()
