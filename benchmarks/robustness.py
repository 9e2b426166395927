"""What silence and noise around and between utterances cost: CER of a model under each condition, against the clean clips.

    python benchmarks/robustness.py MODEL MANIFEST [--limit 100] [--only both] [--minutes 5]

Each clip gets 0.5 to 5 s of digital silence, white noise at -60 and -40 dBFS, or its own quietest frames before, after, and on
both sides; then sentences are joined in threes with pauses of the same. The words are scored as they are transcribed.
At the end, words per minute in five minutes each of sounds without speech. Their parameters are not those of training.
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


def without_speech(minutes: float, rate: int = 16000) -> Iterator[tuple[str, np.ndarray]]:
    """Name and samples of each sound without speech, at a level of about -26 dBFS."""
    n = round(60 * minutes * rate)
    time, rng = np.arange(n) / rate, np.random.default_rng(2024)
    white_noise = rng.standard_normal(n)
    yield "white noise", _at_level(white_noise)
    spectrum = np.fft.rfft(white_noise) / np.sqrt(np.arange(n // 2 + 1) + 1)
    yield "pink noise", _at_level(np.fft.irfft(spectrum, n))
    yield "hum of 50 Hz", _at_level(sum(np.sin(2 * np.pi * 50 * k * time) / k**1.5 for k in (1, 2, 3, 4, 6, 8)))
    yield "music", _at_level(_melody(n, rate, rng))
    yield "applause", _at_level(_clicks(n, rate, rng.integers(0, n, size=round(n / rate * 80)), 0.006, rng))
    strokes = np.cumsum(rng.lognormal(np.log(0.2), 0.5, size=round(n / rate * 5))) * rate
    yield "typing", _at_level(_clicks(n, rate, np.concatenate([strokes, strokes + 0.07 * rate]), 0.008, rng))


def _melody(n: int, rate: int, rng: np.random.Generator) -> np.ndarray:
    """A walk on a major scale with a chord under it every fourth note, plucked."""
    out, step, position, beat = np.zeros(n + 2 * rate), 7, 0, 0
    scale = (0, 2, 4, 5, 7, 9, 11)
    while position < n:
        step = int(np.clip(step + rng.integers(-2, 3), 0, 20))
        for note in (step,) if beat % 4 else (step, step + 2, step + 4):
            hz = 196 * 2 ** ((12 * (note // 7) + scale[note % 7]) / 12)
            time = np.arange(2 * rate) / rate
            pluck = sum(np.sin(2 * np.pi * hz * k * time) / k**2 for k in (1, 2, 3, 4))
            out[position : position + 2 * rate] += np.exp(-3 * time) * pluck
        position += round(rate * float(rng.choice([0.25, 0.5, 0.5, 1.0])))
        beat += 1
    return out[:n]


def _clicks(n: int, rate: int, positions: np.ndarray, decay_s: float, rng: np.random.Generator) -> np.ndarray:
    out, time = np.zeros(n + rate), np.arange(round(8 * decay_s * rate)) / rate
    for position in positions[positions < n].astype(int).tolist():
        ring = np.sin(2 * np.pi * rng.uniform(900, 3000) * time) + rng.standard_normal(len(time))
        out[position : position + len(time)] += rng.uniform(0.3, 1) * np.exp(-time / decay_s) * ring
    return out[:n]


def _at_level(samples: np.ndarray, level_db: float = -26.0) -> np.ndarray:
    scaled = samples * 10 ** (level_db / 20) / np.sqrt(np.mean(np.square(samples)))
    return np.asarray(np.clip(scaled, -1, 1), np.float32)


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
    parser.add_argument("--minutes", type=float, default=5.0, help="of each sound without speech")
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
    for name, samples in without_speech(arguments.minutes):
        words = recognizer.transcribe(samples, 16000).words
        print(f"| {name} | {len(words) / arguments.minutes:.1f} words per minute |", flush=True)


if __name__ == "__main__":
    main()
