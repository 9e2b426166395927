from __future__ import annotations

import re
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from anadil.cli.augment import read_settings
from anadil.cli.main import app
from anadil.data.augment.steps import STEPS
from anadil.manifest import read_manifest
from tests.support.micro import TEXTS, micro_data, write_config, write_corpus


def anadil(*arguments: str | Path) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    write_corpus(tmp_path, TEXTS[:3])
    return tmp_path


def test_copies_are_written_and_reported(corpus: Path) -> None:
    result = anadil("augment", corpus / "train.jsonl", "speed.probability=1", "--out", corpus / "more", "--copies", "2")
    assert result.exit_code == 0, result.stderr
    assert result.stdout == f"{corpus / 'more/train.jsonl'}\n"
    assert "3 originals and 6 copies" in result.stderr and "speed 6" in result.stderr
    assert len(read_manifest(corpus / "more/train.jsonl")) == 9


def test_sections_that_make_no_copies_are_named(corpus: Path) -> None:
    result = anadil("augment", corpus / "train.jsonl", "gain={}", "silence={}", "--out", corpus / "more")
    assert "not in the copies, because they act in training only: silence\n" in result.stderr
    assert "not in the copies" not in anadil("augment", corpus / "train.jsonl", "gain={}", "--out", corpus / "2").stderr


def test_transforms_come_from_the_section_of_a_config(corpus: Path) -> None:
    data = micro_data(corpus / "train.jsonl") | {"augment": {"speed": {"rate": 0.5}, "gain": {}, "spec_augment": None}}
    config = write_config(corpus / "config.yaml", data)
    settings = read_settings(config, ["augment.gain.db=3", "white_noise={}"])
    assert settings.speed and settings.speed.rate == (0.5, 0.5)
    assert settings.gain and settings.gain.db == (3, 3)
    assert settings.white_noise and not settings.reverb and not settings.spec_augment


def test_by_default_all_transforms_without_recordings_are_on() -> None:
    on = {name for name, section in read_settings(None, []) if section is not None}
    training = {"silence", "spec_augment"}  # of a config; copies have none of it
    assert on == {*STEPS, *training} - {"background"}
    assert {name for name, section in read_settings(None, ["gain={}"]) if section} == {"gain", *training}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["sped.rate=1"], "unknown key 'sped'; did you mean 'speed'"),
        (["spec_cutout={}"], "no transform of audio is on"),
        (["background.probability=1"], "'background.manifest' is required"),
        (["background.manifest=nowhere.jsonl"], "manifest not found: nowhere.jsonl"),
        (["--config", "nowhere.yaml"], "config not found"),
    ],
)
def test_wrong_input_is_an_error(corpus: Path, arguments: list[str], message: str) -> None:
    result = anadil("augment", corpus / "train.jsonl", "--out", corpus / "more", *arguments)
    assert (result.exit_code, result.stdout) == (1, "")
    assert message in result.stderr
    assert not (corpus / "more").exists()


def test_a_preview_is_one_page(corpus: Path) -> None:
    result = anadil("augment", corpus / "train.jsonl", "--out", corpus / "more", "--preview", "1")
    assert result.exit_code == 0, result.stderr
    assert [path.name for path in (corpus / "more").iterdir()] == ["preview.html"]
    page = (corpus / "more/preview.html").read_text(encoding="utf-8")
    assert re.findall(r"<figcaption><b>([^<]+)</b>", page)[:3] == ["original", "speed", "tempo"]
