"""The exported folder: an ONNX graph from waveforms to log-probs, and the settings, labels and text rules to decode these.

Nothing here needs PyTorch.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import yaml
from pydantic import BaseModel, Field

from anadil.data.pauses import NOT_MEASURED, PauseLimits
from anadil.errors import AnadilError, shortened
from anadil.settings import SECTION, Real, Whole, parse_json
from anadil.text.rules import TextRules, rules_from_dict
from anadil.text.subwords import sentencepieces
from anadil.text.tokenizer import MODEL as TOKENIZER
from anadil.text.tokenizer import read_subwords_file

MODEL, CONFIG, VOCABULARY, CARD = "model.onnx", "config.json", "vocab.txt", "README.md"
FRONT_MATTER = re.compile(r"\A---\n(.*?)\n---\n", re.DOTALL)  # of a card: metadata for the hub of Hugging Face, YAML
INPUTS = ("waveforms", "sample_counts")  # float32 (batch, samples), int64 (batch,)
OUTPUTS = ("log_probs", "frame_counts")  # float32 (batch, frames, labels + blank), int64 (batch,)

_FRAMES_TOLERANCE_S = 0.5
"""Beside a tenth of the duration. A frame of wav2vec 2.0 needs 25 ms; paddings of NeMo's features add up to 0.16 s."""


class ExportedSettings(BaseModel):
    """`config.json` of an exported folder."""

    model_config = SECTION

    format: Literal["anadil-ctc"] = "anadil-ctc"
    version: Literal[1] = 1
    name: str
    language: str
    sample_rate: Whole = Field(ge=4000, le=48_000)
    frame_s: Real = Field(gt=0, le=1)  # seconds from one output frame to the next
    min_samples: Whole = Field(gt=0, le=480_000)  # shorter audio is padded with zeros to this
    labels: list[str] = Field(min_length=1, max_length=100_000)  # the blank follows the last one
    text: dict[str, Any]  # TextRules.to_dict()
    subwords: bool = False  # whether the labels are the subwords of tokenizer.model
    precision: Literal["float32", "int8", "float16"] = "float32"  # of the network; features are always float32
    longest_pause_s: Real = Field(NOT_MEASURED.longest_s, gt=0, le=60)  # of training; longer ones are cut out
    pause_margin_s: Real = Field(NOT_MEASURED.margin_s, ge=0, le=60)

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
    if (folder / VOCABULARY).is_file():
        expected = vocabulary(settings.labels).encode("utf-8", "surrogatepass")
        with open(folder / VOCABULARY, "rb") as file:
            if file.read(2 * len(expected)).replace(b"\r\n", b"\n") != expected:
                raise AnadilError(
                    f"{folder / VOCABULARY}: its labels are not those of {CONFIG}\n  next: copy the whole folder again"
                )
    return settings


def is_onnx_asr(folder: Path) -> bool:
    """Whether `config.json` is that of a folder for onnx-asr."""
    with open(folder / CONFIG, "rb") as file:
        return b'"model_type": "nemo-conformer-ctc"' in file.read(1000)


def read_rules(folder: Path, settings: ExportedSettings) -> TextRules:
    """The text rules of an exported folder, with its subwords.

    Raises AnadilError if tokenizer.model is missing, is no SentencePiece model, has other pieces than the labels, or is
    there although the labels are no subwords.
    """
    where = str(folder / CONFIG)
    if not settings.subwords:
        if (folder / TOKENIZER).is_file():
            raise AnadilError(
                f"{folder}: it has a {TOKENIZER}, but subwords is not true in {CONFIG}\n  next: copy the whole folder again"
            )
        return _rules(settings, b"", where)
    model = read_subwords_file(folder)
    pieces = {piece.replace("\u2581", " ") for piece in sentencepieces(model, str(folder))}
    if not pieces.issuperset(settings.labels):
        raise AnadilError(
            f"{folder / TOKENIZER}: its subwords are not the labels of {CONFIG}\n  next: copy the whole folder again"
        )
    return _rules(settings, model, where)


