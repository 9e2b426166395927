"""Synthetic speech with espeak-ng (offline, 100+ languages): single sentences, and a corpus for the demo and the tests.

The corpus assigns each sentence to one split and varies voices, numbers, noise and silence. espeak-ng is GPL-3: it comes
only with the optional extra `demo` (wheel `espeakng_loader`), and is loaded at run time.
"""

from __future__ import annotations

import ctypes
import importlib
import itertools
import math
import os
import re
import shutil
import tempfile
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

VOICES = {
    "train": ("m1", "m4", "m7", "Diogo", "Gene", "klatt4", "adam", "f1", "f2", "f4", "linda", "steph"),
    "valid": ("m2", "f5"),
    "test": ("m3", "max", "f3"),
}
"""Variants for each split, male voices first: natural speech (no robots, whispers, falsettos) with different timbres.

The mean log-mel spectra (40 bands, level removed, rms) of any two training voices differ by at least 3.3 dB (m1 and m4).
A held-out voice differs from any training voice by at least 2.9 dB. klatt5 is not used: it is 1.3 dB from klatt4.
"""

_SAMPLE_RATE = 16000  # Hz, of the corpus
_PEAK = 0.9  # leaves headroom for the overshoot of resampling and for noise

_RATES = (80, 450)  # words per minute; espeak-ng clamps other values without an error
_PITCHES = (0, 99)
_UTF8, _SYNCHRONOUS, _DONT_EXIT = 1, 2, 0x8000  # espeakCHARS_UTF8, AUDIO_OUTPUT_SYNCHRONOUS, espeakINITIALIZE_DONT_EXIT
_RATE, _PITCH = 1, 3  # espeakRATE, espeakPITCH
_IPA = 2  # of the phoneme mode of espeak_TextToPhonemes
_CHUNK_MS = 1000  # audio per call-back
_CALLBACK = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_int, ctypes.c_void_p)

_PUNCTUATION = str.maketrans("", "", '.,?!;:"')
_Clip = tuple[np.ndarray, Utterance]  # float32 (samples,), and its utterance without a file name


@dataclass(frozen=True, slots=True)
class Voice:
    """The language, voice variant, speed and pitch of espeak-ng."""

    language: str  # "tr"
    variant: str = ""  # "m3", "f2", "klatt4"; "" is the language's default voice
    rate: int = 160  # words per minute, 80 to 450
    pitch: int = 50  # 0 to 99

    @property
    def name(self) -> str:
        """The name in espeak-ng: "tr+m3"."""
        return f"{self.language}+{self.variant}" if self.variant else self.language


