"""Log-mel features as NeMo computes them, as one differentiable module from waveform to (mels, frames)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import numpy as np
import torch
from pydantic import BaseModel, Field, model_validator
from torch import Tensor, nn
from torch.nn import functional as F

from anadil.settings import SECTION, Real, Whole

_STD_GUARD = 1e-5
"""Added to standard deviations, as in NeMo."""

_LARGEST_BASIS = 2**25
"""Numbers in the matrix of cosines and sines: 0.1 s at 48 kHz, 0.3 s at 16 kHz."""

WINDOWS: dict[str, Callable[[int], np.ndarray]] = {
    "hann": np.hanning,
    "hann_periodic": lambda n: np.hanning(n + 1)[:-1],  # torch's default; NeMo's windows are symmetric
    "hamming": np.hamming,
    "blackman": np.blackman,
    "bartlett": np.bartlett,
    "ones": np.ones,
}


FeatureAugmentation = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]
"""Features (batch, mels, frames) and frame counts to augmented ones; may return several copies of the batch, concatenated."""


class FeatureSettings(BaseModel):
    """Section `features` of a config. Window and hop are in seconds, as in NeMo's preprocessor."""

    model_config = SECTION

    sample_rate: Whole = Field(16000, ge=4000, le=48000)
    window_size: Real = Field(0.02, gt=0, le=0.2)
    window_stride: Real = Field(0.01, gt=0, le=0.1)
    window: Literal["hann", "hann_periodic", "hamming", "blackman", "bartlett", "ones"] = "hann"
    n_fft: Whole | None = Field(None, ge=32, le=2**16)  # None: the next power of two
    mels: Whole = Field(64, ge=8, le=256)
    low_hz: Real = Field(0.0, ge=0, le=24_000)
    high_hz: Real | None = Field(None, gt=0, le=24_000)  # None: half the sample rate
    preemphasis: Real = Field(0.97, ge=0, lt=1)
    dither: Real = Field(1e-5, ge=0, le=1)  # standard deviation of noise, in training only
    normalize: Literal["per_feature", "all_features", "none"] = "per_feature"
    mel_norm: Literal["slaney", "none"] = "slaney"  # mel filters of equal area, or of equal height
    mel_edges: Literal["exact", "bins"] = "exact"  # bins: edges of filters rounded down to bins of the transform
    magnitude_power: Real = Field(2.0, gt=0, le=10)  # exponent of the magnitudes, before the mel filters
    log: bool = True
    log_guard: Real = Field(2.0**-24, gt=0, le=1)
    log_guard_type: Literal["add", "clamp"] = "add"
    frame_splicing: Whole = Field(1, ge=1, le=64)  # copies of each feature, stacked
    edges: Literal["zeros", "reflect"] = "zeros"  # reflect: the utterance mirrored at its ends, and one frame more
    exact_pad: bool = False  # the first frame begins at the utterance's start, instead of being centred there
    pad_to: Whole | None = Field(
        None, ge=0, le=4096
    )  # as in NeMo: keep the frame past the end, pad to a multiple; None: neither
    pad_value: Real = Field(0.0, ge=-1000, le=1000)  # of frames beyond an utterance

    @model_validator(mode="after")
    def _sizes_agree(self) -> FeatureSettings:
        if self.window_length > self.fft_size:
            raise ValueError(f"n_fft {self.fft_size} is shorter than the window of {self.window_length} samples")
        if self.fft_size * self.window_length > _LARGEST_BASIS:
            raise ValueError(f"window_size {self.window_size} s times n_fft {self.fft_size} takes gigabytes: lower one")
        if self.hop < 1:
            raise ValueError(f"window_stride {self.window_stride} s is shorter than one sample")
        if self.exact_pad and self.hop % 2:
            raise ValueError(f"exact_pad needs an even hop, found {self.hop} samples")
        if self.edges == "reflect" and (self.exact_pad or self.pad_to is not None):
            raise ValueError("edges: reflect needs exact_pad: false and pad_to: null")
        if self.high_hz is not None and self.high_hz > self.sample_rate / 2:
            raise ValueError(f"high_hz {self.high_hz} is above half the sample rate of {self.sample_rate}")
        if self.low_hz >= (self.high_hz or self.sample_rate / 2):
            raise ValueError(f"low_hz {self.low_hz} is not below high_hz {self.high_hz or self.sample_rate / 2}")
        return self

    @property
    def hop(self) -> int:
        """Samples from one frame to the next."""
        return int(self.window_stride * self.sample_rate)  # truncated, as in NeMo

    @property
    def window_length(self) -> int:
        """Samples in a window."""
        return int(self.window_size * self.sample_rate)

    @property
    def fft_size(self) -> int:
        """Samples in a Fourier transform."""
        return self.n_fft or 1 << (self.window_length - 1).bit_length()

    @property
    def edge(self) -> int:
        """Zeros that are added before and after the utterance."""
        return (self.fft_size - self.hop) // 2 if self.exact_pad else self.fft_size // 2

    @property
    def width(self) -> int:
        """Features per frame: mel bands times their copies."""
        return self.mels * self.frame_splicing


