"""An n-gram model of a recogniser's labels, with the weights that a beam search gives it; its two files in a model folder."""

from __future__ import annotations

import io
import math
import zipfile
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
from pydantic import BaseModel, Field

from anadil.decoding.beam import BEAM
from anadil.errors import AnadilError
from anadil.files import whole_file
from anadil.lm.counts import SPECIAL
from anadil.lm.model import NGramModel
from anadil.lm.texts import SPACE
from anadil.settings import SECTION, parse_json
from anadil.text.units import is_sign

MODEL, SETTINGS = "lm.npz", "decoder.json"
MAX_BYTES = 1 << 30
"""Largest size of the unpacked arrays of lm.npz, so that a hostile file cannot fill the memory."""

_ROWS_KEPT = 20_000  # 30 MB with 35 labels
_LOWEST = -200.0  # of a factor's logarithm, so that no mass becomes 0
_SMALLEST = math.exp(_LOWEST)
_COPY = "\n  next: copy the whole folder again, or make it again: anadil export, anadil lm tune"


class LmWeights(BaseModel):
    """`decoder.json`: how the search weighs the language model beside it."""

    model_config = SECTION

    format: Literal["anadil-decoder"] = "anadil-decoder"
    version: Literal[1] = 1
    lm_weight: float = Field(gt=0, le=10)  # factor of the LM's log-prob of a label
    label_bonus: float = Field(0.0, ge=-20, le=20)  # nats added per label, against short texts
    beam: int = Field(BEAM, ge=1, le=1024)  # prefixes kept


class LabelLM:
    """Scores labels for `beam_search`. A word of the n-gram model is one label, with ▁ for a space in it."""

    def __init__(self, model: NGramModel, labels: Sequence[str], weights: LmWeights) -> None:
        """Raises AnadilError if the model is not one of these labels (`check_alphabet`)."""
        check_alphabet(model, labels)
        self.model, self.labels, self.weights = model, tuple(labels), weights
        tokens = label_tokens(labels)
        self._labels_of: list[list[int]] = [[] for _ in model.words]  # of each word; several labels may be <unk>
        for label, token in enumerate(tokens):
            self._labels_of[model.word_ids.get(token, model.unk)].append(label)
        self._labels_of[model.eos].append(len(labels))  # rows have a last column for the end
        weight, bonus = weights.lm_weight, weights.label_bonus
        bounds, backoffs, suffixes, words, log_probs, next_states = model.trie()
        factors = _factors(weight * log_probs.astype(np.float64) + bonus)
        backoff_factors = _factors(weight * backoffs.astype(np.float64))
        # an element of a memoryview is a number of Python, 40 ns; NumPy's take 100
        columns: tuple[Any, ...] = (bounds, backoff_factors, suffixes, words, factors, next_states)
        self._trie = [memoryview(column) for column in columns]
        self._rows: dict[int, tuple[list[float], list[int], float]] = {}

    def with_weights(self, weights: LmWeights) -> LabelLM:
        """The same model with other weights."""
        return LabelLM(self.model, self.labels, weights)

    @property
    def start(self) -> int:
        return self.model.start

    def after(self, state: int) -> tuple[list[float], list[int], float]:
        """Per label after `state`: the factor exp(lm_weight * log-prob + label_bonus), the next state; the highest factor.

        A row is that of the next shorter context times the back-off weight, with the state's own n-grams in place. Lists take
        a quarter of the time of NumPy's calls on rows this short.
        """
        found = self._rows.get(state)
        if found is not None:
            return found
        bounds, backoff_factors, suffixes, words, own_factors, own_next = self._trie
        if state == self.model.empty:
            n = len(self.labels) + 1
            factors, next_states = [_SMALLEST] * n, [state] * n
        else:
            shorter, next_states, _ = self.after(suffixes[state])
            backoff = backoff_factors[state]
            factors, next_states = [factor * backoff for factor in shorter], next_states.copy()
        for i in range(bounds[state], bounds[state + 1]):
            for label in self._labels_of[words[i]]:
                factors[label] = own_factors[i]
                next_states[label] = own_next[i]
        if len(self._rows) >= _ROWS_KEPT:
            self._rows.clear()
        self._rows[state] = found = factors, next_states, max(factors)
        return found

    def end(self, state: int) -> float:
        """exp(lm_weight * log-prob of the sentence's end)."""
        return self.after(state)[0][-1] * math.exp(-self.weights.label_bonus)

    def describe(self) -> str:
        """For titles and messages: order, weights and beam."""
        w = self.weights
        return f"{self.model.order}-gram of labels, weight {w.lm_weight:g}, bonus {w.label_bonus:g}, beam {w.beam}"


