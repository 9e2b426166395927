"""Anadil (Turkish: mother tongue): a working speech recogniser for a language that has few recordings."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    from anadil.recognition.recognizer import Recognizer

__version__ = "0.1.0"


def load(model: str | Path) -> Recognizer:
    """Load a model folder or an exported folder: `anadil.load("exported").transcribe("clip.wav").text`."""
    from anadil.recognition.load import load as load_recognizer  # keeps `import anadil` free of heavy imports

    return load_recognizer(model)
