"""A corpus that espeak-ng speaks: sentences dealt out to splits, many voices, numbers that change, noise and silence."""

from __future__ import annotations

import ctypes
import functools
import importlib
import itertools
import math
import os
import re
import shutil
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from importlib import resources
from pathlib import Path
from types import ModuleType

import numpy as np

from anadil import audio
from anadil.errors import AnadilError
from anadil.files import whole_folder
from anadil.manifest import Utterance, write_manifest
from anadil.text.numbers import spell_integers

# Speech from text with espeak-ng (offline, 100+ languages): a corpus for the demo and for tests.
# espeak-ng is GPL-3, so it comes only with the optional extra `demo` (wheel `espeakng_loader`), loaded at run time.

SAMPLE_RATE = 16000  # Hz, of the corpus
PEAK = 0.9  # leaves room for the overshoot of resampling and for noise

_RATES = (80, 450)  # words per minute that espeak-ng takes; it clamps the rest in silence
_PITCHES = (0, 99)
_UTF8, _SYNCHRONOUS, _DONT_EXIT = 1, 2, 0x8000  # espeakCHARS_UTF8, AUDIO_OUTPUT_SYNCHRONOUS, espeakINITIALIZE_DONT_EXIT
_RATE, _PITCH = 1, 3  # espeakRATE, espeakPITCH
_CHUNK_MS = 1000  # sound per call-back
_CALLBACK = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_int, ctypes.c_void_p)


@dataclass(frozen=True, slots=True)
class Voice:
    """How espeak-ng shall speak."""

    language: str  # "tr"
    variant: str = ""  # "m3", "f2", "klatt4"; "" is the language's own voice
    rate: int = 160  # words per minute, 80 to 450
    pitch: int = 50  # 0 to 99

    @property
    def name(self) -> str:
        """What espeak-ng calls it: "tr+m3"."""
        return f"{self.language}+{self.variant}" if self.variant else self.language


def synthesize(text: str, voice: Voice, sample_rate: int = SAMPLE_RATE) -> np.ndarray:
    """Speak `text`: float32 (samples,) in [-1, 1], mono, at `sample_rate` Hz.

    Two calls differ a little, as the pitch flutter of the voice goes on between them.
    Raises AnadilError if espeak-ng is not installed, the voice is unknown or nothing is heard.
    """
    return _shared_speaker().say(text, voice, sample_rate)


class Speaker:
    """One instance of espeak-ng, whose state is global to its library; calls are made one at a time.

    The library is loaded from a copy, as a second load of the same file gives the same state: so no corpus depends
    on what was spoken before it (flutter and gain have no reset), nor on other users of espeak-ng in the process.
    """

    def __init__(self) -> None:
        loader = _loader()
        self._libc = ctypes.CDLL(None if os.name == "posix" else "ucrtbase")
        self._lock = threading.Lock()
        self._chunks: list[bytes] = []
        self._callback = _CALLBACK(self._take)  # kept, or it would be collected while the library still calls it
        self._library = _load_copy(loader.get_library_path())
        data = str(loader.get_data_path())
        self._variants = sorted(path.name for path in Path(data, "voices", "!v").iterdir())
        self.sample_rate = int(self._library.espeak_Initialize(_SYNCHRONOUS, _CHUNK_MS, os.fsencode(data), _DONT_EXIT))
        if self.sample_rate <= 0:
            raise AnadilError(
                f"espeak-ng could not read its data in {data}\n"
                f"  the path has {len(data)} characters; espeak-ng takes 159 at most\n"
                "  next: install anadil[demo] in a folder with a shorter path"
            )
        self._library.espeak_SetSynthCallback(self._callback)

    def close(self) -> None:
        """End the instance and give its memory back."""
        self._library.espeak_Terminate()

    def say(self, text: str, voice: Voice, sample_rate: int, noise_seed: int = 1) -> np.ndarray:
        """As `synthesize`; `noise_seed` decides the noise of breath and of the Klatt voices."""
        with self._lock:
            self._choose(voice)
            self._chunks.clear()
            self._libc.srand(noise_seed)  # of the Klatt voices' noise
            self._library.espeak_ng_SetRandSeed(ctypes.c_long(noise_seed))  # of breath; seeded by the clock otherwise
            encoded = text.encode("utf-8")
            self._library.espeak_Synth(encoded, ctypes.c_size_t(len(encoded) + 1), 0, 0, 0, _UTF8, None, None)
            pcm = np.frombuffer(b"".join(self._chunks), dtype=np.int16)
        peak = int(np.abs(pcm.astype(np.int32)).max(initial=0))
        if peak == 0:
            raise AnadilError(f"espeak-ng says nothing for {text!r} with voice {voice.name}\n  next: change the text")
        samples = pcm.astype(np.float32) / 32768
        samples *= min(1.0, PEAK * 32768 / peak)
        return audio.resample(samples, self.sample_rate, sample_rate)

    def _choose(self, voice: Voice) -> None:
        """Set voice, speed and pitch; espeak-ng would take an unknown variant for none and clamp the numbers."""
        if voice.variant and voice.variant not in self._variants:
            raise AnadilError(
                f"espeak-ng has no variant {voice.variant!r}; it has {len(self._variants)}, as f1 to f5, m1 to m8, "
                f"{', '.join(self._variants[:5])}\n  next: choose one of these, or none"
            )
        for name, value, (low, high) in (("rate", voice.rate, _RATES), ("pitch", voice.pitch, _PITCHES)):
            if not low <= value <= high:
                raise AnadilError(f"{name} {value} of voice {voice.name} must be {low} to {high}")
        if self._library.espeak_SetVoiceByName(voice.name.encode("utf-8")) != 0:
            raise AnadilError(
                f"espeak-ng does not speak the language {voice.language!r}\n"
                "  next: look its code up at https://github.com/espeak-ng/espeak-ng/blob/master/docs/languages.md"
            )
        self._library.espeak_SetParameter(_RATE, voice.rate, 0)
        self._library.espeak_SetParameter(_PITCH, voice.pitch, 0)

    def _take(self, samples: int | None, n_samples: int, events: int | None) -> int:
        """Called by espeak-ng with int16 (n_samples,); 0 asks for more."""
        if samples and n_samples > 0:
            self._chunks.append(ctypes.string_at(samples, 2 * n_samples))
        return 0


