"""Language models of labels: their factors, their files, and those that do not fit."""

from __future__ import annotations

import io
import math
from pathlib import Path

import numpy as np
import pytest

from anadil.decoding import label_lm
from anadil.decoding.label_lm import LabelLM, check_alphabet
from anadil.decoding.language_model import (
    LABELS as MODEL,
)
from anadil.decoding.language_model import (
    SETTINGS,
    LanguageModel,
    LmWeights,
    language_model_files,
    read_language_model,
    remove_language_model,
    save_language_model,
)
from anadil.errors import AnadilError
from anadil.lm.counts import count_ngrams, encode
from anadil.lm.disk_sort import Store
from anadil.lm.estimate import Pruning, estimate
from anadil.lm.held_out import model_for
from anadil.lm.model import NGramModel

LABELS = (" ", "a", "b", "q")
WEIGHTS = LmWeights(lm_weight=0.5, label_bonus=1.5, beam=7)


def ngram(sentences: list[str], order: int) -> NGramModel:
    with Store(1 << 30) as store:
        counts = count_ngrams(encode(sentences, store), order, store)
        return model_for(estimate(counts, store, order, Pruning((0,) * order)))


SENTENCES = ["a b ▁ a", "b b a ▁ b a", "a ▁ b", "a a b"]


@pytest.mark.parametrize("order", [1, 2, 4])
def test_factors_are_those_of_the_ngram_in_every_state(order: int) -> None:
    model = ngram(SENTENCES, order)
    lm = LabelLM(model, LABELS, 0.5, 1.5)
    words = [model.word_ids["▁"], model.word_ids["a"], model.word_ids["b"], model.unk]  # q was never seen
    for state in np.random.default_rng(0).permutation(model.n_states):  # rows need those of shorter contexts
        log_probs, next_states = model.advance(np.full(5, state), np.array([*words, model.eos]))
        one, labels = np.array([[state]]), np.arange(4)[None]
        assert lm.factors(one, labels)[0, 0] == pytest.approx(np.exp(0.5 * log_probs[:4] + 1.5), rel=1e-4)
        assert lm.next_states(np.full(4, state), labels[0]).tolist() == next_states[:4].tolist()
        assert lm.ends(one[0])[0] == pytest.approx(math.exp(0.5 * log_probs[4]), rel=1e-4)  # the end has no bonus


def test_rows_are_made_again_when_too_many_were_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    model = ngram(SENTENCES, 4)
    states, labels = np.arange(model.n_states), np.zeros(model.n_states, np.int64)
    expected = LabelLM(model, LABELS, 0.5, 1.5).next_states(states, labels)
    monkeypatch.setattr(label_lm, "_NUMBERS_KEPT", 10)
    lm = LabelLM(model, LABELS, 0.5, 1.5)
    for state in [*states, *states[::-1]]:
        assert lm.next_states(states[[state]], labels[:1]) == expected[state]


def test_a_folder_gives_back_what_was_saved(tmp_path: Path) -> None:
    assert read_language_model(tmp_path, LABELS) is None
    lm = LanguageModel(LABELS, WEIGHTS, ngram(SENTENCES, 3))
    save_language_model(tmp_path, lm)
    again = read_language_model(tmp_path, LABELS)
    assert again is not None and again.weights == WEIGHTS
    assert again.labels is not None and lm.labels is not None and again.words is None
    assert (again.labels.order, again.labels.words, again.labels.start) == (3, lm.labels.words, lm.labels.start)
    assert language_model_files(again) == language_model_files(lm)  # the same bytes each time
    remove_language_model(tmp_path)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("labels", [("а", "б", "в", " "), ("ken", "lar", " ev", "in", "de", "a", "b")])
def test_a_model_of_other_tokens_is_refused(tmp_path: Path, labels: tuple[str, ...]) -> None:
    save_language_model(tmp_path, LanguageModel(LABELS, WEIGHTS, ngram(SENTENCES, 2)))
    with pytest.raises(
        AnadilError, match=r"(?s)lm\.npz: the language model is not one of this model's labels.*anadil lm build"
    ):
        read_language_model(tmp_path, labels)


def test_a_model_of_words_is_refused_and_labels_it_never_saw_are_named() -> None:
    with pytest.raises(AnadilError, match="0 of its 4 words"):
        check_alphabet(ngram(["watoto wanakula a2 chakula"], 2), LABELS)
    assert check_alphabet(ngram(SENTENCES, 2), (*LABELS, "<unk>")) == ["q"]


@pytest.mark.parametrize("labels", [("a", " ", "▁"), ("a", "\u2003", " ")])
def test_labels_that_cannot_be_tokens_are_refused(labels: tuple[str, ...]) -> None:
    with pytest.raises(AnadilError, match="--no-lm"):
        check_alphabet(ngram(SENTENCES, 2), labels)


def damaged(arrays: dict[str, np.ndarray], name: str, change: object) -> bytes:
    arrays = {key: array.copy() for key, array in arrays.items()}
    if change is None:
        del arrays[name]
    elif isinstance(change, np.ndarray):
        arrays[name] = change
    else:
        arrays[name][-1] = change
    packed = io.BytesIO()
    np.savez(packed, **arrays)  # type: ignore[arg-type]
    return packed.getvalue()


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("words", None),
        ("words", np.frombuffer(b"a\nb", np.uint8)),
        ("words", np.array(["a"], dtype=object)),
        ("keys", 1 << 60),
        ("keys", -5),
        ("log_probs", math.nan),
        ("log_probs", 1.0),
        ("log_probs", np.zeros(3, np.float32)),
        ("next_states", 1 << 30),
        ("next_states", -1),
        ("suffixes", 1 << 20),
        ("backoffs", math.inf),
        ("levels", 1),
    ],
)
def test_a_damaged_file_is_an_error(tmp_path: Path, name: str, change: object) -> None:
    lm = LanguageModel(LABELS, WEIGHTS, ngram(SENTENCES, 3))
    save_language_model(tmp_path, lm)
    assert lm.labels is not None
    (tmp_path / MODEL).write_bytes(damaged(lm.labels.to_arrays(), name, change))
    with pytest.raises(AnadilError, match=r"lm\.npz is damaged: .*\n  next: "):
        read_language_model(tmp_path, LABELS)


def test_files_that_are_cut_missing_or_out_of_range_are_errors(tmp_path: Path) -> None:
    save_language_model(tmp_path, LanguageModel(LABELS, WEIGHTS, ngram(SENTENCES, 3)))
    whole = (tmp_path / MODEL).read_bytes()
    for content in (b"", whole[: len(whole) // 2], b"\\data\\\nngram 1=3\n"):
        (tmp_path / MODEL).write_bytes(content)
        with pytest.raises(AnadilError, match="is damaged"):
            read_language_model(tmp_path, LABELS)
    (tmp_path / MODEL).unlink()
    with pytest.raises(AnadilError, match=r"lm\.npz is missing"):
        read_language_model(tmp_path, LABELS)
    for setting in ("-1", "NaN", "1e9", "null"):
        (tmp_path / SETTINGS).write_text(f'{{"lm_weight": {setting}}}')
        with pytest.raises(AnadilError, match=r"decoder\.json: lm_weight"):
            read_language_model(tmp_path, LABELS)
