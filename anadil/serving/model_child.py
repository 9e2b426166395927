"""The process that holds a model: recognises batches of pieces, and the streams of WebSockets."""

from __future__ import annotations

import base64
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from anadil.decoding.transcript import Word, joiner
from anadil.recognition.load import load
from anadil.recognition.recognizer import Recognizer
from anadil.recognition.stream import Result, Stream
from anadil.serving.child import Answer, Question, answer_questions
from anadil.serving.models import BATCH_S, SEARCHED_S


class ModelChild:
    """Answers the questions of `models.py`: {"op": "describe" | "recognize" | "open" | "feed" | "finish" | "forget"}."""

    def __init__(self, folder: Path, threads: int) -> None:
        self._folder, self._threads = folder, threads
        self._loaded: Recognizer | None = None
        self._streams: dict[str, Stream] = {}

    def __call__(self, question: Question) -> Answer:
        operation = getattr(self, f"_{question['op']}")
        answer: Answer = operation(question)
        return answer

    @property
    def _recognizer(self) -> Recognizer:
        """Loaded with the first question, so that a model that cannot be loaded is an answer."""
        if self._loaded is None:
            self._loaded = load(self._folder, threads=self._threads)
        return self._loaded

    def _describe(self, question: Question) -> Answer:
        one = self._recognizer
        return {
            "name": one.name,
            "language": one.rules.language,
            "sample_rate": one.sample_rate,
            "longest_s": one.longest_s,
            "pauses": [one.pauses.longest_s, one.pauses.margin_s],
            "joiner": joiner(one.rules.labels),
            "labels": list(one.rules.labels),
            "batch_s": BATCH_S if one.decoder.is_greedy else SEARCHED_S,
        }

    def _recognize(self, question: Question) -> Answer:
        """Words of pieces [path of float32 samples, first sample, last sample]: the network takes a few, the search all."""
        pieces = []
        for path, start, end in question["pieces"]:
            with open(path, "rb") as file:
                file.seek(4 * start)
                pieces.append((np.frombuffer(file.read(4 * (end - start)), dtype=np.float32), start))
        one = self._recognizer
        log_probs = one.log_probs_by_length([samples for samples, _ in pieces])
        return {"words": [_plain(text.words) for (text,) in one.decode_pieces([one.decoder], log_probs, pieces)]}

    def _open(self, question: Question) -> Answer:
        self._streams[question["stream"]] = self._recognizer.stream(question["sample_rate"])
        return {}

    def _feed(self, question: Question) -> Answer:
        samples = np.frombuffer(base64.b64decode(question["samples"]), dtype=np.float32)
        return {"results": _results(self._streams[question["stream"]].feed(samples))}

    def _finish(self, question: Question) -> Answer:
        stream = self._streams.pop(question["stream"])
        return {"results": _results(stream.finish())}

    def _forget(self, question: Question) -> Answer:
        self._streams.pop(question["stream"], None)
        return {}


def _plain(words: Sequence[Word]) -> list[list[Any]]:
    return [[word.text, word.start, word.end, word.confidence] for word in words]


def _results(found: Sequence[Result]) -> list[dict[str, Any]]:
    return [{"type": "final" if one.final else "partial", **one.to_dict()} for one in found]


if __name__ == "__main__":
    if hasattr(os, "nice"):  # not on Windows
        os.nice(int(sys.argv[3]))
    answer_questions(ModelChild(Path(sys.argv[1]), int(sys.argv[2])))
