from __future__ import annotations

import base64
import io
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile

from anadil.data.augment.preview import write_preview
from anadil.data.augment.settings import AugmentSettings
from anadil.data.augment.spectrogram import LARGEST, log_spectrogram, png
from anadil.errors import AnadilError
from tests.support.lines import write_lines
from tests.support.signals import EXTREMES, RATE, sine

CHOSEN = AugmentSettings.model_validate({"speed": {"rate": 0.8}, "telephone": {}, "time_warp": {}, "spec_cutout": {}})
SHOWN = ["original", "speed", "telephone", "all", "time_warp", "spec_augment", "spec_cutout"]


@pytest.fixture
def manifest(write_wav: Callable[..., Path], tmp_path: Path) -> Path:
    for i in range(5):
        write_wav(f"{i}.wav", sine(500 + i, 1.0))
    write_wav("4.wav", 12.0, 48000)
    lines = [{"audio_filepath": f"{i}.wav", "text": f"<b>{i} & 'x'</b>"} for i in range(5)]
    return write_lines(tmp_path / "train.jsonl", lines)


def test_the_preview_is_one_file_with_audio_and_images(manifest: Path, tmp_path: Path) -> None:
    target = tmp_path / "out/preview.html"
    assert write_preview(manifest, target, CHOSEN, 2) == SHOWN
    page = target.read_text(encoding="utf-8")
    assert "http" not in page and "<script" not in page
    assert len(page) < 2e6
    found = re.findall(r"data:audio/flac;base64,([^\"]+)\"", page)
    sounds = [soundfile.read(io.BytesIO(base64.b64decode(one))) for one in found]
    pictures = [base64.b64decode(x) for x in re.findall(r"data:image/png;base64,([^\"]+)\"", page)]
    assert len(sounds) == 2 * 4 and len(pictures) == 2 * len(SHOWN)
    assert all(picture.startswith(b"\x89PNG") for picture in pictures)
    original, slower = sounds[0][0], sounds[1][0]
    np.testing.assert_allclose(original, sine(501, 1.0), atol=2**-14)  # examples are spread over the manifest
    assert len(slower) == round(len(original) / 0.8)
    assert "rate 0.8" in page


def test_text_is_escaped_and_long_recordings_are_cut(manifest: Path, tmp_path: Path) -> None:
    write_preview(manifest, tmp_path / "preview.html", CHOSEN, 9)
    page = (tmp_path / "preview.html").read_text(encoding="utf-8")
    assert page.count("<h2>") == 5
    assert "&lt;b&gt;3 &amp; &#x27;x&#x27;&lt;/b&gt;" in page and "<b>3" not in page
    assert "(10.00 s)" in page and "(12.00 s)" not in page


def test_the_preview_replaces_nothing_without_force(manifest: Path, tmp_path: Path) -> None:
    target = tmp_path / "preview.html"
    target.write_text("mine")
    with pytest.raises(AnadilError, match="exists already"):
        write_preview(manifest, target, CHOSEN, 1)
    assert target.read_text() == "mine"
    write_preview(manifest, target, CHOSEN, 1, force=True)
    assert "<html" in target.read_text(encoding="utf-8")


def test_a_spectrogram_shows_a_tone_at_its_height() -> None:
    for n_bands in (64, 160):
        picture = log_spectrogram(sine(2000), RATE, n_bands)
        assert picture.shape[0] == n_bands and picture.shape[1] <= LARGEST[0]
        assert set(picture[:, 5:-5].argmax(axis=0)) <= {n_bands // 4 - 1, n_bands // 4, n_bands // 4 + 1}
        assert picture.max() == 0 and picture.min() >= -80


def test_low_frequencies_are_at_the_bottom_of_the_image() -> None:
    image = pytest.importorskip("PIL.Image")
    low = np.full((10, 20), -80.0, dtype=np.float32)
    low[0] = 0
    pixels = np.asarray(image.open(io.BytesIO(png(low))).convert("L"))
    assert pixels.shape == (10, 20)
    assert pixels[9].min() > 200 and pixels[:9].max() < 20


@pytest.mark.parametrize("samples", [clip for clip in EXTREMES.values() if len(clip)])
def test_extremes_can_be_drawn(samples: np.ndarray) -> None:
    assert np.isfinite(log_spectrogram(samples, RATE)).all()