class Synthesizer:
    """One instance of espeak-ng, with its own state; it must not be used by two threads at a time.

    The library is loaded from a copy of its file, because a second load of the same file shares the state. So a corpus
    does not depend on earlier calls (flutter and gain cannot be reset) or on other users of espeak-ng in the process.
    """

    def __init__(self) -> None:
        loader = _loader()
        self._libc = ctypes.CDLL(None if os.name == "posix" else "ucrtbase")
        self._chunks: list[bytes] = []
        self._callback = _CALLBACK(self._receive)  # a reference, so that it is not collected while the library uses it
        self._library = _load_copy(loader.get_library_path())
        data = str(loader.get_data_path())
        self._variants = sorted(path.name for path in Path(data, "voices", "!v").iterdir())
        self.sample_rate = int(self._library.espeak_Initialize(_SYNCHRONOUS, _CHUNK_MS, os.fsencode(data), _DONT_EXIT))
        if self.sample_rate <= 0:
            raise AnadilError(
                f"espeak-ng could not read its data in {data}\n"
                f"  the path has {len(data)} characters; espeak-ng allows at most 159\n"
                "  next: install anadil[demo] in an environment with a shorter path"
            )
        self._library.espeak_SetSynthCallback(self._callback)

    def close(self) -> None:
        """End the instance and free its memory."""
        self._library.espeak_Terminate()

    def synthesize(self, text: str, voice: Voice, sample_rate: int, noise_seed: int = 1) -> np.ndarray:
        """Synthesise `text`: float32 (samples,) in [-1, 1], mono, at `sample_rate` Hz.

        `noise_seed` seeds the breath noise and the noise of the Klatt voices. Two calls still give slightly different
        audio, as espeak-ng keeps the state of the voice's pitch flutter between calls.
        Raises AnadilError if the voice is unknown, or the audio is silent.
        """
        self._set_voice(voice)
        self._chunks.clear()
        self._libc.srand(noise_seed)  # noise of the Klatt voices
        self._library.espeak_ng_SetRandSeed(ctypes.c_long(noise_seed))  # breath noise; otherwise seeded by the clock
        encoded = text.encode("utf-8")
        self._library.espeak_Synth(encoded, ctypes.c_size_t(len(encoded) + 1), 0, 0, 0, _UTF8, None, None)
        pcm = np.frombuffer(b"".join(self._chunks), dtype=np.int16)
        peak = int(np.abs(pcm.astype(np.int32)).max(initial=0))
        if peak == 0:
            raise AnadilError(
                f"espeak-ng produces no sound for {text!r} with voice {voice.name}\n  next: change the text"
            )
        samples = pcm.astype(np.float32) / 32768
        samples *= min(1.0, _PEAK * 32768 / peak)
        return audio.resample(samples, self.sample_rate, sample_rate)

    def phonemes(self, text: str, voice: Voice) -> str:
        """How the voice's language reads `text`, in the International Phonetic Alphabet: "həlˈəʊ wˈɜːld".

        Words keep their order, with a space between them; a clause ends with a space too. Stress, length and tones are
        in it. espeak-ng marks a change of language, as in a foreign word: "(en)wˈɜːld(tr)".
        Raises AnadilError if the voice is unknown.
        """
        self._set_voice(voice)
        self._library.espeak_TextToPhonemes.restype = ctypes.c_char_p
        buffer = ctypes.create_string_buffer(text.encode("utf-8"))
        rest = ctypes.c_void_p(ctypes.addressof(buffer))
        clauses = []
        while rest.value:  # one clause for each call; after the last one the pointer is null
            clauses.append(self._library.espeak_TextToPhonemes(ctypes.byref(rest), _UTF8, _IPA) or b"")
        return " ".join(clause.decode("utf-8") for clause in clauses)

    def _set_voice(self, voice: Voice) -> None:
        """Set voice, speed and pitch. Checks the values, as espeak-ng ignores unknown variants and clamps the numbers."""
        if voice.variant and voice.variant not in self._variants:
            raise AnadilError(
                f"espeak-ng has no variant {voice.variant!r}; it has {len(self._variants)}, such as f1 to f5, m1 to m8, "
                f"{', '.join(self._variants[:5])}\n  next: choose one of these, or none"
            )
        for name, value, (low, high) in (("rate", voice.rate, _RATES), ("pitch", voice.pitch, _PITCHES)):
            if not low <= value <= high:
                raise AnadilError(f"{name} {value} of voice {voice.name} must be {low} to {high}")
        if self._library.espeak_SetVoiceByName(voice.name.encode("utf-8")) != 0:
            raise AnadilError(
                f"espeak-ng does not have the language {voice.language!r}\n"
                "  next: find the language code at https://github.com/espeak-ng/espeak-ng/blob/master/docs/languages.md"
            )
        self._library.espeak_SetParameter(_RATE, voice.rate, 0)
        self._library.espeak_SetParameter(_PITCH, voice.pitch, 0)

    def _receive(self, samples: int | None, n_samples: int, events: int | None) -> int:
        """Call-back of espeak-ng with int16 (n_samples,); the return value 0 means: continue."""
        if samples and n_samples > 0:
            self._chunks.append(ctypes.string_at(samples, 2 * n_samples))
        return 0


def _loader() -> ModuleType:
    try:
        return importlib.import_module("espeakng_loader")
    except ImportError:
        raise AnadilError(
            "synthetic speech needs espeak-ng, which is not installed\n  next: pip install 'anadil[demo]'"
        ) from None


def _load_copy(path: str) -> ctypes.CDLL:
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:  # Windows does not delete a loaded file
        try:
            return ctypes.CDLL(shutil.copy(path, folder))
        except OSError:  # the temporary folder may not allow executables
            return ctypes.CDLL(path)