def _factors(exponents: np.ndarray) -> np.ndarray:
    found: np.ndarray = np.exp(np.clip(exponents, _LOWEST, -_LOWEST))
    return found


def label_tokens(labels: Sequence[str]) -> list[str]:
    """The LM's token of each label. Raises AnadilError if two labels have the same, or one has white space."""
    tokens = [label.replace(" ", SPACE) for label in labels]
    if len(set(tokens)) < len(tokens) or any(token.split() != [token] for token in tokens):
        raise AnadilError(
            f"a language model writes a space as {SPACE} (U+2581) and separates labels by white space; this model has a label "
            "with that sign, or with other white space\n"
            "  next: decode without a language model (--no-lm)"
        )
    return tokens


def check_alphabet(model: NGramModel, labels: Sequence[str]) -> list[str]:
    """The labels that the LM has never seen. Raises AnadilError if it is an LM of other tokens.

    At least half of its words must be labels: of an LM of words, or of another script, hardly any are. And if most labels
    are longer than a character, some of its words must be. Signs of imported models, such as <unk>, do not count.
    """
    tokens = [token for token in label_tokens(labels) if not is_sign(token)]
    words = set(model.words) - set(SPECIAL)
    shared = words & set(tokens)
    are_long = 2 * sum(len(token) > 1 for token in tokens) > len(tokens)
    if 2 * len(shared) < len(words) or not shared or (are_long and all(len(word) == 1 for word in words)):
        raise AnadilError(
            f"the language model is not one of this model's labels: {len(shared):,} of its {len(words):,} words "
            f"({_some(words)}) are among the {len(tokens):,} labels ({_some(tokens)})\n"
            "  next: make one of the labels: anadil lm build TEXT --model MODEL --unit char (or --unit subword)"
        )
    return [token for token in tokens if token not in words]


def _some(words: Sequence[str] | set[str]) -> str:
    shown = sorted(words)[:5] if isinstance(words, set) else list(words[:5])
    return ", ".join(map(repr, shown)) + (", ..." if len(words) > 5 else "")


def save_label_lm(folder: Path, lm: LabelLM) -> None:
    """Write lm.npz and decoder.json into a model folder, in place of earlier ones. Raises AnadilError."""
    remove_label_lm(folder)  # if this is killed half-way, the folder has no LM
    for name, content in label_lm_files(lm).items():
        with whole_file(folder / name) as beside:
            beside.write_bytes(content)


def remove_label_lm(folder: Path) -> None:
    """Delete the LM of a model folder, if it has one."""
    for name in (SETTINGS, MODEL):
        (folder / name).unlink(missing_ok=True)


def label_lm_files(lm: LabelLM) -> dict[str, bytes]:
    """The content of the two files; decoder.json, which makes the LM count, is the last."""
    packed = io.BytesIO()
    np.savez_compressed(packed, **lm.model.to_arrays())  # type: ignore[arg-type]
    return {MODEL: packed.getvalue(), SETTINGS: (lm.weights.model_dump_json(indent=1) + "\n").encode()}


def read_label_lm(folder: Path, labels: Sequence[str]) -> LabelLM | None:
    """The LM of a model folder or exported folder; None if it has none. Raises AnadilError if it is damaged or foreign."""
    if not (folder / SETTINGS).is_file():
        return None
    weights = parse_json(LmWeights, folder / SETTINGS)
    path = folder / MODEL
    if not path.is_file():
        raise AnadilError(f"{path} is missing, but {SETTINGS} is there{_COPY}")
    try:
        with zipfile.ZipFile(path) as archive:
            size = sum(entry.file_size for entry in archive.infolist())
        if size > MAX_BYTES:
            raise AnadilError(f"{path}: {size:,} bytes unpacked, allowed are {MAX_BYTES:,}")
        with np.load(path, allow_pickle=False) as arrays:
            model = NGramModel.from_arrays({name: arrays[name] for name in arrays.files})
    except (OSError, ValueError, EOFError, KeyError, zipfile.BadZipFile, zlib.error) as error:
        raise AnadilError(f"{path} is damaged: {error}{_COPY}") from error
    try:
        return LabelLM(model, labels, weights)
    except AnadilError as error:
        raise AnadilError(f"{path}: {error}") from None
