"""`anadil` alone, without its extra `train`: none of that extra's packages can be imported in these processes."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from tests.support.lines import write_lines

BLOCK = """
import json, sys

EXTRA = {"torch", "lightning_fabric", "onnx", "safetensors", "tensorboard", "espeakng_loader", "transformers"}

class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in EXTRA:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Absent())
"""
NONE_LOADED = "\nassert not {name for name in sys.modules if name.partition('.')[0] in EXTRA}\n"


def run(code: str, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", BLOCK + code, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, encoding="utf-8", timeout=600, check=False)


def test_an_exported_folder_is_used_from_python(micro: Path, exported: Path) -> None:
    code = "import anadil\nprint(anadil.load(sys.argv[1]).transcribe(sys.argv[2]).text)" + NONE_LOADED
    result = run(code, exported, micro / "clips/1.wav")
    assert (result.stdout, result.returncode) == ("cab ba\n", 0), result.stderr


def test_an_exported_folder_is_used_from_the_command_line(micro: Path, exported: Path, tmp_path: Path) -> None:
    code = f"""
from typer.testing import CliRunner
from anadil.cli.main import app
def call(*arguments):
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, (result.output, result.exception)
    return result.stdout
exported, clip, manifest, figures, run = sys.argv[1:]
heard = call("transcribe", exported, clip)
call("evaluate", exported, manifest, "--json", figures)
call("pseudo-label", exported, clip, "--min-confidence", "0", "--out", figures + "l")
{NONE_LOADED}
needs = CliRunner().invoke(app, ["transcribe", run, clip])
print(json.dumps([heard, needs.exit_code, needs.stderr]))
"""
    clip, figures = micro / "clips/1.wav", tmp_path / "figures.json"
    manifest = write_lines(tmp_path / "test.jsonl", [{"audio_filepath": str(clip), "text": "cab ba"}])
    result = run(code, exported, clip, manifest, figures, micro / "run/best")
    assert result.returncode == 0, result.stderr
    heard, status, message = json.loads(result.stdout)
    assert heard == "cab ba\n"
    assert json.loads(figures.read_text(encoding="utf-8"))["cer"] == 0
    assert status == 1  # a model folder cannot be used so
    assert "needs PyTorch" in message and "pip install 'anadil[train]'" in message


def test_the_packages_of_recognition_and_evaluation_and_the_command_line_are_imported() -> None:
    code = f"""
import importlib, pkgutil
names = ["anadil", "anadil.cli.main"]
for name in ("text", "corpora", "decoding", "evaluation", "recognition", "cli"):
    package = importlib.import_module("anadil." + name)
    names += [module.name for module in pkgutil.walk_packages(package.__path__, package.__name__ + ".")]
for name in names:
    importlib.import_module(name)
{NONE_LOADED}
print(json.dumps(names))
"""
    result = run(code)
    assert result.returncode == 0, result.stderr
    expected = {"anadil.text.rules", "anadil.corpora.synthetic", "anadil.decoding.ctc", "anadil.recognition.load"}
    assert expected <= set(json.loads(result.stdout))


def test_the_block_works() -> None:
    assert "No module named 'torch'" in run("import torch").stderr
