from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from torch import Tensor

from anadil.models.features import WINDOWS, FeatureSettings, LogMel, mel_filterbank

GOLDEN = "reference/nemo/quartznet_char/expected.npz"


def features_of(settings: FeatureSettings, waveform: Tensor) -> Tensor:
    features: Tensor
    features, _ = LogMel(settings).eval()(waveform[None], torch.tensor([len(waveform)]))
    return features[0]


def by_torch_stft(s: FeatureSettings, waveform: Tensor) -> Tensor:
    """NeMo's FilterbankFeatures, step by step, of one utterance (samples,)."""
    emphasised = torch.cat([waveform[:1], waveform[1:] - s.preemphasis * waveform[:-1]])
    window = torch.from_numpy(WINDOWS[s.window](s.window_length)).float()
    spectrum = torch.stft(
        emphasised, s.fft_size, s.hop, s.window_length, window, center=True, pad_mode="constant", return_complex=True
    )
    log_mel = torch.log(torch.from_numpy(mel_filterbank(s)) @ spectrum.abs().square() + 2**-24)
    log_mel = log_mel[:, : len(waveform) // s.hop]
    return (log_mel - log_mel.mean(1, keepdim=True)) / (log_mel.std(1, keepdim=True) + 1e-5)


def test_features_are_nemos(shared: Path) -> None:
    golden = np.load(shared / GOLDEN)
    audio, counts = torch.from_numpy(golden["audio"]), torch.from_numpy(golden["audio_lengths"])
    features, frame_counts = LogMel(FeatureSettings(dither=0.0)).eval()(audio, counts)
    assert frame_counts.tolist() == golden["feature_lengths"].tolist()
    assert frame_counts.tolist() == [LogMel(FeatureSettings()).frame_count(n) for n in counts.tolist()]
    for row, expected, n in zip(features.numpy(), golden["features"], frame_counts.tolist(), strict=True):
        np.testing.assert_allclose(row[:, :n], expected[:, :n], atol=1e-3)


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"window": "hamming", "window_size": 0.025, "n_fft": 400},  # the window fills the transform
        {"window": "blackman", "window_size": 0.02006},  # 321 samples of 512
        {"window": "hann", "window_size": 0.02006, "n_fft": 400},
        {"sample_rate": 8000, "mels": 40, "window": "hamming", "window_size": 0.025},
        {"sample_rate": 8000, "mels": 40, "window_size": 0.0251, "n_fft": 400},  # 201 samples
        {"sample_rate": 22050},  # 441 samples, hop 220
        {"sample_rate": 22050, "window": "ones", "window_size": 0.0232, "preemphasis": 0.0},
        {"sample_rate": 16000, "low_hz": 60.0, "high_hz": 7000.0, "mels": 80},
    ],
    ids=str,
)
def test_the_convolution_is_torch_stft(settings: dict[str, float | str]) -> None:
    s = FeatureSettings.model_validate(settings)
    waveform = torch.randn(s.sample_rate // 2 + 77, generator=torch.Generator().manual_seed(0)) / 10
    expected = by_torch_stft(s, waveform)
    torch.testing.assert_close(features_of(s, waveform), expected, atol=1e-3, rtol=0)


@pytest.mark.parametrize(("n_samples", "n_fft"), [(255, 256), (256, 256), (257, 512), (320, 512)])
def test_the_transform_is_the_next_power_of_two(n_samples: int, n_fft: int) -> None:
    assert FeatureSettings(window_size=n_samples / 16000).fft_size == n_fft


def test_a_filter_weighs_each_frequency_by_its_distance_from_the_centre() -> None:
    filters = mel_filterbank(FeatureSettings(mels=8, high_hz=600.0, n_fft=16000, sample_rate=16000))  # a bin a hertz
    assert filters.argmax(axis=1).tolist() == pytest.approx(np.arange(1, 9) * 600 / 9, abs=0.5)  # linear below 1 kHz
    assert filters.sum(axis=1) == pytest.approx([1] * 8, rel=1e-3)  # unit area
    wide = mel_filterbank(FeatureSettings(n_fft=16000, mels=16))
    assert wide[-1].argmax() == pytest.approx(8000 * 6.4 ** -((15 + np.log(8) / np.log(6.4) * 27) / 17 / 27), abs=1)


@pytest.mark.parametrize("normalize", ["per_feature", "all_features", "none"])
def test_padding_and_batch_change_nothing(normalize: str) -> None:
    generator = torch.Generator().manual_seed(0)
    log_mel = LogMel(FeatureSettings.model_validate({"normalize": normalize, "window_size": 0.04, "dither": 0})).train()
    counts = torch.tensor([8000, 3333, 160, 0])  # the last windows reach beyond the utterance
    batch = torch.randn(4, 8000, generator=generator) / 10  # padding is noise, not zeros
    features, frame_counts = log_mel(batch, counts)
    assert frame_counts.tolist() == [50, 20, 1, 0]
    for row, waveform, n, n_frames in zip(features, batch, counts.tolist(), frame_counts.tolist(), strict=True):
        assert not row[:, n_frames:].any()
        if n_frames:
            alone, _ = log_mel(waveform[None, :n], torch.tensor([n]))
            torch.testing.assert_close(row[:, :n_frames], alone[0], atol=1e-5, rtol=0)


def test_normalised_features_have_mean_0_and_deviation_1() -> None:
    waveform = torch.randn(16000, generator=torch.Generator().manual_seed(0))
    per_feature = features_of(FeatureSettings(), waveform)
    torch.testing.assert_close(per_feature.mean(1), torch.zeros(64), atol=1e-5, rtol=0)
    torch.testing.assert_close(per_feature.std(1), torch.ones(64), atol=1e-4, rtol=0)
    overall = features_of(FeatureSettings(normalize="all_features"), waveform)
    assert (overall.mean().item(), overall.std().item()) == pytest.approx((0, 1), abs=1e-4)
    assert overall.mean(1).abs().max() > 0.5


@pytest.mark.parametrize(("training", "dither", "same"), [(True, 1e-3, False), (False, 1e-3, True), (True, 0.0, True)])
def test_dither_is_for_training(training: bool, dither: float, same: bool) -> None:
    log_mel = LogMel(FeatureSettings(dither=dither)).train(training)
    waveform, counts = torch.zeros(1, 1600), torch.tensor([1600])
    assert torch.equal(log_mel(waveform, counts)[0], log_mel(waveform, counts)[0]) == same


@pytest.mark.parametrize(
    "waveform", [torch.zeros(16000), torch.ones(16000), torch.rand(160)], ids=["0", "1", "1 frame"]
)
@pytest.mark.parametrize("normalize", ["per_feature", "all_features", "none"])
def test_silence_and_one_frame_are_finite(waveform: Tensor, normalize: str) -> None:
    features = features_of(FeatureSettings.model_validate({"normalize": normalize}), waveform)
    assert features.shape == (64, len(waveform) // 160)
    assert bool(features.isfinite().all())
    assert features.abs().max() < 25


def test_half_precision_training_computes_features_in_full() -> None:
    waveform = torch.randn(1600, generator=torch.Generator().manual_seed(0))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        mixed = features_of(FeatureSettings(), waveform)
    assert mixed.dtype == torch.float32
    torch.testing.assert_close(mixed, features_of(FeatureSettings(), waveform))


@pytest.mark.parametrize(
    ("settings", "what"),
    [
        ({"n_fft": 256}, "n_fft 256 is shorter than the window of 320 samples"),
        ({"window_stride": 0.00001}, "shorter than one sample"),
        ({"low_hz": 8000}, "low_hz 8000.0 is not below high_hz 8000.0"),
        ({"high_hz": 8001}, "high_hz"),  # bands above half the sample rate
    ],
)
def test_sizes_that_do_not_agree_are_refused(settings: dict[str, float], what: str) -> None:
    with pytest.raises(ValidationError, match=what):
        FeatureSettings.model_validate(settings)


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"sample_rate": 8000, "mels": 40, "window_size": 0.0251, "n_fft": 400, "pad_to": 16},  # 201 samples
        {"window": "hamming", "magnitude_power": 1.0, "exact_pad": True},
        {"window": "hann_periodic", "edges": "reflect", "normalize": "none"},
    ],
    ids=str,
)
def test_training_features_equal_those_of_the_exported_graph(settings: dict[str, float | str]) -> None:
    log_mel = LogMel(FeatureSettings.model_validate(settings | {"dither": 0.0}))
    waveforms, counts = 0.1 * torch.randn(3, 9000), torch.tensor([9000, 5000, 300])
    wanted, wanted_counts = log_mel.eval()(waveforms, counts)
    features, frame_counts = log_mel.train()(waveforms, counts)
    assert frame_counts.tolist() == wanted_counts.tolist()
    assert features.shape == wanted.shape and features.is_contiguous()
    torch.testing.assert_close(features, wanted, atol=1e-3, rtol=0)


