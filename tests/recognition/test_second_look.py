from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from anadil.data.pauses import PauseLimits
from anadil.recognition.second_look import gap_ids, labelled_parts
from anadil.text.rules import TextSettings, text_rules
from tests.support.loudness import FRAME, RATE, bursts, loud_is_a, loudness_recognizer

LIMITS = PauseLimits(1.2, 0.2)


def log_probs(labels: str) -> np.ndarray:
    """A frame of 0.1 s for each: "a", the space or "." for the blank."""
    return np.log(np.eye(3)[[" a.".index(label) for label in labels]] * 0.9 + 0.03)


@pytest.mark.parametrize(
    ("labels", "parts"),
    [
        ("", []),
        ("." * 50, []),
        (". . . " * 9, []),
        (".aa. .aa.", [(0, 9)]),
        ("a" + "." * 12 + "a", [(0, 14)]),
        ("a" + "." * 13 + "a", [(0, 3), (12, 15)]),
        ("." * 13 + "aa" + " ." * 7, [(11, 17)]),
        ("." * 12 + "aa" + "." * 12, [(0, 26)]),
    ],
)
def test_what_has_no_label_for_long_is_cut_out(labels: str, parts: list[tuple[int, int]]) -> None:
    rules = text_rules("en", TextSettings(), [" ", "a"])
    assert gap_ids(rules) == [2, 0]
    assert labelled_parts(log_probs(labels) if labels else np.zeros((0, 3)), gap_ids(rules), 0.1, LIMITS) == parts


def test_words_of_the_parts_keep_their_times() -> None:
    """A model that hears worse the more other sound is in a piece, as per-utterance normalisation makes it."""
    heard: list[float] = []

    def forward(waveforms: np.ndarray, counts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        heard.extend((counts / RATE).tolist())
        return loud_is_a(waveforms, counts)

    starts = [0.5, 0.9, 6.0, 6.4]
    samples = bursts(starts, 7.0)
    music = (0.09 * np.sin(np.arange(len(samples)))).astype(np.float32)
    samples = np.where(samples > 0, 0.15, music * (1 + np.sin(np.arange(len(samples)) / 3000)) / 2).astype(np.float32)
    transcript = replace(loudness_recognizer(), forward=forward, pauses=LIMITS).transcribe(samples)
    assert [word.start for word in transcript.words] == pytest.approx(starts, abs=FRAME / RATE)
    assert len(heard) == 3 and heard[0] > 6.5 and max(heard[1:]) < 2.5
