"""The language model of a recogniser: n-grams of its labels, of words or both, with weights; its files in a model folder."""

from __future__ import annotations

import io
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Literal

import numpy as np
from pydantic import BaseModel, Field

from anadil.decoding.beam import BEAM, LabelScorer, Unscored
from anadil.decoding.confidence import ConfidenceMap
from anadil.decoding.label_lm import LabelLM, check_alphabet, label_tokens
from anadil.decoding.transcript import joiner
from anadil.decoding.word_lm import Hotwords, WordNGram, WordScorer
from anadil.errors import AnadilError
from anadil.files import whole_file
from anadil.lm.counts import SPECIAL
from anadil.lm.model import NGramModel
from anadil.settings import SECTION, parse_json

LABELS, WORDS, SETTINGS = "lm.npz", "words.npz", "decoder.json"
MAX_BYTES = 1 << 30
"""Largest size of the unpacked arrays of a model, so that a hostile file cannot fill the memory."""

_NUMBERS = {"lm_weight", "label_bonus", "word_weight", "word_bonus", "unknown_word", "beam"}
_COPY = "\n  next: copy the whole folder again, or make it again: anadil export, anadil lm tune"


class LmWeights(BaseModel):
    """`decoder.json`: how the search weighs the models beside it, and the confidence of words. Weight 0: no such model."""

    model_config = SECTION

    format: Literal["anadil-decoder"] = "anadil-decoder"
    version: Literal[1] = 1
    lm_weight: float = Field(0.0, ge=0, le=10)  # factor of the log-prob of a label
    label_bonus: float = Field(0.0, ge=-20, le=20)  # nats added per label, against short texts
    word_weight: float = Field(0.0, ge=0, le=10)  # factor of the log-prob of a word
    word_bonus: float = Field(0.0, ge=-50, le=50)  # nats added per word
    unknown_word: float = Field(0.0, ge=-100, le=100)  # nats added per word that the word model does not have
    beam: int = Field(BEAM, ge=1, le=1024)  # prefixes kept
    confidence: ConfidenceMap | None = None  # of words found with it
    greedy_confidence: ConfidenceMap | None = None  # of words found without it

    @property
    def has_model(self) -> bool:
        return self.lm_weight > 0 or self.word_weight > 0


@dataclass(frozen=True)
class LanguageModel:
    """What a beam search adds to the log-probs of a recogniser with the labels `alphabet`."""

    alphabet: tuple[str, ...]
    weights: LmWeights
    labels: NGramModel | None = None
    words: NGramModel | None = None

    def __post_init__(self) -> None:
        """Raises AnadilError if a model is missing, or is none of these labels or of words spelled with them."""
        for name, model, weight in (
            (LABELS, self.labels, self.weights.lm_weight),
            (WORDS, self.words, self.weights.word_weight),
        ):
            if (model is None) != (weight == 0):
                raise AnadilError(
                    f"{SETTINGS} gives the model {name} the weight {weight:g}, but it is {'not ' * (model is None)}there"
                )
        if self.words is not None:
            check_words(self.words, self.alphabet)
        _ = self._label_scorer

    @cached_property
    def _label_scorer(self) -> LabelScorer:
        if self.labels is None:
            return Unscored()
        return LabelLM(self.labels, self.alphabet, self.weights.lm_weight, self.weights.label_bonus)

    @cached_property
    def scorer(self) -> LabelScorer:
        """For `search_many`. It keeps what it has computed from search to search."""
        return self.scorer_with(None)

    def scorer_with(self, hotwords: Hotwords | None) -> LabelScorer:
        """The same with hotwords."""
        if self.words is None and hotwords is None:
            return self._label_scorer
        w = self.weights
        words = None if self.words is None else WordNGram(self.words, w.word_weight, w.word_bonus, w.unknown_word)
        return WordScorer(self._label_scorer, self.alphabet, words, hotwords)

    def to_dict(self) -> dict[str, float]:
        """JSON-ready: orders, weights and beam."""
        shown: dict[str, float] = self.weights.model_dump(include=_NUMBERS)
        orders = {"order": self.labels, "word_order": self.words}
        return {name: model.order for name, model in orders.items() if model is not None} | shown

    def describe(self) -> str:
        """For titles and messages: orders, weights and beam."""
        w, parts = self.weights, []
        if self.labels is not None:
            parts.append(f"{self.labels.order}-gram of labels, weight {w.lm_weight:g}, bonus {w.label_bonus:g}")
        if self.words is not None:
            parts.append(
                f"{self.words.order}-gram of words, weight {w.word_weight:g}, bonus {w.word_bonus:g}, "
                f"unknown word {w.unknown_word:g}"
            )
        return f"{', '.join(parts)}, beam {w.beam}"


