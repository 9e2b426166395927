"""The commands of docs/split.md are run as they stand, on corpora of the kinds that it speaks of."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
from typer.testing import CliRunner

from anadil.cli.main import app
from anadil.manifest import Utterance, read_manifest, write_manifest

PAGE = (Path(__file__).parents[1] / "docs/split.md").read_text(encoding="utf-8")


def clips(speakers: list[str], sentences: list[str]) -> list[Utterance]:
    return [Utterance(f"/c/{s}-{t}.wav", 3.0, t, speaker=s) for s in speakers for t in sentences]


def test_the_commands_run_as_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    own = [u for s in range(80) for u in clips([f"s{s}"], [f"{s} one", f"{s} two"])]
    write_manifest("corpus/validated.jsonl", own[:120])
    write_manifest("corpus/more.jsonl", own[120:])
    write_manifest("prompts/all.jsonl", clips([f"s{s}" for s in range(40)], [f"prompt {t}" for t in range(30)]))
    write_manifest("few/all.jsonl", [*clips(["ana"], ["x", "y"]), *clips(["bo", "cy"], [*"abcdefghijklmnopqrstx"])])
    commands = [line for block in re.findall(r"```bash\n(.*?)```", PAGE, re.DOTALL) for line in block.splitlines()]
    assert len(commands) == 7
    for command in commands:
        words = shlex.split(command)
        assert words[0] == "anadil"
        done = CliRunner().invoke(app, words[1:])
        assert done.exit_code == 0, f"{command}\n{done.output}"
    first, later = ({u.audio_filepath for u in read_manifest(f"{out}/test.jsonl")} for out in ("splits", "splits-2"))
    assert first == later
    assert {u.speaker for u in read_manifest("few/without-ana/test.jsonl")} == {"ana"}
