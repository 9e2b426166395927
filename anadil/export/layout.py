"""The exported folder: an ONNX graph from waveforms to log-probs, and the settings, labels and text rules to decode these.

Nothing here needs PyTorch.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, Field

from anadil.data.pauses import NOT_MEASURED, PauseLimits
from anadil.errors import AnadilError
from anadil.settings import SECTION, parse_json
from anadil.text.rules import TextRules, rules_from_dict
from anadil.text.tokenizer import MODEL as TOKENIZER

MODEL, CONFIG, VOCABULARY, CARD = "model.onnx", "config.json", "vocab.txt", "README.md"
INPUTS = ("waveforms", "sample_counts")  # float32 (batch, samples), int64 (batch,)
OUTPUTS = ("log_probs", "frame_counts")  # float32 (batch, frames, labels + blank), int64 (batch,)


class ExportedSettings(BaseModel):
    """`config.json` of an exported folder."""

    model_config = SECTION

    format: Literal["anadil-ctc"] = "anadil-ctc"
    version: Literal[1] = 1
    name: str
    language: str
    sample_rate: int = Field(gt=0)
    frame_s: float = Field(gt=0)  # seconds from one output frame to the next
    min_samples: int = Field(gt=0)  # shorter audio is padded with zeros to this
    labels: list[str]  # the blank follows the last one
    text: dict[str, Any]  # TextRules.to_dict()
    subwords: bool = False  # whether the labels are the subwords of tokenizer.model
    longest_pause_s: float = Field(NOT_MEASURED.longest_s, gt=0, le=60)  # of training; longer ones are cut out
    pause_margin_s: float = Field(NOT_MEASURED.margin_s, ge=0, le=60)

    @property
    def pauses(self) -> PauseLimits:
        return PauseLimits(self.longest_pause_s, self.pause_margin_s)

    @property
    def rules(self) -> TextRules:
        """Text rules for normalising and decoding. Encoding subwords needs those of `read_rules`."""
        return rules_from_dict(self.text, self.labels)


def read_settings(folder: Path) -> ExportedSettings:
    """The settings in `config.json`. Raises AnadilError if the file is missing, malformed or of another format."""
    settings = parse_json(ExportedSettings, folder / CONFIG)
    if settings.text.get("language") != settings.language:
        raise AnadilError(f"{folder / CONFIG}: language and text.language differ\n  next: export the model again")
    return settings


def read_rules(folder: Path, settings: ExportedSettings) -> TextRules:
    """The text rules of an exported folder, with its subwords. Raises AnadilError if tokenizer.model is missing."""
    if not settings.subwords:
        return settings.rules
    if not (folder / TOKENIZER).is_file():
        raise AnadilError(f"{folder}: {TOKENIZER} is missing\n  next: copy the whole folder again")
    return rules_from_dict(settings.text, settings.labels, (folder / TOKENIZER).read_bytes())


def vocabulary(labels: list[str]) -> str:
    """The content of `vocab.txt`, as other runtimes read it: `token id` per line, the space as ▁, the blank as <blk>."""
    tokens = [label.replace(" ", "▁") for label in labels] + ["<blk>"]
    return "".join(f"{token} {i}\n" for i, token in enumerate(tokens))