def _rules(settings: ExportedSettings, subwords: bytes, where: str) -> TextRules:
    try:
        return rules_from_dict(settings.text, settings.labels, subwords)
    except AnadilError as error:
        raise AnadilError(f"{where}: {error}") from error


Tensor = tuple[str, str, int]
"""Name, type as ONNX Runtime writes it, and number of dimensions of an input or output."""

TENSORS: tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]] = (
    ((INPUTS[0], "tensor(float)", 2), (INPUTS[1], "tensor(int64)", 1)),
    ((OUTPUTS[0], "tensor(float)", 3), (OUTPUTS[1], "tensor(int64)", 1)),
)
"""The inputs and the outputs of a graph."""


def check_graph(inputs: Sequence[Any], outputs: Sequence[Any], n_labels: int, where: str) -> None:
    """Raise AnadilError unless a graph's inputs and outputs (ONNX Runtime's NodeArg) are those of an exported folder."""
    for kind, found, expected in (("inputs", inputs, TENSORS[0]), ("outputs", outputs, TENSORS[1])):
        tensors = {one.name: (one.type, len(one.shape)) for one in found}
        if tensors != {name: (type_, rank) for name, type_, rank in expected}:
            raise AnadilError(
                f"{where}: the graph's {kind} are {_listed([(one.name, one.type, len(one.shape)) for one in found])}; "
                f"expected are {_listed(expected)}\n  next: export the model again"
            )
    width = next(one.shape[2] for one in outputs if one.name == OUTPUTS[0])
    if isinstance(width, int) and width != n_labels + 1:
        raise AnadilError(f"{where}: {_other_labels(width, n_labels)}")


def check_result(
    log_probs: np.ndarray, frame_counts: np.ndarray, sample_counts: np.ndarray, settings: ExportedSettings, where: str
) -> None:
    """Raise AnadilError if what a graph returned for so many samples does not fit config.json."""
    n_utterances, n_frames, width = log_probs.shape
    if width != len(settings.labels) + 1:
        raise AnadilError(f"{where}: {_other_labels(width, len(settings.labels))}")
    if (
        n_utterances != len(sample_counts)
        or len(frame_counts) != n_utterances
        or frame_counts.min() < 0
        or frame_counts.max() > n_frames
    ):
        raise AnadilError(
            f"{where}: frame_counts {shortened(str(frame_counts.tolist()))} do not fit log_probs of shape "
            f"{log_probs.shape} for {len(sample_counts)} utterances\n  next: export the model again"
        )
    seconds = sample_counts / settings.sample_rate
    if (np.abs(frame_counts * settings.frame_s - seconds) > _FRAMES_TOLERANCE_S + 0.1 * seconds).any():
        raise AnadilError(
            f"{where}: {frame_counts[0]:,} frames for {seconds[0]:.2f} s, but {CONFIG} says a frame every "
            f"{settings.frame_s:g} s (frame_s) at {settings.sample_rate:,} Hz (sample_rate)\n  next: export the model again"
        )


def _other_labels(width: int, n_labels: int) -> str:
    return (
        f"the graph has {width:,} columns, but {CONFIG} has {n_labels:,} labels, which need {n_labels + 1:,} with the blank\n"
        "  next: copy the whole folder again"
    )


def _listed(tensors: Sequence[Tensor]) -> str:
    return ", ".join(f"{name} ({type_}, {rank} dimensions)" for name, type_, rank in tensors[:5]) or "none"


def vocabulary(labels: list[str]) -> str:
    """The content of `vocab.txt`, as other runtimes read it: `token id` per line, the space as ▁, the blank as <blk>."""
    tokens = [label.replace(" ", "▁") for label in labels] + ["<blk>"]
    return "".join(f"{token} {i}\n" for i, token in enumerate(tokens))


def read_front_matter(text: str) -> dict[str, Any]:
    """The metadata of a card; {} if it has none that can be read."""
    found = FRONT_MATTER.match(text)
    try:
        data = yaml.safe_load(found[1]) if found else {}
    except yaml.YAMLError:
        return {}
    return data if isinstance(data, dict) else {}