class LogMel(nn.Module):
    """Waveforms (batch, samples) to normalised log-mel features (batch, mels, frames).

    The short-time Fourier transform is a convolution with windowed cosines and sines, because every ONNX runtime has
    convolutions. At 16 kHz this costs 33 MFLOP per second of audio. Training on a CPU uses the fast transform.
    """

    def __init__(self, settings: FeatureSettings) -> None:
        super().__init__()
        self.settings = settings
        # the window is centred in the transform; an odd window is one sample late, as in torch.stft
        self.left_pad = settings.edge - (settings.fft_size - settings.window_length) // 2
        self.right_pad = settings.window_length - self.left_pad + 2 * settings.edge - settings.fft_size
        self.register_buffer("basis", torch.from_numpy(_fourier_basis(settings)), persistent=False)
        self.register_buffer("mel", torch.from_numpy(mel_filterbank(settings)), persistent=False)
        self.basis: Tensor
        self.mel: Tensor

    @property
    def sample_rate(self) -> int:
        return self.settings.sample_rate

    @property
    def hop(self) -> int:
        """Samples from one frame to the next."""
        return self.settings.hop

    def frame_count(self, n_samples: int) -> int:
        """Frames for one utterance of `n_samples`."""
        beyond = 2 * self.settings.edge - self.settings.fft_size
        last = int(self.settings.edges == "reflect" and n_samples > 0)
        return max(0, n_samples + beyond) // self.settings.hop + last

    def forward(self, waveforms: Tensor, sample_counts: Tensor) -> tuple[Tensor, Tensor]:
        """Features (batch, mels, frames), zero beyond each utterance, and frame counts (batch,) int64."""
        if torch.is_autocast_enabled(waveforms.device.type):  # half precision cannot represent quiet bands
            with torch.autocast(waveforms.device.type, enabled=False):
                return self.forward(waveforms.float(), sample_counts)
        settings = self.settings
        kept = (sample_counts - settings.edge).clamp(min=0) if settings.exact_pad else sample_counts  # as NeMo masks
        mask = length_mask(kept, waveforms.shape[1])
        if self.training and settings.dither > 0:
            waveforms = waveforms + settings.dither * torch.randn_like(waveforms)
        previous = F.pad(waveforms, (1, 0))[:, :-1]
        emphasised = (waveforms - settings.preemphasis * previous) * mask
        log_mel = torch.matmul(self.mel, self._spectrum(emphasised, sample_counts))
        if settings.log:
            guard = settings.log_guard
            log_mel = torch.log(log_mel + guard if settings.log_guard_type == "add" else log_mel.clamp(min=guard))
        log_mel = log_mel.repeat(1, settings.frame_splicing, 1) if settings.frame_splicing > 1 else log_mel
        frame_counts = (sample_counts + 2 * settings.edge - settings.fft_size).clamp(min=0) // settings.hop
        if settings.edges == "reflect":
            frame_counts = frame_counts + (sample_counts > 0)
        return self._pad(self._normalize(log_mel, frame_counts), frame_counts), frame_counts

    def _spectrum(self, waveforms: Tensor, sample_counts: Tensor) -> Tensor:
        """Magnitudes (batch, bins, frames), raised to `magnitude_power`."""
        settings = self.settings
        if settings.edges == "reflect":
            padded = self._reflect(waveforms, sample_counts)
        else:
            padded = F.pad(waveforms, (self.left_pad, self.right_pad))
        power = self._power_by_fft(padded) if self.training and padded.device.type == "cpu" else self._power(padded)
        if settings.pad_to is None and settings.edges == "zeros":
            power = power[:, :, :-1]  # the last frame is past the end
        return power if settings.magnitude_power == 2 else power ** (settings.magnitude_power / 2)

    def _reflect(self, waveforms: Tensor, sample_counts: Tensor) -> Tensor:
        """Waveforms with each utterance mirrored at its first and last sample, as torch.stft does with a single one."""
        index = torch.arange(-self.left_pad, waveforms.shape[1] + self.right_pad, device=waveforms.device).abs()
        last = (sample_counts - 1).unsqueeze(1)
        return waveforms.gather(1, (last - (last - index).abs()).clamp(min=0))

    def _power(self, padded: Tensor) -> Tensor:
        """Power spectrum (batch, bins, frames)."""
        spectrum = F.conv1d(padded.unsqueeze(1), self.basis, stride=self.settings.hop)
        cosine, sine = spectrum.chunk(2, dim=1)
        return cosine.square() + sine.square()

    def _power_by_fft(self, padded: Tensor) -> Tensor:
        """The same as `_power`, in a third of the time on a CPU, where features take a tenth of a training step."""
        size = self.settings.fft_size
        window = F.pad(self.basis[0, 0], (0, size - self.settings.window_length))  # the cosine of frequency 0 is 1
        padded = F.pad(padded, (0, size - self.settings.window_length))
        parts = torch.view_as_real(torch.fft.rfft(padded.unfold(1, size, self.settings.hop) * window))
        power: Tensor = torch.add(*parts.square_().unbind(3))
        return power.transpose(1, 2)

    def _pad(self, features: Tensor, frame_counts: Tensor) -> Tensor:
        """Pads as NeMo does: some of its models read frames beyond an utterance, and were trained with this padding."""
        settings = self.settings
        if settings.pad_value:
            padding = ~length_mask(frame_counts, features.shape[2]).unsqueeze(1)
            features = features.masked_fill(padding, settings.pad_value)
        if not settings.pad_to:
            return features
        missing = (settings.pad_to - features.shape[2] % settings.pad_to) % settings.pad_to
        return F.pad(features, (0, missing), value=settings.pad_value)

    def _normalize(self, features: Tensor, frame_counts: Tensor) -> Tensor:
        mask = length_mask(frame_counts, features.shape[2]).unsqueeze(1).to(features.dtype)
        if self.settings.normalize == "none":
            return features * mask
        # The mean of a constant row would have a rounding error, which the division by std would blow up to any size: the
        # log-probs of digital silence then differed by 13 between a batch and alone. Less its first frame it is exactly 0.
        features = features - (features[:, :, :1] if self.settings.normalize == "per_feature" else features[:, :1, :1])
        axes = 2 if self.settings.normalize == "per_feature" else (1, 2)
        per_frame = 1 if self.settings.normalize == "per_feature" else features.shape[1]
        n = (frame_counts * per_frame).view(-1, 1, 1).to(features.dtype)
        mean = (features * mask).sum(axes, keepdim=True) / n.clamp(min=1)
        centred = (features - mean) * mask
        std = (centred.square().sum(axes, keepdim=True) / (n - 1).clamp(min=1)).sqrt()
        return centred / (std + _STD_GUARD)