def test_mirrored_edges_are_those_of_torch_stft() -> None:
    s = FeatureSettings(window="hann_periodic", window_size=0.02, n_fft=512, edges="reflect", preemphasis=0, log=False,
                        normalize="none", magnitude_power=1)  # fmt: skip
    counts = [8000, 8159, 8160, 300]
    waveforms = torch.randn(len(counts), max(counts), generator=torch.Generator().manual_seed(0))
    features, frame_counts = LogMel(s).eval()(waveforms, torch.tensor(counts))  # the padding is noise
    for row, waveform, n, n_frames in zip(features, waveforms, counts, frame_counts.tolist(), strict=True):
        window = torch.hann_window(320)
        spectrum = torch.stft(waveform[:n], 512, 160, 320, window, pad_mode="reflect", return_complex=True).abs()
        assert spectrum.shape[1] == n_frames == LogMel(s).frame_count(n) == n // 160 + 1
        expected = torch.from_numpy(mel_filterbank(s)) @ spectrum
        torch.testing.assert_close(row[:, :n_frames], expected, atol=1e-4, rtol=1e-4)
    assert LogMel(s).frame_count(0) == int(LogMel(s)(waveforms[:1], torch.tensor([0]))[1]) == 0
    for other in ({"exact_pad": True}, {"pad_to": 0}):
        with pytest.raises(ValidationError, match="edges: reflect needs exact_pad: false and pad_to: null"):
            FeatureSettings.model_validate({"edges": "reflect"} | other)


def test_filters_with_edges_in_bins_are_never_empty() -> None:
    s = FeatureSettings(n_fft=400, mels=80, low_hz=40.0, high_hz=7600.0, mel_edges="bins", mel_norm="none")
    filters = mel_filterbank(s)
    # 40 Hz is at 401 * 40 / 16000 = 1.0025 bins, the next edges at 1.9, 2.8, 3.7; the last at 190.475
    assert [row.nonzero()[0].tolist() for row in filters[:3]] == [[2], [2], [3]]
    assert filters[-1].nonzero()[0].tolist() == list(range(177, 190))
    assert filters.max(axis=1).tolist() == [1.0] * 80
