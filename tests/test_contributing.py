"""The worked examples of CONTRIBUTING.md are run as they stand."""

from __future__ import annotations

import importlib.util
import re
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
import typer
import yaml
from typer.testing import CliRunner

from anadil.corpora import catalog
from anadil.corpora.reader import Options
from anadil.errors import Problem
from anadil.manifest import Utterance, write_manifest
from anadil.models.features import FeatureSettings, LogMel
from anadil.text.rules import TextSettings, text_rules

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")


def example(path: str) -> str:
    """The block whose first line is a comment with the path of the file that it is for."""
    blocks = re.findall(rf"```\w+\n# {re.escape(path)}\n(.*?)```", PAGE, re.DOTALL)
    assert len(blocks) == 1, path
    return str(blocks[0])


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> ModuleType:
    """The example for a Python file, imported."""
    path: str = request.param
    file = tmp_path / Path(path).name
    file.write_text(example(path), encoding="utf-8")
    spec = importlib.util.spec_from_file_location(f"example_{file.stem}", file)
    assert spec is not None and spec.loader is not None
    made = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, spec.name, made)
    spec.loader.exec_module(made)
    return made


def test_the_language(tmp_path: Path) -> None:
    path = tmp_path / "wo.yaml"
    path.write_text(example("anadil/text/languages/wo.yaml"), encoding="utf-8")
    rules = text_rules("wo", TextSettings(rules=str(path)))
    pairs = yaml.safe_load(path.read_text(encoding="utf-8"))["tests"]
    assert len(pairs) == 2
    for written, spoken in pairs:
        assert rules.normalize(written) == spoken


@pytest.mark.parametrize("module", ["anadil/corpora/field_notes.py"], indirect=True)
def test_the_corpus(module: ModuleType, tmp_path: Path) -> None:
    notes = tmp_path / "notes.txt"
    notes.write_text("1.wav\t wáré ngá\n\n2.wav\n", encoding="utf-8")
    rejected: list[Problem] = []
    found = list(module.utterances(notes, Options(language="mdw"), rejected.append))
    assert found == [Utterance(str(tmp_path / "1.wav"), text="wáré ngá", language="mdw")]
    assert [problem.where for problem in rejected] == [f"{notes}:3"]
    row = eval(example("anadil/corpora/catalog.py"), vars(catalog).copy())
    assert isinstance(row, catalog.CorpusKind)
    assert f"{row.module}.py" == Path("anadil/corpora/field_notes.py").name


@pytest.mark.parametrize("module", ["anadil/cli/hours.py"], indirect=True)
def test_the_verb(module: ModuleType, tmp_path: Path) -> None:
    app = typer.Typer()
    app.command(epilog=module.EXAMPLE)(module.command)
    manifest = tmp_path / "all.jsonl"
    write_manifest(manifest, [Utterance("1.wav", 1800.0, "a"), Utterance("2.wav", 900.0, "b")])
    done = CliRunner().invoke(app, [str(manifest)])
    assert (done.exit_code, done.output) == (0, f"0.75\t{manifest}\n")
    assert CliRunner().invoke(app, ["missing.jsonl"]).exit_code == 1


@pytest.mark.parametrize("module", ["anadil/models/recurrent.py"], indirect=True)
def test_the_model_family(module: ModuleType) -> None:
    features = LogMel(FeatureSettings())
    settings = module.RecurrentSettings(width=8, n_layers=1)
    network = module.Recurrent(settings, features.settings.width, n_labels=3).eval()
    waveforms = torch.from_numpy(np.random.default_rng(0).uniform(-0.5, 0.5, (2, 8000)).astype(np.float32))
    counts = torch.tensor([8000, 4000])
    log_probs, frame_counts = network(*features(waveforms, counts))
    assert log_probs.shape[2] == 4
    torch.testing.assert_close(log_probs.exp().sum(dim=2), torch.ones(log_probs.shape[:2]))
    alone, (count,) = network(*features(waveforms[1:, :4000], counts[1:]))
    torch.testing.assert_close(log_probs[1, :count], alone[0, :count], rtol=1e-4, atol=1e-5)
    assert network.frame_count(features.frame_count(4000)) == count == frame_counts[1]


def test_its_make_targets_are_there() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = set(re.findall(r"^ {4}make ([\w-]+)", PAGE, re.MULTILINE))
    assert targets == {"install", "test-fast", "lint", "test", "docs"}
    assert targets - {"test-fast"} <= set(re.findall(r"^([\w-]+):", makefile, re.MULTILINE))
