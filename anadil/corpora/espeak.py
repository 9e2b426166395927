"""Speech from text with espeak-ng (offline, 100+ languages): a corpus for the demo and for tests.

espeak-ng is GPL-3, so it comes only with the optional extra `demo` (wheel `espeakng_loader`), loaded at run time.
"""

from __future__ import annotations

import ctypes
import functools
import importlib
import os
import shutil
import tempfile
import threading
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import numpy as np

from anadil import audio
from anadil.errors import AnadilError

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