def check_words(model: NGramModel, alphabet: Sequence[str]) -> list[str]:
    """Some of the words that cannot be spelled with the labels. Raises AnadilError if half of them or more cannot.

    And if the labels have no space: without it a text has no words (Thai, Chinese).
    """
    if not joiner(alphabet):
        raise AnadilError(
            "a language model of words needs labels with a space, and this model has none: its texts have no words\n"
            "  next: make a model of the labels: anadil lm build TEXT --model MODEL --unit char (or --unit subword)"
        )
    words = [word for word in model.words if word not in SPECIAL]
    letters = set("".join(alphabet))
    foreign = [word for word in words if not letters.issuperset(word)]
    if 2 * len(foreign) >= len(words):
        raise AnadilError(
            f"the language model is not one of words in this model's letters: {len(foreign):,} of its {len(words):,} words "
            f"have other characters ({', '.join(map(repr, foreign[:5]))})\n"
            "  next: take the text through the model's rules: anadil lm build TEXT --model MODEL"
        )
    return foreign


def kind_of(model: NGramModel, alphabet: Sequence[str]) -> Literal["labels", "words"]:
    """Whether an n-gram model is one of the labels or of words. Raises AnadilError, with both reasons, if it is neither."""
    try:
        check_alphabet(model, alphabet)
        return "labels"
    except AnadilError as no_labels:
        label_tokens(alphabet)  # if these are the reason, it would be one for words too
        tokens = [word for word in model.words if word not in SPECIAL]
        if all(len(token) == 1 for token in tokens):
            raise
        try:
            check_words(model, alphabet)
        except AnadilError as no_words:
            raise AnadilError(f"{str(no_labels).splitlines()[0]};\nand {no_words}") from None
        return "words"


def save_language_model(folder: Path, lm: LanguageModel) -> None:
    """Write the files into a model folder, in place of earlier ones. Raises AnadilError."""
    remove_language_model(folder)  # if this is killed half-way, the folder has no LM
    for name, content in language_model_files(lm).items():
        with whole_file(folder / name) as beside:
            beside.write_bytes(content)


def save_greedy_confidence(folder: Path, found: ConfidenceMap) -> None:
    """Write the confidence of words found without a language model, for a folder that has none."""
    with whole_file(folder / SETTINGS) as beside:
        beside.write_bytes(_settings(LmWeights(greedy_confidence=found)))


def remove_language_model(folder: Path) -> None:
    """Delete the LM of a model folder, if it has one."""
    for name in (SETTINGS, LABELS, WORDS):
        (folder / name).unlink(missing_ok=True)


def language_model_files(lm: LanguageModel) -> dict[str, bytes]:
    """The content of the files; decoder.json, which makes the LM count, is the last."""
    found = {name: _packed(model) for name, model in ((LABELS, lm.labels), (WORDS, lm.words)) if model is not None}
    return found | {SETTINGS: _settings(lm.weights)}


def _settings(weights: LmWeights) -> bytes:
    return (weights.model_dump_json(indent=1) + "\n").encode()


def _packed(model: NGramModel) -> bytes:
    packed = io.BytesIO()
    arrays: Mapping[str, np.ndarray] = model.to_arrays()
    np.savez_compressed(packed, **arrays)  # type: ignore[arg-type]
    return packed.getvalue()


def decoder_files(folder: Path, alphabet: Sequence[str]) -> dict[str, bytes]:
    """What a model folder holds for decoding, after a check; nothing if it holds none. Raises AnadilError if it is damaged."""
    lm = read_language_model(folder, alphabet)
    if lm is not None:
        return language_model_files(lm)
    weights = read_weights(folder)
    return {} if weights is None else {SETTINGS: _settings(weights)}


def read_weights(folder: Path) -> LmWeights | None:
    """The decoder.json of a folder; None if it has none. Raises AnadilError if it is damaged."""
    return parse_json(LmWeights, folder / SETTINGS) if (folder / SETTINGS).is_file() else None


def read_language_model(folder: Path, alphabet: Sequence[str]) -> LanguageModel | None:
    """The LM of a model folder or exported folder; None if it has none. Raises AnadilError if it is damaged or foreign."""
    weights = read_weights(folder)
    if weights is None or not weights.has_model:
        return None
    labels = _unpacked(folder / LABELS) if weights.lm_weight else None
    words = _unpacked(folder / WORDS) if weights.word_weight else None
    try:
        return LanguageModel(tuple(alphabet), weights, labels, words)
    except AnadilError as error:
        name = LABELS if words is None else f"{LABELS}, {WORDS}"
        raise AnadilError(f"{folder / name}: {error}") from None


def _unpacked(path: Path) -> NGramModel:
    if not path.is_file():
        raise AnadilError(f"{path} is missing, but {SETTINGS} is there{_COPY}")
    try:
        with zipfile.ZipFile(path) as archive:
            size = sum(entry.file_size for entry in archive.infolist())
        if size > MAX_BYTES:
            raise AnadilError(f"{path}: {size:,} bytes unpacked, allowed are {MAX_BYTES:,}")
        with np.load(path, allow_pickle=False) as arrays:
            return NGramModel.from_arrays({name: arrays[name] for name in arrays.files})
    except (OSError, ValueError, EOFError, KeyError, RuntimeError, zipfile.BadZipFile, zlib.error) as error:
        raise AnadilError(f"{path} is damaged: {error}{_COPY}") from error