@functools.cache
def _shared_speaker() -> Speaker:
    return Speaker()


def _loader() -> ModuleType:
    try:
        return importlib.import_module("espeakng_loader")
    except ImportError:
        raise AnadilError(
            "synthetic speech needs espeak-ng, which is not installed\n  next: pip install 'anadil[demo]'"
        ) from None


def _load_copy(path: str) -> ctypes.CDLL:
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:  # Windows keeps what is loaded
        try:
            return ctypes.CDLL(shutil.copy(path, folder))
        except OSError:  # nothing may be run from the temporary folder
            return ctypes.CDLL(path)


# Variants with plain speech (no robots, whispers, falsettos) and a timbre of their own, males first. Mean log-mel spectra
# (40 bands, level removed, rms) differ by 3.3 dB or more between any two of the training voices (m1 and m4; klatt5, left
# out, is 1.3 dB from klatt4), and by 2.9 dB or more between a held-out voice and any training voice.
VOICES = {
    "train": ("m1", "m4", "m7", "Diogo", "Gene", "klatt4", "adam", "f1", "f2", "f4", "linda", "steph"),
    "valid": ("m2", "f5"),
    "test": ("m3", "max", "f3"),
}

_PUNCTUATION = str.maketrans("", "", '.,?!;:"')
_Take = tuple[np.ndarray, Utterance]  # float32 (samples,) and what is said in it, not yet in a file


def sentences(language: str) -> list[str]:
    """Sentences in `language` to be spoken, in their usual spelling with digits. Raises AnadilError if there are none."""
    folder = resources.files("anadil.corpora").joinpath("sentences")
    known = sorted(file.name.removesuffix(".txt") for file in folder.iterdir() if file.name.endswith(".txt"))
    if language not in known:
        raise AnadilError(
            f"no sentences to speak in language {language!r}; there are some in: {', '.join(known)}\n"
            "  next: choose one of these with --lang"
        )
    return folder.joinpath(f"{language}.txt").read_text(encoding="utf-8").splitlines()


def synthesize_corpus(
    out: Path,
    language: str,
    seed: int,
    hours: float,
    on_progress: Callable[[int, int], None] | None = None,
    n_valid: int = 60,
    n_test: int = 120,
    texts: Sequence[str] | None = None,
    voice: str | None = None,
) -> dict[str, list[Utterance]]:
    """Speak a corpus with about `hours` hours of training audio into `out`: wav/<split>/*.wav and <split>.jsonl.

    The splits "train", "valid" and "test" share neither sentence nor voice. `n_valid` and `n_test` sentences are
    spoken once each; the training sentences come again, with other voices and other numbers, until `hours` is
    reached. Speed, pitch, level, silence at both ends and white noise vary. All follows from `seed`; valid and
    test do not depend on `hours`. `on_progress(done, total)` hears seconds of training audio. An earlier corpus
    in `out` is replaced. `texts` are spoken instead of `sentences(language)`, and `voice` names the voices' language
    where espeak-ng has none for this one (a Swahili voice reads Luganda).

    Raises AnadilError if espeak-ng is not installed, or the sentences in `language` do not suffice.
    """
    if not 0 < hours < math.inf:
        raise AnadilError(f"cannot synthesise {hours} hours of speech\n  next: ask for more than 0, for example 1")
    split_rng, *rngs = np.random.default_rng(seed).spawn(1 + len(VOICES))
    raw_texts = _split(sentences(language) if texts is None else list(texts), n_valid, n_test, split_rng)
    utterances: dict[str, list[Utterance]] = {split: [] for split in VOICES}
    speaker = Speaker()  # not the shared one: what espeak-ng said before has some part in how it sounds
    try:
        with whole_folder(out / "wav") as folder:
            # train comes last, for its length depends on `hours`
            for rng, (split, variants) in zip(rngs, reversed(VOICES.items()), strict=True):
                (folder / split).mkdir()
                takes = _takes(speaker, language, voice or language, raw_texts[split], variants, rng)
                if split == "train":
                    takes = _until(takes, 3600 * hours, on_progress)
                else:
                    takes = itertools.islice(takes, len(raw_texts[split]))
                for number, (samples, utterance) in enumerate(takes):
                    name = f"{split}/{number:05d}.wav"
                    audio.write(folder / name, samples, SAMPLE_RATE)
                    utterances[split].append(replace(utterance, audio_filepath=str(out / "wav" / name)))
    finally:
        speaker.close()
    for split, spoken in utterances.items():
        write_manifest(out / f"{split}.jsonl", spoken)
    return utterances


