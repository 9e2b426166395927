"""The examples that train on shared speech, on a little of it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from anadil.manifest import read_manifest
from tests.support.lines import write_lines

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "examples"))


@pytest.mark.slow
def test_scratch_against_transfer(tmp_path: Path, shared: Path) -> None:
    speech = tmp_path / "shared/speech"
    for manifest, every in (("mboshi/train", 60), ("mboshi/valid", 40), ("english/train", 10)):
        lines = [
            {"audio_filepath": one.audio_filepath, "text": one.text, "duration": one.duration, "speaker": one.speaker}
            for one in read_manifest(shared / f"speech/{manifest}.jsonl")[::every]
        ]
        (speech / manifest).parent.mkdir(parents=True, exist_ok=True)
        write_lines(speech / f"{manifest}.jsonl", lines)
    shutil.copytree(shared / "speech/common_voice", speech / "common_voice", ignore=shutil.ignore_patterns("clips"))
    small = {"SOURCE_HOURS": "0.003", "SOURCE_MINUTES": "0.05", "EPOCHS": "1"} | {
        "FRACTIONS": "50", "SEEDS": "0 1", "WAYS": "scratch frozen", "ANADIL_SHARED": str(tmp_path / "shared")
    }  # fmt: skip
    bin_folder = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    done = subprocess.run(
        ["bash", "examples/scratch_vs_transfer.sh", str(tmp_path / "out")],
        cwd=ROOT, env=os.environ | small | {"PATH": bin_folder}, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    table = (tmp_path / "out/table.md").read_text(encoding="utf-8")
    assert table.startswith("| valid CER | 0.03 h (50 %) |\n|---|---|\n| from scratch | ") and table.count("(2)") == 2
    assert "encoder frozen for a quarter" in (tmp_path / "out/plot.svg").read_text(encoding="utf-8")
    start = (tmp_path / "out/frozen-50-0/init.json").read_text(encoding="utf-8")
    assert '"label": "á", "kind": "relative"' in start.replace("\n", "").replace("  ", "")
    spoken = {one.language for name in ("lg", "tr", "en") for one in
              read_manifest(tmp_path / f"out/source-speech/{name}/train.jsonl")}  # fmt: skip
    assert spoken == {"lg", "tr", "en"}


def test_the_interval_is_students() -> None:
    from scratch_vs_transfer import interval

    assert interval([0.4]) == 0
    assert interval([1.0, 2.0, 3.0]) == pytest.approx(4.30 / 3**0.5, rel=1e-3)