def sentences(language: str) -> list[str]:
    """The sentences for a corpus in `language`, in usual spelling with digits. Raises AnadilError if there are none."""
    folder = resources.files("anadil.corpora").joinpath("sentences")
    languages = sorted(file.name.removesuffix(".txt") for file in folder.iterdir() if file.name.endswith(".txt"))
    if language not in languages:
        raise AnadilError(
            f"no sentences for language {language!r}; there are sentences for: {', '.join(languages)}\n"
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
    """Synthesise a corpus with about `hours` hours of training audio in `out`: wav/<split>/*.wav and <split>.jsonl.

    The splits "train", "valid" and "test" share no sentence and no voice. `n_valid` and `n_test` sentences are used once
    each. The training sentences are repeated with other voices and other numbers until `hours` is reached. Speed,
    pitch, level, silence at both ends and white noise vary. The result depends on `seed` alone; valid and test do not
    depend on `hours`. An earlier corpus in `out` is replaced.

    `on_progress(done, total)` gets seconds of training audio. `texts` replaces `sentences(language)`. `voice` is the
    language of the voices, if espeak-ng has none for `language` (a Swahili voice can read Luganda).

    Raises AnadilError if espeak-ng is not installed, or there are too few sentences.
    """
    if not 0 < hours < math.inf:
        raise AnadilError(f"cannot synthesise {hours} hours of speech\n  next: ask for more than 0, for example 1")
    split_rng, *rngs = np.random.default_rng(seed).spawn(1 + len(VOICES))
    raw_texts = _split(sentences(language) if texts is None else list(texts), n_valid, n_test, split_rng)
    utterances: dict[str, list[Utterance]] = {split: [] for split in VOICES}
    synthesizer = Synthesizer()  # not the shared one: its earlier calls would change the audio
    try:
        with whole_folder(out / "wav") as folder:
            # train comes last, as its length depends on `hours`
            for rng, (split, variants) in zip(rngs, reversed(VOICES.items()), strict=True):
                (folder / split).mkdir()
                clips = _clips(synthesizer, language, voice or language, raw_texts[split], variants, rng)
                if split == "train":
                    clips = _limit_duration(clips, 3600 * hours, on_progress)
                else:
                    clips = itertools.islice(clips, len(raw_texts[split]))
                for number, (samples, utterance) in enumerate(clips):
                    name = f"{split}/{number:05d}.wav"
                    audio.write(folder / name, samples, _SAMPLE_RATE)
                    utterances[split].append(replace(utterance, audio_filepath=str(out / "wav" / name)))
    finally:
        synthesizer.close()
    for split, split_utterances in utterances.items():
        write_manifest(out / f"{split}.jsonl", split_utterances)
    return utterances


def _split(raw_texts: list[str], n_valid: int, n_test: int, rng: np.random.Generator) -> dict[str, list[str]]:
    """Assign each sentence to one split at random."""
    if n_valid + n_test >= len(raw_texts):
        raise AnadilError(
            f"{len(raw_texts)} sentences are too few for {n_valid} validation and {n_test} test sentences "
            "and some training sentences\n  next: ask for fewer"
        )
    shuffled = [raw_texts[index] for index in rng.permutation(len(raw_texts))]
    n_held_out = n_test + n_valid
    return {"test": shuffled[:n_test], "valid": shuffled[n_test:n_held_out], "train": shuffled[n_held_out:]}


def _clips(
    synthesizer: Synthesizer,
    language: str,
    voice: str,
    raw_texts: list[str],
    variants: Sequence[str],
    rng: np.random.Generator,
) -> Iterator[_Clip]:
    """Synthesise all sentences once, then again and again with other voices and numbers, without end."""
    first_voice = rng.permutation(len(raw_texts))  # all voices are used equally often
    for n_passes in itertools.count():
        for index in rng.permutation(len(raw_texts)):
            raw_text = raw_texts[index] if n_passes == 0 else vary_digits(raw_texts[index], rng)
            variant = variants[(first_voice[index] + n_passes) % len(variants)]
            yield _synthesize_clip(synthesizer, raw_text, language, Voice(voice, variant), rng)


def vary_digits(text: str, rng: np.random.Generator) -> str:
    """Replace the numbers in `text` by random ones of the same length. A number that starts with 0 still does.

    Before an apostrophe, the last digit that is not 0 and all after it are kept, as the suffix agrees with the spoken
    number (Turkish vowel harmony: 1923'te, but 1926'da).
    """

    def random_number(match: re.Match[str]) -> str:
        first = 0 if match[0][0] == "0" else rng.integers(1, 10)
        return "".join(str(digit) for digit in (first, *rng.integers(10, size=len(match[0]) - 1)))

    return re.sub("[0-9]+(?![0-9'’])|[0-9]+?(?=[1-9]0*['’])", random_number, text)


def _synthesize_clip(
    synthesizer: Synthesizer, raw_text: str, language: str, voice: Voice, rng: np.random.Generator
) -> _Clip:
    """Synthesise one sentence at a random speed, pitch and level, and add silence and noise."""
    voice = replace(voice, rate=int(rng.integers(130, 191)), pitch=int(rng.integers(30, 71)))
    text = spell_integers(raw_text, language)
    speech = synthesizer.synthesize(text, voice, _SAMPLE_RATE, noise_seed=int(rng.integers(1, 2**31)))
    speech *= _PEAK / np.abs(speech).max() * _amplitude_ratio(rng.uniform(-12, 0))
    before, after = (round(_SAMPLE_RATE * seconds) for seconds in rng.uniform(0.05, 0.3, size=2))
    noise_level = np.sqrt(np.mean(np.square(speech))) * _amplitude_ratio(-rng.uniform(25, 45))
    samples = noise_level * rng.standard_normal(before + len(speech) + after, dtype=np.float32)
    samples[before : before + len(speech)] += speech
    utterance = Utterance(
        audio_filepath="",
        duration=len(samples) / _SAMPLE_RATE,
        text=" ".join(text.translate(_PUNCTUATION).split()),
        speaker=voice.variant,
        language=language,
        extra={"raw_text": raw_text, "voice": voice.name, "rate": voice.rate, "pitch": voice.pitch, "synthetic": True},
    )
    return samples, utterance


def _amplitude_ratio(decibels: float) -> np.float32:
    return np.float32(10 ** (decibels / 20))


def _limit_duration(
    clips: Iterator[_Clip], seconds: float, on_progress: Callable[[int, int], None] | None
) -> Iterator[_Clip]:
    """Yield clips until their total duration is `seconds`."""
    done = 0.0
    while done < seconds:
        samples, utterance = next(clips)
        yield samples, utterance
        done += len(samples) / _SAMPLE_RATE
        if on_progress:
            on_progress(round(min(done, seconds)), round(seconds))
