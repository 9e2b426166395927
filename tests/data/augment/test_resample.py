from __future__ import annotations

import numpy as np
import pytest

from anadil.data.augment.fourier import circular_convolution
from anadil.data.augment.resample import resampled
from anadil.data.augment.room import convolve
from tests.support.signals import RATE, lag, power_db, sine

RATIOS = [(90, 100), (107, 100), (2, 1), (1, 2), (441, 80), (320, 441), (3, 4), (15999, 16000)]


@pytest.mark.parametrize(("down", "up"), RATIOS)
def test_tones_in_the_pass_band_stay_and_others_are_removed(down: int, up: int) -> None:
    """Up to 0.88 of the lower rate's half exact within -60 dB, aliases included; past 1.05 of it 60 dB down."""
    lower = min(1.0, up / down) * RATE / 2
    n = round(RATE * up / down)
    middle = slice(n // 5, -n // 5)
    for share in (0.01, 0.5, 0.88):
        changed = resampled(sine(share * lower, 1), down, up, n)
        expected = 0.3 * np.sin(2 * np.pi * share * lower * np.arange(n) * down / up / RATE)
        assert changed.dtype == np.float32 and len(changed) == n
        assert power_db((changed - expected)[middle]) < power_db(sine(100)) - 60
    if lower * 1.05 < RATE / 2:
        assert power_db(resampled(sine(1.05 * lower, 1), down, up, n)[middle]) < power_db(sine(100)) - 60


@pytest.mark.parametrize(("down", "up"), RATIOS)
def test_there_is_no_delay_and_any_length_is_possible(down: int, up: int) -> None:
    click = np.zeros(4001, dtype=np.float32)
    click[2 * down % 4001] = 1
    n = 4001 * up // down
    there = resampled(click, down, up, n)
    assert abs(int(np.abs(there).argmax()) - round(2 * down % 4001 * up / down)) <= 1
    for wanted in (1, n - 7, n + 500):
        some = resampled(click, down, up, wanted)
        assert len(some) == wanted
        np.testing.assert_allclose(some[: n - 300], there[: min(wanted, n - 300)], atol=1e-6)


def test_no_product_is_large_enough_for_threads_of_openblas(monkeypatch: pytest.MonkeyPatch) -> None:
    """Threads of OpenBLAS would compete with the model for the cores."""
    sizes = []
    product = np.matmul

    def watched(left: np.ndarray, right: np.ndarray, out: np.ndarray) -> np.ndarray:
        sizes.append(left.shape[1] * left.shape[2] * right.shape[1])
        return product(left, right, out=out)

    monkeypatch.setattr(np, "matmul", watched)
    for down, up in ((90, 100), (110, 100), (441, 80)):
        resampled(sine(300, 20), down, up, 20 * RATE * up // down)
    assert sizes and max(sizes) <= 1 << 18


def test_spectra_are_in_single_precision(monkeypatch: pytest.MonkeyPatch) -> None:
    """NumPy 2.4 computes them in double, at twice the time, unless their factor has a type of its own."""
    asked = []
    transform = np.fft.rfft

    def watched(*arguments: object, **options: object) -> np.ndarray:
        asked.append(options.get("norm"))
        return transform(*arguments, **options)  # type: ignore[call-overload, no-any-return]

    monkeypatch.setattr(np.fft, "rfft", watched)
    noise = np.random.default_rng(0).standard_normal(4000).astype(np.float32)
    assert convolve(noise, noise[:100]).dtype == np.float32
    assert asked and set(asked) == {"forward"}


def test_a_correlation_is_highest_where_the_signals_match() -> None:
    noise = np.random.default_rng(0).standard_normal((3, 64)).astype(np.float32)
    part = noise[:, 20:36]
    products = circular_convolution(noise, part, 64, correlate=True)
    assert list(products.argmax(axis=1)) == [20, 20, 20]
    np.testing.assert_allclose(products[:, 20], np.square(part).sum(axis=1), rtol=1e-5)
    assert lag(noise[0], noise[0, 20:]) == 20
