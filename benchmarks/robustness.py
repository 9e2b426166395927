"""What silence and noise around and between utterances cost: CER of a model under each condition, against the clean clips.

    python benchmarks/robustness.py MODEL MANIFEST [--limit 100]

Each clip gets 0.5 to 5 s of digital silence, white noise at -60 and -40 dBFS, or its own quietest frames before, after, and on
both sides; then sentences are joined in threes with pauses of the same. The words are scored as they are transcribed.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator, Sequence

import numpy as np

import anadil
from anadil import audio
from anadil.evaluation.errors import character_errors, total
from anadil.manifest import Utterance, read_manifest
from anadil.recognition.recognizer import Recognizer

Filler = Callable[[int, np.ndarray], np.ndarray]
FRAME_S = 0.02


def silence(n: int, clip: np.ndarray) -> np.ndarray:
    return np.zeros(n, np.float32)


def white(level_db: float) -> Filler:
    def fill(n: int, clip: np.ndarray) -> np.ndarray:
        noise = np.random.default_rng(n).standard_normal(n) * 10 ** (level_db / 20)
        return np.asarray(noise, np.float32)

    return fill


def room_tone(n: int, clip: np.ndarray) -> np.ndarray:
    """The quietest tenth of the clip's frames, in random order, overlapped by halves so that no click is heard."""
    size = round(FRAME_S * 16000)
    frames = clip[: len(clip) // size * size].reshape(-1, size)
    quiet = frames[np.argsort(np.square(frames).mean(axis=1))[: max(4, len(frames) // 10)]]
    rng, half = np.random.default_rng(n), size // 2
    window = np.sqrt(np.hanning(size)).astype(np.float32)
    out = np.zeros(n + size, np.float32)
    for start in range(0, n, half):
        out[start : start + size] += window * quiet[rng.integers(len(quiet))][: len(out) - start]
    return out[:n]


FILLERS: dict[str, Filler] = {
    "silence": silence,
    "noise -60 dB": white(-60),
    "noise -40 dB": white(-40),
    "room tone": room_tone,
}


def conditions(clips: Sequence[np.ndarray], texts: Sequence[str]) -> Iterator[tuple[str, list[np.ndarray], list[str]]]:
    """Name, waveforms and references of each condition."""
    yield "clean", list(clips), list(texts)
    for name, fill in FILLERS.items():
        for seconds in (0.5, 1.0, 2.0, 5.0):
            n = round(16000 * seconds)
            for before, after in ((n, 0), (0, n), (n, n)):
                where = "both" if before and after else "before" if before else "after"
                waveforms = [np.concatenate([fill(before, clip), clip, fill(after, clip)]) for clip in clips]
                yield f"{name}, {seconds:g} s {where}", waveforms, list(texts)
        for seconds in (0.3, 1.0, 2.0, 5.0):
            n = round(16000 * seconds)
            joined, references = [], []
            for i in range(0, len(clips) - 2, 3):
                one, two, three = clips[i : i + 3]
                joined.append(np.concatenate([one, fill(n, one), two, fill(n, two), three]))
                references.append(" ".join(texts[i : i + 3]))
            yield f"{name}, {seconds:g} s between", joined, references


def cer(recognizer: Recognizer, waveforms: Sequence[np.ndarray], references: Sequence[str]) -> float:
    return total(
        character_errors(reference, recognizer.transcribe(waveform, 16000).text)
        for waveform, reference in zip(waveforms, references, strict=True)
    ).rate


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("manifest")
    parser.add_argument("--limit", type=int, default=10**9)
    parser.add_argument("--only", default="", help="conditions whose name contains this")
    arguments = parser.parse_args()
    recognizer = anadil.load(arguments.model)
    utterances: list[Utterance] = read_manifest(arguments.manifest)[: arguments.limit]
    clips = [audio.read(one.audio_filepath, 16000, one.offset, one.duration) for one in utterances]
    texts = [recognizer.rules.normalize(one.text) for one in utterances]
    clean: float | None = None
    for name, waveforms, references in conditions(clips, texts):
        if arguments.only in name or clean is None:
            rate = cer(recognizer, waveforms, references)
            clean = rate if clean is None else clean
            print(f"| {name} | {rate:.2%} | {100 * (rate - clean):+.2f} |", flush=True)


if __name__ == "__main__":
    main()
