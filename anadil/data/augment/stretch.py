"""Speed, tempo and pitch of speech: float32 (samples,) in and out."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np

from anadil.data.augment.fourier import circular_convolution
from anadil.data.augment.resample import LARGEST_STEP, resampled

_JUMP_S = 0.01
"""Least mean jump of a splice: about one period of a low voice."""

_SEARCH_S = 0.008
"""A splice may move this far in either direction to where the waveforms match: in all a period of 62 Hz."""

_OVERLAP_S = 0.008  # of the cross-fade, and of the waveforms that are compared
_SPACING_S = 0.06  # least distance of splices


def stretched_length(n_samples: int, rate: float) -> int:
    """Number of samples that `change_speed` and `change_tempo` make of `n_samples` at `rate` times the speed."""
    return max(1, round(n_samples / rate)) if n_samples else 0


def change_speed(samples: np.ndarray, rate: float) -> np.ndarray:
    """Play at `rate` times the speed, which changes the pitch too: 0.9 is slower, lower and longer."""
    return _at_speed(samples, rate, stretched_length(len(samples), rate))


def change_tempo(samples: np.ndarray, sample_rate: int, rate: float) -> np.ndarray:
    """Play at `rate` times the speed with the same pitch: 0.9 is slower and longer. `rate` is from 0.5 to 2.

    Waveform-similarity overlap-add (WSOLA: Verhelst and Roelands 1993) with as few splices as needed. They are at fixed
    positions; each jumps about a pitch period forward (or back), to where the waveform continues most similarly. So 9 % of
    the frames of a clip at rate 1.1 are changed, and all positions are searched in one Fourier transform. Clips under about
    0.15 s have no room for splices and are resampled.
    """
    n, wanted = len(samples), stretched_length(len(samples), rate)
    skipped = n - wanted  # negative: to be repeated
    spacing = max(_JUMP_S * sample_rate * n / max(1, abs(skipped)), _SPACING_S * sample_rate)
    mean = spacing * abs(skipped) / max(1, n)
    overlap, search = round(_OVERLAP_S * sample_rate), round(_SEARCH_S * sample_rate)
    margin = round(mean) + 2 * search + overlap + 1
    if skipped == 0:
        return samples.copy()
    if n < 4 * margin or overlap < 2:
        return _at_speed(samples, rate, wanted)
    n_anchors = max(1, round((n - 2 * margin) / spacing))
    anchors = margin + ((np.arange(n_anchors) + 0.5) * (n - 2 * margin) / n_anchors).astype(np.int64)
    jumps = _jumps(samples, anchors, skipped, overlap, search)
    return _spliced(samples, anchors, jumps, overlap, wanted)


def change_pitch(samples: np.ndarray, sample_rate: int, semitones: float) -> np.ndarray:
    """Shift the pitch by `semitones` (-12 to 12), and the formants with it; the length stays."""
    ratio = 2 ** (semitones / 12)
    return _at_speed(change_tempo(samples, sample_rate, 1 / ratio), ratio, len(samples))


def _at_speed(samples: np.ndarray, rate: float, n_samples: int) -> np.ndarray:
    """The first `n_samples` samples at `rate` times the speed."""
    if len(samples) == 0:
        return samples.copy()
    hundredths = round(100 * rate)
    if math.isclose(hundredths, 100 * rate, rel_tol=1e-9):  # as the chain draws rates
        return resampled(samples, hundredths, 100, n_samples)
    ratio = Fraction(rate).limit_denominator(LARGEST_STEP)
    if not math.isclose(ratio, rate, rel_tol=1e-9):  # any other rate: for soxr
        ratio = Fraction(len(samples), n_samples)
    return resampled(samples, ratio.numerator, ratio.denominator, n_samples)


def _jumps(samples: np.ndarray, anchors: np.ndarray, skipped: int, overlap: int, search: int) -> np.ndarray:
    """Samples to jump at each anchor, (anchors,), `skipped` in total.

    The error of each jump is corrected by the next one; the last jump makes the total exact.
    """
    direction = 1 if skipped > 0 else -1
    mean = abs(skipped) / len(anchors)
    least, most = max(1, round(mean) - 2 * search), round(mean) + 2 * search
    differences = _differences(samples, anchors, direction, least, most, overlap)
    jumps = np.zeros(len(anchors), dtype=np.int64)
    done = 0
    for i, row in enumerate(differences[:-1]):
        centre = round((i + 1) * mean) - done
        low = max(least, centre - search)
        high = max(low, min(most, centre + search))
        jumps[i] = low + int(row[low - least : high - least + 1].argmin())
        done += int(jumps[i])
    jumps[-1] = abs(skipped) - done
    return direction * jumps


def _differences(
    samples: np.ndarray, anchors: np.ndarray, direction: int, least: int, most: int, overlap: int
) -> np.ndarray:
    """Squared difference, up to a constant per row, of the samples after an anchor and after each jump from it.

    (anchors, jumps): jumps of `least` to `most` samples in `direction`.
    """
    n_jumps = most - least + 1
    first = anchors + (least if direction > 0 else -most)
    after = samples[anchors[:, None] + np.arange(overlap)]
    region = samples[first[:, None] + np.arange(n_jumps + overlap - 1)]
    size = 1 << (n_jumps + overlap - 2).bit_length()
    products = circular_convolution(region, after, size, correlate=True)[:, :n_jumps]
    energy = np.zeros((len(region), region.shape[1] + 1), dtype=np.float32)
    np.cumsum(np.square(region), axis=1, out=energy[:, 1:])
    differences: np.ndarray = energy[:, overlap:] - energy[:, :-overlap] - 2 * products
    return differences if direction > 0 else differences[:, ::-1]


def _spliced(samples: np.ndarray, anchors: np.ndarray, jumps: np.ndarray, overlap: int, wanted: int) -> np.ndarray:
    ramp = (0.5 - 0.5 * np.cos(np.pi * (np.arange(overlap) + 0.5) / overlap)).astype(np.float32)
    landings = anchors + jumps
    faded = samples[anchors[:, None] + np.arange(overlap)]
    faded += ramp * (samples[landings[:, None] + np.arange(overlap)] - faded)
    out = np.empty(wanted, dtype=np.float32)
    read = written = 0
    for anchor, landing, fade in zip(anchors.tolist(), landings.tolist(), faded, strict=True):
        ahead = written + anchor - read
        out[written:ahead] = samples[read:anchor]
        out[ahead : ahead + overlap] = fade
        read, written = landing + overlap, ahead + overlap
    out[written:] = samples[read:]
    return out
