"""The road from Python, with nothing but what `import anadil` offers."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

import anadil
from tests.support.micro import BLOCKS, TEXTS, write_corpus

CONFIG = {
    "language": "en",
    "features": {"mels": 20},
    "augment": {"spec_augment": None},
    "model": {"blocks": BLOCKS},
    "training": {"epochs": 40, "batch_seconds": 4, "warmup_steps": 5, "flat_start_steps": 40, "lr": 0.02, "seed": 0},
}


@pytest.fixture(scope="module")
def road(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The corpus's manifest, and a config that trains on it (JSON is YAML)."""
    folder = tmp_path_factory.mktemp("road")
    manifest = write_corpus(folder)
    config = folder / "config.yaml"
    config.write_text(json.dumps(CONFIG | {"data": {"train": str(manifest), "valid": str(manifest)}}))
    return manifest, config


def test_train_evaluate_export_and_load(road: tuple[Path, Path], tmp_path: Path) -> None:
    manifest, config = road
    model = anadil.train(config, tmp_path / "run", ["training.validate_every=10"])
    assert model == tmp_path / "run/best"
    result = anadil.evaluate(model, manifest)
    assert result.cer == 0 and [one.hypothesis for one in result.scored] == list(TEXTS)
    exported = anadil.export(model, tmp_path / "exported")
    assert anadil.load(exported).transcribe(manifest.parent / "clips/0.wav").text == TEXTS[0]
    assert anadil.evaluate(exported, [manifest, str(manifest)]).words.reference == 2 * result.words.reference
    again = anadil.export(str(model), str(exported), force=True)  # the package of this name is imported by now
    assert again == exported


def test_what_cannot_be_done_is_one_error(road: tuple[Path, Path], tmp_path: Path) -> None:
    from anadil.errors import AnadilError

    manifest, config = road
    with pytest.raises(AnadilError, match="unknown key 'training.epoch'; did you mean 'training.epochs'"):
        anadil.train(config, tmp_path / "run", ["training.epoch=1"])
    with pytest.raises(AnadilError, match="model not found"):
        anadil.evaluate(tmp_path / "none", manifest)
    with pytest.raises(AnadilError, match="is no model folder"):
        anadil.export(tmp_path / "none", tmp_path / "exported")


def test_without_validation_the_last_model_is_returned(road: tuple[Path, Path], tmp_path: Path) -> None:
    _, config = road
    assert anadil.train(config, tmp_path / "run", ["data.valid=[]", "training.epochs=1"]) == tmp_path / "run/last"


@pytest.mark.parametrize(
    "first", ["import anadil", "import anadil.export.onnx, anadil", "from anadil.export import layout"]
)
def test_export_is_a_function_whatever_was_imported_first(first: str) -> None:
    code = (
        f"{first}\nimport anadil\ntry:\n    anadil.export('none', 'out')\nexcept Exception as error:\n    print(error)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert "none is no model folder" in done.stdout, done.stderr


def test_import_is_light() -> None:
    code = "import sys, anadil; print(sorted({'torch', 'numpy', 'onnxruntime', 'pydantic'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "[]"
