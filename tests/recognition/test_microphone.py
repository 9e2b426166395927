from __future__ import annotations

import sys

import numpy as np
import pytest

from anadil.errors import AnadilError
from anadil.recognition import microphone as module
from anadil.recognition.microphone import Microphone
from tests.support.fake_sounddevice import FakeSounddevice


def ramp(rate: int) -> np.ndarray:
    return np.linspace(-1, 1, 2 * rate, dtype=np.float32)


def install(monkeypatch: pytest.MonkeyPatch, library: object) -> None:
    monkeypatch.setitem(sys.modules, "sounddevice", library)


def record(microphone: Microphone) -> np.ndarray:
    blocks = []
    with microphone, pytest.raises(KeyboardInterrupt):
        for block in microphone.blocks():
            blocks.append(block)
    return np.concatenate(blocks)


def test_all_samples_arrive_at_the_wanted_rate(monkeypatch: pytest.MonkeyPatch) -> None:
    library = FakeSounddevice(ramp, end=KeyboardInterrupt())
    install(monkeypatch, library)
    microphone = Microphone(16000)
    assert np.array_equal(record(microphone), ramp(16000))
    assert (microphone.name, microphone.sample_rate, library.closed) == ("Webcam", 16000, 1)
    (opened,) = library.opened
    assert (opened["device"], opened["channels"], opened["dtype"], opened["blocksize"]) == (1, 1, "float32", 1600)


def test_a_device_without_that_rate_has_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch, FakeSounddevice(ramp, rates=(44100,), end=KeyboardInterrupt()))
    microphone = Microphone(16000, "usb")
    assert len(record(microphone)) == 2 * microphone.sample_rate == 2 * 44100


def test_a_slow_computer_loses_audio_and_it_is_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "WAITING_S", 0.5)
    install(monkeypatch, FakeSounddevice(ramp, end=KeyboardInterrupt(), overflows=3))
    microphone = Microphone(16000)
    assert len(record(microphone)) == 8000
    assert microphone.lost_s == pytest.approx(1.5) and microphone.n_overflows == 3


def test_a_device_that_delivers_nothing_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch, FakeSounddevice(lambda rate: np.zeros(0, np.float32)))
    with Microphone(16000) as microphone, pytest.raises(AnadilError, match="'Webcam' delivers no audio"):
        next(microphone.blocks())


def test_it_can_be_stopped(monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch, FakeSounddevice(ramp))
    with Microphone(16000) as microphone:
        assert list(microphone.blocks(lambda: True)) == []


@pytest.mark.parametrize("device", [7, "Headset", 0])
def test_a_device_that_is_not_there_lists_those_that_are(monkeypatch: pytest.MonkeyPatch, device: int | str) -> None:
    install(monkeypatch, FakeSounddevice(ramp))
    with pytest.raises(AnadilError, match=rf"no input device {device!r}") as caught:
        Microphone(16000, device)
    assert str(caught.value).endswith("input devices:\n  1: Webcam (48,000 Hz)\n  2: USB Audio (44,100 Hz)")


def test_no_device_at_all(monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch, FakeSounddevice(ramp, devices=[]))
    with pytest.raises(AnadilError, match=r"there is no input device.*\n.*\nthis computer has no input devices"):
        Microphone(16000)


def test_a_device_that_another_program_uses(monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch, FakeSounddevice(ramp, busy=True))
    with pytest.raises(AnadilError, match=r"'Webcam' cannot be opened: Device unavailable\n.*--device"):
        Microphone(16000).__enter__()


def test_what_is_missing_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch, None)
    with pytest.raises(AnadilError, match=r"needs sounddevice.*\n  next: pip install 'anadil\[mic\]'"):
        Microphone(16000)

    class WithoutPortAudio:
        def find_spec(self, name: str, path: object = None, target: object = None) -> None:
            if name == "sounddevice":
                raise OSError("PortAudio library not found")

    monkeypatch.delitem(sys.modules, "sounddevice")
    monkeypatch.setattr(sys, "meta_path", [WithoutPortAudio(), *sys.meta_path])
    with pytest.raises(AnadilError, match=r"PortAudio library not found\)\n  next: sudo apt install libportaudio2"):
        Microphone(16000)
