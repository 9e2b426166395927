"""The commands and the Python of docs/lm.md are run as they stand, on a small corpus of Swahili."""

from __future__ import annotations

import gzip
import json
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from anadil.cli.main import app
from anadil.lm.model import read_model
from anadil.manifest import Utterance, write_manifest

PAGE = (Path(__file__).parents[1] / "docs/lm.md").read_text(encoding="utf-8")
SENTENCES = ("Watoto wanacheza mpira.", "Mama anapika chakula!", "Watoto wanakula chakula cha mama.", "Mpira wa mtoto")


def test_the_commands_run_as_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("text").mkdir()
    Path("text/news.txt.gz").write_bytes(gzip.compress("\n".join(SENTENCES * 3).encode()))
    for name in ("train", "valid"):
        write_manifest(f"my-speech/{name}.jsonl", [Utterance("1.wav", 2.0, text) for text in SENTENCES])
    commands = [line for block in re.findall(r"```bash\n(.*?)```", PAGE, re.DOTALL) for line in block.splitlines()]
    assert len(commands) == 3
    for command in commands:
        piped, _, own = command.rpartition(" | ")
        words = shlex.split(own)
        assert words[0] == "anadil"
        content = gzip.decompress(Path(piped.removeprefix("zcat ")).read_bytes()) if piped else None
        done = CliRunner().invoke(app, words[1:], input=content)
        assert done.exit_code == 0, f"{command}\n{done.output}"
    (code,) = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    done = subprocess.run([sys.executable, "-c", f"{code}\nprint(log_probs.tolist())"], capture_output=True, text=True)
    assert done.returncode == 0 and len(json.loads(done.stdout)) == 3, done.stderr
    assert read_model(Path("lm/small.arpa.gz")).order == 3
