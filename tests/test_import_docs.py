"""The commands of docs/import.md are run as they stand."""

from __future__ import annotations

import re
import shlex
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from anadil.corpora.elan import format_eaf
from anadil.corpora.segments import Segment
from anadil.corpora.textgrid import format_textgrid
from anadil.manifest import read_manifest
from tests.support.command_line import succeeds

PAGE = (Path(__file__).parents[1] / "docs/import.md").read_text(encoding="utf-8")
FLEXTEXT = (
    '<document><interlinear-text><phrase begin-time-offset="0" end-time-offset="900">'
    '<item type="txt" lang="mdw">wa</item><item type="gls" lang="en">he</item></phrase></interlinear-text></document>'
)


def test_the_commands_run_as_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, write_wav: Callable[..., Path]
) -> None:
    monkeypatch.chdir(tmp_path)
    first, second = Segment(0, 1, "wa"), Segment(1, 2, "wangala")
    contents = {
        "interview.eaf": format_eaf({"CHI": [first], "FA1": [second], "FA1-ids": [Segment(1, 2, "FA1_1")]}),
        "saymore-project/Sessions/a/a.wav.annotations.eaf": format_eaf({"Transcription": [first], "Free": [first]}),
        "praat/a.TextGrid": format_textgrid({"words A": [first], "notes": [second]}, 3.0),
        "story.flextext": FLEXTEXT,
        "texts/a.txt": "\\ref 1\n\\ELANBegin 0\n\\ELANEnd 1\n\\tx é\n\\ft he\n",
        "eve.cha": "@Begin\n*MOT:\tone . \x150_900\x15\n*FAT:\ttwo . \x15900_1500\x15\n*CHI:\tme . \x151500_1900\x15\n@End\n",
    }
    recording = write_wav("recording.wav", 3.0)
    for name, content in contents.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode("cp1252" if name.endswith("txt") else "utf-8"))
        shutil.copy(recording, path.parent / f"{path.name.partition('.')[0]}.wav")
    commands = [line for block in re.findall(r"```bash\n(.*?)```", PAGE, re.DOTALL) for line in block.splitlines()]
    last = [succeeds(*shlex.split(command)[1:]).stdout.splitlines()[-1] for command in commands]
    found = [
        [one.text for one in read_manifest(f"corpus/{name}/all.jsonl")]
        for name in ("interview", "saymore", "praat", "story", "texts", "eve")
    ]
    assert found == [["wa", "wangala"], ["wa"], ["wa"], ["wa"], ["é"], ["one.", "two."]]
    assert last[0] == "2 utterances of tiers 'CHI' (1), 'FA1' (1); 1 annotation of other tiers left: 'FA1-ids' (1)"
