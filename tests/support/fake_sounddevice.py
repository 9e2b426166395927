"""A module that stands for sounddevice: its devices, and a microphone that delivers given samples and then Ctrl-C."""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np


class PortAudioError(Exception):
    """As sounddevice's."""


DEVICES: list[dict[str, Any]] = [
    {"index": 0, "name": "Speakers", "max_input_channels": 0, "default_samplerate": 48000.0},
    {"index": 1, "name": "Webcam", "max_input_channels": 2, "default_samplerate": 48000.0},
    {"index": 2, "name": "USB Audio", "max_input_channels": 1, "default_samplerate": 44100.0},
]


class FakeSounddevice(ModuleType):
    """`samples` are what the microphone delivers at the rate at which it is opened; `rates` are those that it has."""

    PortAudioError = PortAudioError

    def __init__(
        self,
        speak: Callable[[int], np.ndarray],
        devices: list[dict[str, Any]] | None = None,
        rates: tuple[int, ...] = (16000, 48000, 44100),
        end: BaseException | None = None,
        overflows: int = 0,
        busy: bool = False,
    ) -> None:
        super().__init__("sounddevice")
        self.devices, self.rates = DEVICES if devices is None else devices, rates
        self.speak, self.end, self.overflows, self.busy = speak, end, overflows, busy
        self.opened: list[dict[str, Any]] = []
        self.closed = 0

    def query_devices(self, device: int | str | None = None, kind: str | None = None) -> Any:
        if kind is None:
            return self.devices
        inputs = [one for one in self.devices if one["max_input_channels"] > 0]
        if device is None:
            if not inputs:
                raise PortAudioError("Error querying device -1")
            return inputs[0]
        found = [one for one in inputs if one["index"] == device or str(device).lower() in one["name"].lower()]
        if isinstance(device, int):
            found = [one for one in found if one["index"] == device]
        if len(found) != 1:
            raise ValueError(f"No input device matching {device!r}")
        return found[0]

    def check_input_settings(self, samplerate: int, **settings: Any) -> None:
        if samplerate not in self.rates:
            raise PortAudioError("Invalid sample rate")

    def InputStream(self, **settings: Any) -> Any:  # noqa: N802 - as sounddevice's
        if self.busy:
            raise PortAudioError("Device unavailable")
        self.opened.append(settings)
        return _InputStream(self, settings)


class _InputStream:
    def __init__(self, library: FakeSounddevice, settings: dict[str, Any]) -> None:
        self.library, self.settings = library, settings

    def start(self) -> None:
        samples = self.library.speak(self.settings["samplerate"])
        size = self.settings["blocksize"]
        for number, first in enumerate(range(0, len(samples), size)):
            block = samples[first : first + size, None].copy()
            status = SimpleNamespace(input_overflow=number < self.library.overflows)
            self.settings["callback"](block, len(block), None, status)
            block[:] = np.nan  # PortAudio uses its buffer again

    @property
    def active(self) -> bool:
        if self.library.end is not None:
            raise self.library.end
        return False

    def stop(self) -> None:
        pass

    def close(self) -> None:
        self.library.closed += 1
