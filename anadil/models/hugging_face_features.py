"""What wav2vec 2.0, HuBERT and w2v-BERT 2.0 hear: the waveform itself, or Kaldi's log-mel features; padding never counts."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from anadil.models.features import length_mask
from anadil.models.hugging_face_settings import W2vBertSettings, Wav2Vec2Settings

GUARD = 1e-7
"""Added to variances."""

WINDOW, HOP, N_FFT = 400, 160, 512  # samples
PREEMPHASIS, LOW_HZ, MEL_FLOOR = 0.97, 20.0, 1.192092955078125e-07
SCALE = 2.0**15
"""Kaldi counts in 16-bit integers."""


class Waveform(nn.Module):
    """Waveforms (batch, samples) to the same as features (batch, 1, samples), of mean 0 and variance 1 if asked for."""

    hop = 1  # samples from one frame of features to the next

    def __init__(self, settings: Wav2Vec2Settings) -> None:
        super().__init__()
        self.sample_rate, self.normalize = settings.sample_rate, settings.do_normalize

    def frame_count(self, n_samples: int) -> int:
        return n_samples

    def forward(self, waveforms: Tensor, sample_counts: Tensor) -> tuple[Tensor, Tensor]:
        """Features, zero beyond each utterance, and their counts, which are those of the samples."""
        features = waveforms.float().unsqueeze(1)
        if self.normalize:
            features = _normalized(features, sample_counts, correction=0)
        return features * _mask(features, sample_counts), sample_counts


class FilterBank(nn.Module):
    """Waveforms (batch, samples) to Kaldi's log-mel features, `stride` frames side by side: (batch, stride * mels, frames).

    Per frame Kaldi takes the mean away, emphasises, windows (Povey's, which is 0 at the first sample) and transforms: all of it
    linear, and so one convolution, as in LogMel.
    """

    def __init__(self, settings: W2vBertSettings) -> None:
        super().__init__()
        self.sample_rate, self.stride = settings.sample_rate, settings.feature_stride
        basis, mel = _kaldi_basis(), _kaldi_mel_filters(settings.num_mel_bins, self.sample_rate)
        self.register_buffer("basis", torch.from_numpy(basis), persistent=False)
        self.register_buffer("mel", torch.from_numpy(mel), persistent=False)
        self.basis: Tensor
        self.mel: Tensor

    @property
    def hop(self) -> int:
        return HOP * self.stride

    def frame_count(self, n_samples: int) -> int:
        return max(0, n_samples - WINDOW + HOP) // HOP // self.stride

    def forward(self, waveforms: Tensor, sample_counts: Tensor) -> tuple[Tensor, Tensor]:
        """Features, zero beyond each utterance, and frame counts (batch,) int64."""
        with torch.autocast(waveforms.device.type, enabled=False):  # half precision would drown quiet bands
            spectrum = F.conv1d(waveforms.float().unsqueeze(1), self.basis, stride=HOP)
            cosine, sine = spectrum.chunk(2, dim=1)
            log_mel = torch.matmul(self.mel, cosine.square() + sine.square()).clamp(min=MEL_FLOOR).log()
            counts = (sample_counts - WINDOW + HOP).clamp(min=0) // HOP
            log_mel = _normalized(log_mel, counts, correction=1)
        batch, mels, frames = log_mel.shape
        pairs = log_mel[:, :, : frames // self.stride * self.stride].transpose(1, 2)
        features = pairs.reshape(batch, -1, mels * self.stride).transpose(1, 2)
        counts = counts // self.stride
        return features * _mask(features, counts), counts


def _mask(features: Tensor, counts: Tensor) -> Tensor:
    return length_mask(counts, features.shape[2]).unsqueeze(1).to(features.dtype)


def _normalized(features: Tensor, counts: Tensor, correction: int) -> Tensor:
    """Each row of (batch, rows, frames) to mean 0 and variance 1 over the frames of its utterance."""
    mask = _mask(features, counts)
    n = counts.view(-1, 1, 1).to(features.dtype)
    mean = (features * mask).sum(dim=2, keepdim=True) / n.clamp(min=1)
    centred = (features - mean) * mask
    variance = centred.square().sum(dim=2, keepdim=True) / (n - correction).clamp(min=1)
    return centred / (variance + GUARD).sqrt()


def _kaldi_basis() -> np.ndarray:
    """Cosines, then sines, of a frame without its mean, emphasised and windowed: (2 * bins, 1, window) float32."""
    angle = 2 * np.pi * np.arange(N_FFT // 2 + 1)[:, None] * np.arange(WINDOW)[None, :] / N_FFT
    centre = np.eye(WINDOW) - 1 / WINDOW
    emphasis = np.eye(WINDOW) - PREEMPHASIS * np.eye(WINDOW, k=-1)
    povey = np.hanning(WINDOW) ** 0.85
    basis: np.ndarray = SCALE * np.concatenate([np.cos(angle), np.sin(angle)]) * povey @ emphasis @ centre
    return basis[:, None, :].astype(np.float32)


def _kaldi_mel_filters(mels: int, sample_rate: int) -> np.ndarray:
    """Triangles of height 1 on the mel axis 1127 ln(1 + f / 700), not on that of frequency: (mels, bins) float32."""

    def mel(hz: np.ndarray | float) -> np.ndarray:
        return np.asarray(1127.0 * np.log1p(np.asarray(hz) / 700.0))

    edges = np.linspace(mel(LOW_HZ), mel(sample_rate / 2), mels + 2)
    bins = mel(np.arange(N_FFT // 2 + 1) * sample_rate / N_FFT)
    rising = (bins - edges[:-2, None]) / np.diff(edges)[:-1, None]
    falling = (edges[2:, None] - bins) / np.diff(edges)[1:, None]
    filters: np.ndarray = np.maximum(0, np.minimum(rising, falling))
    return filters.astype(np.float32)
