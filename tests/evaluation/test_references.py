from __future__ import annotations

import numpy as np
import pytest

from anadil.evaluation.evaluate import Scored, compare
from anadil.evaluation.references import MOST_DOUBT, doubt_of, doubtful, reference_doubt, snr_db
from anadil.manifest import Utterance
from anadil.text.rules import TextRules, TextSettings, text_rules

RULES: TextRules = text_rules("und", TextSettings(), [" ", *"abcdefgh"])


def log_probs_of(text: str, rng: np.random.Generator, error: float = 0.25) -> np.ndarray:
    """What a model with so many wrong labels gives: two frames a label, a blank between; (frames, labels + blank)."""
    frames = []
    for label in RULES.encode(text):
        heard = int(rng.integers(len(RULES.labels))) if rng.random() < error else label
        frames += [heard, RULES.blank_id, RULES.blank_id]
    scores = rng.normal(0, 1, (len(frames), len(RULES.labels) + 1))
    scores[np.arange(len(frames)), frames] += 5
    return scores - np.logaddexp.reduce(scores, axis=1, keepdims=True)  # type: ignore[no-any-return]


def test_swapped_references_come_first() -> None:
    """5 % of 400 references are those of another utterance; at least 80 % of them are among the first 10 %."""
    rng = np.random.default_rng(0)
    texts = [" ".join("".join(rng.choice(list("abcdefgh"), 4)) for _ in range(4)) for _ in range(400)]
    spoken = [log_probs_of(text, rng) for text in texts]
    swapped = set(rng.choice(400, 20, replace=False).tolist())
    order = sorted(swapped)
    references = list(texts)
    for i, j in zip(order, order[1:] + order[:1], strict=True):
        references[i] = texts[j]
    scored = compare(
        [
            Utterance(f"{i}.wav", 1.0, extra={"reference_doubt": reference_doubt(own, reference, RULES)})
            for i, (own, reference) in enumerate(zip(spoken, references, strict=True))
        ],
        references,
        texts,
    )
    assert len(swapped & set(doubtful(scored)[:40])) >= 16


def test_a_sure_reference_has_no_doubt_and_the_figure_is_per_label() -> None:
    sure = np.full((6, 10), -100.0)
    for frame, label in enumerate(RULES.encode("abc")):
        sure[2 * frame, label], sure[2 * frame + 1, RULES.blank_id] = 0.0, 0.0
    assert reference_doubt(sure, "abc", RULES) == pytest.approx(0.0, abs=1e-6)
    assert reference_doubt(sure, "abd", RULES) == pytest.approx(100 / 3, rel=0.01)
    assert reference_doubt(sure, "ab!c", RULES) == pytest.approx(0.0, abs=1e-6)  # "!" has no label


def test_what_cannot_be_aligned_or_is_empty() -> None:
    none = np.zeros((0, 10))
    assert reference_doubt(none, "abc", RULES) == MOST_DOUBT and reference_doubt(none, "", RULES) == 0.0
    assert reference_doubt(log_probs_of("a", np.random.default_rng(0)), "abcdefgh", RULES) == MOST_DOUBT


def test_an_alignment_that_is_too_large_is_not_computed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("anadil.evaluation.references.MAX_CELLS", 10)
    assert reference_doubt(log_probs_of("abc", np.random.default_rng(0)), "abc", RULES) is None


def test_only_figures_are_doubts() -> None:
    values: list[object] = [2.0, None, "3", True, 5]
    scored: list[Scored] = list(
        compare([Utterance("1.wav", extra={"reference_doubt": value}) for value in values], ["a"] * 5, ["a"] * 5)
    )
    assert [doubt_of(one) for one in scored] == [2.0, None, None, None, 5.0]
    assert doubtful(scored) == [4, 0]


@pytest.mark.parametrize("wanted", [10.0, 20.0, 40.0])
def test_the_snr_estimate_is_within_three_decibels(wanted: float) -> None:
    """Half a second of a tone between half seconds of noise."""
    rng, rate = np.random.default_rng(0), 16000
    noise = rng.normal(0, 0.01, 3 * rate // 2)
    tone = np.zeros_like(noise)
    tone[rate // 2 : rate] = np.sin(np.arange(rate // 2)) * 0.01 * np.sqrt(2) * 10 ** (wanted / 20)
    found = snr_db((noise + tone).astype(np.float32), rate)
    assert found == pytest.approx(wanted, abs=3)


def test_silence_and_clips_without_frames_have_no_snr() -> None:
    assert snr_db(np.zeros(16000, np.float32), 16000) is None and snr_db(np.ones(100, np.float32), 16000) is None
    sine = np.concatenate([np.zeros(8000), np.sin(np.arange(8000))]).astype(np.float32)
    assert snr_db(sine, 16000) == 60.0
