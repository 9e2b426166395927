"""`anadil next`: which untranscribed clips to transcribe, so that a training with them learns most.

A clip is worth transcribing if the model is unsure of it and if it has something that the chosen ones do not have. So clips are
chosen one after the other, each time the one that adds most per second to

    F(chosen) = sum over features f of sqrt(sum over clips of uncertainty x count of f)

where the features of a clip are the character trigrams of its hypothesis, and these once more with its speaker: a sound that
another speaker makes is new. F has diminishing returns for what was chosen before (feature-based submodular functions: Wei et
al. 2014, "Submodular subset selection for large-scale speech training data"; the greedy choice per cost: Lin and Bilmes 2010).
Uncertainty is 1 - the confidence of the hypothesis (Riccardi and Hakkani-Tuer 2005, "Active learning: theory and applications
to automatic speech recognition").
"""

from __future__ import annotations

import heapq
import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace

from anadil.manifest import CONFIDENCE, PSEUDO_LABEL, PSEUDO_LABEL_MODEL, Utterance

KNOWN = 0.5
"""Uncertainty of speech that has a text: that of a clip of which the model is half sure."""

LEAST_UNCERTAINTY = 0.02
"""The confidence of a hypothesis may be 1; the clip still has words to learn."""


@dataclass(frozen=True)
class _Clip:
    """What the choice looks at."""

    uncertainty: float
    seconds: float
    features: Counter[tuple[str, ...]]  # (trigram,) and (trigram, speaker)


def ranked(
    clips: Sequence[Utterance], transcribed: Sequence[Utterance] = (), max_seconds: float = math.inf
) -> list[Utterance]:
    """The clips in the order in which to transcribe them, at most `max_seconds` of them.

    `clips` are pseudo labels: `text` is the model's hypothesis, `extra` has its confidence; durations are known. They come back
    with an empty text, the hypothesis as "pred_text" and their place as "rank", from 1. `transcribed`: speech that has
    texts, normalised by the model's rules; it counts as chosen.
    """
    described = [_describe(one) for one in clips]
    weights: dict[tuple[str, ...], float] = {}

    def choose(features: Counter[tuple[str, ...]], uncertainty: float) -> None:
        for feature, count in features.items():
            weights[feature] = weights.get(feature, 0.0) + uncertainty * count

    def gain(clip: _Clip) -> float:
        """What the clip adds to F, per second."""
        added = 0.0
        for feature, count in clip.features.items():
            before = weights.get(feature, 0.0)
            added += math.sqrt(before + clip.uncertainty * count) - math.sqrt(before)
        return added / max(clip.seconds, 0.1)

    for one in transcribed:
        choose(_features(one.text, one.speaker), KNOWN)

    # lazy greedy (Minoux 1978): a gain only ever falls, so a stale one at the top is computed again
    queue = [(-gain(clip), number) for number, clip in enumerate(described)]
    heapq.heapify(queue)
    order: list[Utterance] = []
    used_s = 0.0
    while queue:
        _, number = heapq.heappop(queue)
        clip = described[number]
        now = -gain(clip)
        if queue and now > queue[0][0]:
            heapq.heappush(queue, (now, number))
            continue
        if used_s + clip.seconds > max_seconds:
            continue  # a shorter one may still fit
        used_s += clip.seconds
        choose(clip.features, clip.uncertainty)
        order.append(_to_transcribe(clips[number], len(order) + 1))
    return order


def _describe(one: Utterance) -> _Clip:
    uncertainty = max(LEAST_UNCERTAINTY, 1.0 - float(one.extra.get(CONFIDENCE, 0.0)))
    return _Clip(uncertainty, one.duration or 0.0, _features(one.text, one.speaker))


def _features(text: str, speaker: str | None) -> Counter[tuple[str, ...]]:
    padded = f"  {text} "
    trigrams = [padded[start : start + 3] for start in range(len(padded) - 2)]
    return Counter(feature for trigram in trigrams for feature in ((trigram,), (trigram, speaker or "")))


def _to_transcribe(one: Utterance, rank: int) -> Utterance:
    extra = {key: value for key, value in one.extra.items() if key not in (PSEUDO_LABEL, PSEUDO_LABEL_MODEL)}
    return replace(one, text="", extra=extra | {"rank": rank, "pred_text": one.text})
