"""docs/training.md names every key and every output, and no others."""

from __future__ import annotations

import re
from pathlib import Path

import torch

from anadil.models.acoustic import AcousticModel
from anadil.models.features import FeatureSettings
from anadil.models.quartznet import DEFAULT_PRESET, PRESETS, QuartzNetSettings
from anadil.models.summary import count_parameters
from anadil.training.checkpoint import MAY_CHANGE
from anadil.training.config import TrainingSettings
from anadil.training.run import OUTPUTS

PAGE = (Path(__file__).parents[1] / "docs/training.md").read_text(encoding="utf-8")


def section(title: str) -> str:
    return PAGE.split(f"## {title}\n")[1].split("\n## ")[0]


def named(table: str) -> set[str]:
    """What the first column holds."""
    return {
        name
        for line in table.splitlines()
        if line.startswith("| `")
        for name in re.findall(r"`([^`]+)`", line.split("|")[1])
    }


def test_every_key_is_explained() -> None:
    assert named(section("Keys of `training`")) == set(TrainingSettings.model_fields)


def test_every_preset_is_described() -> None:
    sizes = {
        name: line.split("|")[2]
        for line in section("Which network").splitlines()
        if line.startswith("| `") and "model.preset" not in line
        for name in re.findall(r"`([^`]+)`", line.split("|")[1])
    }
    assert set(sizes) == set(PRESETS)
    with torch.device("meta"):
        count = count_parameters(AcousticModel(FeatureSettings(), QuartzNetSettings(preset=DEFAULT_PRESET), 34))
    assert sizes[DEFAULT_PRESET].strip() == f"{count / 1e6:.1f} M"


def test_defaults_are_those_of_the_code() -> None:
    defaults = TrainingSettings()
    rows = [line.split("|")[1:3] for line in section("Keys of `training`").splitlines() if line.startswith("| `")]
    told = {
        key.strip(" `"): value.strip() for key, value in rows if "," not in key and value.strip() not in ("", "off")
    }
    assert len(told) > 8
    for key, value in told.items():
        actual = getattr(defaults, key)
        assert value == (
            str(actual).lower() if isinstance(actual, bool | str) else f"{actual:g}" if actual != [] else "[]"
        ), key


def test_every_output_is_explained() -> None:
    assert named(section("What a run writes")) == set(OUTPUTS)


def test_what_may_change_is_told() -> None:
    told = set(re.findall(r"`([^`]+)`", section("Interrupted runs").split("but ")[1].split(" may change")[0]))
    keys = {
        key.removeprefix("training.") for key in MAY_CHANGE if not key.startswith("text.saved.")
    }  # nobody sets these
    assert told | {"name"} == keys