def length_mask(counts: Tensor, size: int) -> Tensor:
    """Boolean mask (batch, size), true where the index is below the count; `counts` is (batch,)."""
    return torch.arange(size, device=counts.device).unsqueeze(0) < counts.unsqueeze(1)


def mel_filterbank(settings: FeatureSettings) -> np.ndarray:
    """Triangular filters (mels, bins) on Slaney's mel scale, of unit area unless `mel_norm` is none, float32.

    Slaney, Auditory Toolbox (1998): linear below 1 kHz (200/3 Hz per mel), logarithmic above (27 mels to 6.4 kHz).
    """
    low, high = settings.low_hz, settings.high_hz or settings.sample_rate / 2
    edges = _mel_to_hz(np.linspace(_hz_to_mel(low), _hz_to_mel(high), settings.mels + 2))
    bins = np.linspace(0, settings.sample_rate / 2, settings.fft_size // 2 + 1)
    left, centre, right = edges[:-2], edges[1:-1], edges[2:]
    if settings.mel_edges == "bins":  # as many write it: floor((n_fft + 1) * hz / rate), each side at least one bin
        bins, edges_in_bins = (
            np.arange(0.0, len(bins)),
            np.floor((settings.fft_size + 1) * edges / settings.sample_rate),
        )
        left = edges_in_bins[:-2]
        centre = np.maximum(edges_in_bins[1:-1], left + 1)
        right = np.maximum(edges_in_bins[2:], centre + 1)
    rising = (bins - left[:, None]) / (centre - left)[:, None]
    falling = (right[:, None] - bins) / (right - centre)[:, None]
    area = (2 / (edges[2:] - edges[:-2]))[:, None] if settings.mel_norm == "slaney" else 1.0
    filters: np.ndarray = np.maximum(0, np.minimum(rising, falling)) * area
    return filters.astype(np.float32)


_MEL_STEP = np.log(6.4) / 27
_BREAK_HZ, _HZ_PER_MEL = 1000.0, 200.0 / 3


def _hz_to_mel(hz: float) -> float:
    if hz < _BREAK_HZ:
        return hz / _HZ_PER_MEL
    return float(_BREAK_HZ / _HZ_PER_MEL + np.log(hz / _BREAK_HZ) / _MEL_STEP)


def _mel_to_hz(mel: np.ndarray) -> np.ndarray:
    above = mel - _BREAK_HZ / _HZ_PER_MEL
    return np.where(above < 0, mel * _HZ_PER_MEL, _BREAK_HZ * np.exp(_MEL_STEP * np.maximum(above, 0)))


def _fourier_basis(settings: FeatureSettings) -> np.ndarray:
    """Windowed cosines followed by sines: (2 * bins, 1, window) float32."""
    n = settings.window_length
    window = WINDOWS[settings.window](n)  # symmetric, as NeMo's periodic=False
    bins = np.arange(settings.fft_size // 2 + 1)
    angle = 2 * np.pi * bins[:, None] * np.arange(n)[None, :] / settings.fft_size
    basis: np.ndarray = np.concatenate([np.cos(angle), np.sin(angle)]) * window
    return basis[:, None, :].astype(np.float32)