def _split(raw_texts: list[str], n_valid: int, n_test: int, rng: np.random.Generator) -> dict[str, list[str]]:
    """Deal the sentences out to the splits, each to one."""
    if n_valid + n_test >= len(raw_texts):
        raise AnadilError(
            f"{len(raw_texts)} sentences are too few for {n_valid} to validate with, {n_test} to test with "
            "and some to train on\n  next: ask for fewer"
        )
    shuffled = [raw_texts[index] for index in rng.permutation(len(raw_texts))]
    n_held_out = n_test + n_valid
    return {"test": shuffled[:n_test], "valid": shuffled[n_test:n_held_out], "train": shuffled[n_held_out:]}


def _takes(
    speaker: Speaker,
    language: str,
    voice: str,
    raw_texts: list[str],
    variants: Sequence[str],
    rng: np.random.Generator,
) -> Iterator[_Take]:
    """Speak without end: all sentences once, then all again with other voices and numbers."""
    first_voice = rng.permutation(len(raw_texts))  # each voice speaks as much as any other
    for n_passes in itertools.count():
        for index in rng.permutation(len(raw_texts)):
            raw_text = raw_texts[index] if n_passes == 0 else vary_digits(raw_texts[index], rng)
            variant = variants[(first_voice[index] + n_passes) % len(variants)]
            yield _perform(speaker, raw_text, language, Voice(voice, variant), rng)


def vary_digits(text: str, rng: np.random.Generator) -> str:
    """Put other numbers of as many digits in place of those in `text`; what starts with 0 still does.

    Before an apostrophe the last digit that is not 0, and what follows it, stays, as the suffix agrees with its
    word (vowel harmony: 1923'te, but 1926'da).
    """

    def other(match: re.Match[str]) -> str:
        first = 0 if match[0][0] == "0" else rng.integers(1, 10)
        return "".join(str(digit) for digit in (first, *rng.integers(10, size=len(match[0]) - 1)))

    return re.sub("[0-9]+(?![0-9'’])|[0-9]+?(?=[1-9]0*['’])", other, text)


def _perform(speaker: Speaker, raw_text: str, language: str, voice: Voice, rng: np.random.Generator) -> _Take:
    """Speak one sentence at a random speed and pitch, and record it with some silence and noise."""
    voice = replace(voice, rate=int(rng.integers(130, 191)), pitch=int(rng.integers(30, 71)))
    text = spell_integers(raw_text, language)
    speech = speaker.say(text, voice, SAMPLE_RATE, noise_seed=int(rng.integers(1, 2**31)))
    speech *= PEAK / np.abs(speech).max() * _amplitude_ratio(rng.uniform(-12, 0))
    before, after = (round(SAMPLE_RATE * seconds) for seconds in rng.uniform(0.05, 0.3, size=2))
    noise_level = np.sqrt(np.mean(np.square(speech))) * _amplitude_ratio(-rng.uniform(25, 45))
    samples = noise_level * rng.standard_normal(before + len(speech) + after, dtype=np.float32)
    samples[before : before + len(speech)] += speech
    utterance = Utterance(
        audio_filepath="",
        duration=len(samples) / SAMPLE_RATE,
        text=" ".join(text.translate(_PUNCTUATION).split()),
        speaker=voice.variant,
        language=language,
        extra={"raw_text": raw_text, "voice": voice.name, "rate": voice.rate, "pitch": voice.pitch},
    )
    return samples, utterance


def _amplitude_ratio(decibels: float) -> np.float32:
    return np.float32(10 ** (decibels / 20))


def _until(takes: Iterator[_Take], seconds: float, on_progress: Callable[[int, int], None] | None) -> Iterator[_Take]:
    """Pass takes on until they last `seconds` together."""
    done = 0.0
    while done < seconds:
        samples, utterance = next(takes)
        yield samples, utterance
        done += len(samples) / SAMPLE_RATE
        if on_progress:
            on_progress(round(min(done, seconds)), round(seconds))
