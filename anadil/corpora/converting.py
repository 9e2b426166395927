"""Recordings to 16 kHz mono WAV, in blocks: an hour of stereo at 48 kHz would take 1.4 GB at once."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import soundfile
import soxr

from anadil import audio
from anadil.errors import AnadilError
from anadil.files import whole_file

SAMPLE_RATE = 16000  # Hz
BLOCK = 2**20  # samples of each channel


def convert_to_wav(source: Path, target: Path) -> None:
    """Write `source` as 16 kHz mono 16-bit WAV; channels are averaged. Raises AnadilError if it is no audio."""
    audio.probe(source)
    try:
        with (
            whole_file(target) as beside,
            soundfile.SoundFile(str(source)) as file,
            soundfile.SoundFile(str(beside), "w", SAMPLE_RATE, 1, "PCM_16", format="WAV") as out,
        ):
            stream = soxr.ResampleStream(file.samplerate, SAMPLE_RATE, 1, dtype="float32", quality="HQ")
            while True:
                block = file.read(BLOCK, dtype="float32", always_2d=True)
                if not np.isfinite(block).all():
                    raise AnadilError(f"audio holds values that are no numbers (NaN or infinity): {source}")
                last = len(block) < BLOCK
                mono = np.ascontiguousarray(block.mean(axis=1))
                out.write(np.clip(stream.resample_chunk(mono, last=last), -1.0, 1.0))
                if last:
                    break
    except (soundfile.LibsndfileError, RuntimeError) as error:
        raise AnadilError(f"could not be converted: {source} ({error})") from error


def wav_names(paths: Sequence[str], folder: Path) -> dict[str, Path]:
    """A file of its own in `folder` for each recording; the folders they were in are kept from where they part."""
    absolute = {path: Path(os.path.abspath(path)) for path in paths}
    shared = os.path.commonpath([path.parent for path in absolute.values()]) if paths else ""
    names = {path: whole.relative_to(shared).with_suffix("") for path, whole in absolute.items()}
    times = Counter(names.values())
    return {
        path: folder / (f"{name}.wav" if times[name] == 1 else f"{absolute[path].relative_to(shared)}.wav")
        for path, name in names.items()
    }
