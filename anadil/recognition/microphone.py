"""Audio from a microphone or another input device, with sounddevice (extra `mic`)."""

from __future__ import annotations

import queue
from collections.abc import Callable, Iterator
from types import ModuleType
from typing import Any

import numpy as np

from anadil.errors import AnadilError

BLOCK_S = 0.1  # of audio that the device delivers at a time
WAITING_S = 60.0
"""Audio that may wait for a slow computer. What comes after it is lost, and counted."""

_NEXT_S = 0.5  # so often the wait for audio is interrupted, so that Ctrl-C is noticed on every system


class Microphone:
    """An open input device. Use it as a context, and iterate over its blocks.

    `sample_rate` is the wanted one if the device has it, else the device's own.
    """

    def __init__(self, wanted_rate: int, device: int | str | None = None) -> None:
        """Find the device: its number, or part of its name; None is the system's default. Raises AnadilError."""
        self._library = library = _sounddevice()
        found = _find(library, device)
        self.name, self.device = str(found["name"]), found["index"]
        self.sample_rate = wanted_rate
        if not _takes(library, self.device, wanted_rate):
            self.sample_rate = round(found["default_samplerate"])
        self.lost_s = 0.0  # seconds of audio that came too fast
        self.n_overflows = 0  # times that the device itself lost audio
        self._queue: queue.Queue[np.ndarray] = queue.Queue(maxsize=round(WAITING_S / BLOCK_S))
        self._stream: Any = None

    def __enter__(self) -> Microphone:
        library = self._library
        try:
            self._stream = library.InputStream(
                samplerate=self.sample_rate,
                blocksize=round(BLOCK_S * self.sample_rate),
                device=self.device,
                channels=1,
                dtype="float32",
                callback=self._receive,
            )
            self._stream.start()
        except (library.PortAudioError, ValueError) as error:
            raise AnadilError(
                f"the input device {self.name!r} cannot be opened: {error}\n"
                f"  next: close programs that use it, or choose another with --device\n{_listed(library)}"
            ) from error
        return self

    def __exit__(self, *exception: object) -> None:
        if self._stream is not None:
            self._stream.stop()
            self._stream.close()
            self._stream = None

    def blocks(self, is_stopped: Callable[[], bool] = lambda: False) -> Iterator[np.ndarray]:
        """Blocks of float32 (samples,), until `is_stopped`. Raises AnadilError if the device stops delivering."""
        n_empty = 0
        while not is_stopped():
            try:
                block = self._queue.get(timeout=_NEXT_S)
            except queue.Empty:
                n_empty += 1
                if n_empty * _NEXT_S >= 5 or not self._stream.active:
                    raise AnadilError(
                        f"the input device {self.name!r} delivers no audio\n  next: check that it is connected"
                    ) from None
                continue
            n_empty = 0
            yield block

    def _receive(self, samples: np.ndarray, n_frames: int, time: object, status: Any) -> None:
        """Called by PortAudio, in a thread of its own."""
        self.n_overflows += bool(status and status.input_overflow)
        try:
            self._queue.put_nowait(np.array(samples[:, 0], dtype=np.float32))
        except queue.Full:
            self.lost_s += n_frames / self.sample_rate


def _sounddevice() -> ModuleType:
    try:
        import sounddevice
    except ImportError as error:
        raise AnadilError(f"recording needs sounddevice ({error})\n  next: pip install 'anadil[mic]'") from error
    except OSError as error:  # its wheels for Linux come without PortAudio
        raise AnadilError(
            f"recording needs the library PortAudio, which is not installed ({error})\n"
            "  next: sudo apt install libportaudio2 (Debian, Ubuntu), or sudo dnf install portaudio (Fedora)"
        ) from error
    module: ModuleType = sounddevice
    return module


def _find(library: ModuleType, device: int | str | None) -> Any:
    try:
        return library.query_devices(device, "input")
    except (library.PortAudioError, ValueError) as error:
        what = "there is no input device" if device is None else f"no input device {device!r}"
        raise AnadilError(
            f"{what} ({error})\n  next: connect a microphone, or choose with --device NUMBER or part of a name\n"
            f"{_listed(library)}"
        ) from error


def _listed(library: ModuleType) -> str:
    """The input devices, one per line."""
    devices = [one for one in library.query_devices() if one["max_input_channels"] > 0]
    lines = [f"  {one['index']}: {one['name']} ({one['default_samplerate']:,.0f} Hz)" for one in devices]
    return "\n".join(["input devices:", *lines]) if lines else "this computer has no input devices"


def _takes(library: ModuleType, device: int, rate: int) -> bool:
    try:
        library.check_input_settings(device=device, channels=1, dtype="float32", samplerate=rate)
    except (library.PortAudioError, ValueError):
        return False
    return True
